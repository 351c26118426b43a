"""Parts of a message that travel as files: what is to be uploaded, read from the client's words. Pure.

Formats and sizes: gigachat v1 `POST /files`: images up to 15 MB, audio up to 35 MB, documents up to 40 MB.
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, NoReturn

from xrouter.core.errors import Invalid

Kind = Literal["image", "audio", "document"]

_MB: Final = 1024 * 1024
LARGEST: Final[Mapping[Kind, int]] = {"image": 15 * _MB, "audio": 35 * _MB, "document": 40 * _MB}
MAX_IMAGES: Final = 10
PARTS: Final = frozenset({"image_url", "file", "input_audio"})

_IMAGES: Final = {"image/jpeg": "jpg", "image/png": "png", "image/tiff": "tiff", "image/bmp": "bmp"}
_AUDIO: Final = {"audio/mpeg": "mp3", "audio/wav": "wav"}
_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_DOCUMENTS: Final = {
    "text/plain": "txt",
    "application/pdf": "pdf",
    "application/msword": "doc",
    f"{_OFFICE}.wordprocessingml.document": "docx",
    "application/epub+zip": "epub",
    "application/epub": "epub",
    "application/vnd.ms-powerpoint": "ppt",
    f"{_OFFICE}.presentationml.presentation": "pptx",
}
_OTHER_NAMES: Final = {"image/jpg": "image/jpeg", "audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}
_FORMATS: Final[Mapping[Kind, Mapping[str, str]]] = {
    "image": _IMAGES,
    "audio": _AUDIO,
    "document": {**_DOCUMENTS, **_IMAGES, **_AUDIO},
}
_DATA_URL: Final = re.compile(r"data:([^;,]{0,200})((?:;[^;,]{0,200}){0,8}),", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Upload:
    """A file to be: its bytes, or the `url` to fetch them from. `source` is the client's own text for it, `param` its
    place. `mime` is empty for a URL whose server has yet to say it."""

    source: str
    param: str
    kind: Kind
    mime: str
    data: bytes = b""
    url: str = ""


def read_part(part: Mapping[str, Any], param: str) -> Upload:
    """A part of type `image_url`, `file` or `input_audio`. Raises `Invalid`."""
    match part.get("type"):
        case "image_url":
            return _located("image", _inside(part, "image_url", param).get("url"), "", f"{param}.image_url.url")
        case "file":
            file = _inside(part, "file", param)
            if "file_data" not in file:
                _refuse(f"{param}.file", "give the file itself in `file_data`: there are no stored files here")
            named = str(file.get("filename") or "").rpartition(".")[2].lower()
            guess = next((mime for mime, name in _FORMATS["document"].items() if name == named), "")
            return _located("document", file["file_data"], guess, f"{param}.file.file_data")
        case _:
            audio = _inside(part, "input_audio", param)
            mime = next((mime for mime, name in _AUDIO.items() if name == audio.get("format")), "")
            if not mime:
                _refuse(f"{param}.input_audio.format", "must be wav or mp3")
            place = f"{param}.input_audio.data"
            text = audio.get("data")
            if not isinstance(text, str):
                _refuse(place, "must be a string")
            return checked(Upload(text, place, "audio", mime, _decoded(text, place)))


def checked(upload: Upload) -> Upload:
    """The same, once its bytes and type are known. Raises `Invalid` for what the vendor does not take."""
    mime = upload.mime.strip().lower()
    mime = _OTHER_NAMES.get(mime, mime)
    formats = _FORMATS[upload.kind]
    if mime not in formats:
        known = ", ".join(dict.fromkeys(formats.values()))
        _refuse(upload.param, f"is of type {mime[:100] or 'unknown'}; GigaChat takes {known}")
    if not upload.data:
        _refuse(upload.param, "is empty")
    if len(upload.data) > LARGEST[upload.kind]:
        _refuse(upload.param, f"is larger than {LARGEST[upload.kind] // _MB} MB")
    return Upload(upload.source, upload.param, upload.kind, mime, upload.data, upload.url)


def is_image(upload: Upload) -> bool:
    return upload.kind == "image" or upload.mime in _IMAGES


def multipart(upload: Upload, boundary: str) -> bytes:
    """The body of `POST /files` (RFC 7578). The client's name of the file does not leave: it may name a person."""
    name = f"file.{_FORMATS['document'][upload.mime]}"
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\ngeneral\r\n'
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        f"Content-Type: {upload.mime}\r\n\r\n"
    )
    return b"".join((head.encode(), upload.data, f"\r\n--{boundary}--\r\n".encode()))


def _located(kind: Kind, text: Any, guess: str, param: str) -> Upload:
    """What a text holds (a data URL, or base64 of the guessed type), or where it lies (https)."""
    if not isinstance(text, str) or not text:
        _refuse(param, "must be a data URL or an https URL")
    if text[:8].lower().startswith(("https://", "http://")):
        return Upload(text, param, kind, "", url=text)
    found = _DATA_URL.match(text)
    if found is None:
        if kind == "image":
            _refuse(param, "must be a data URL or an https URL")
        return checked(Upload(text, param, kind, guess, _decoded(text, param)))
    if ";base64" not in found[2].lower():
        _refuse(param, "a data URL must hold base64")
    return checked(Upload(text, param, kind, found[1] or guess, _decoded(text[found.end() :], param)))


def _decoded(text: str, param: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        _refuse(param, "is no base64")


def _inside(part: Mapping[str, Any], name: str, param: str) -> Mapping[str, Any]:
    found = part.get(name)
    if not isinstance(found, dict):
        _refuse(f"{param}.{name}", "must be an object")
    return found


def _refuse(param: str, why: str) -> NoReturn:
    raise Invalid(f"{param}: {why}.", param=param)
