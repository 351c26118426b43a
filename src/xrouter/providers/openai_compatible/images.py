"""`/images/generations`: a prompt out, pictures back.

Source: https://platform.openai.com/docs/api-reference/images/create
"""

from typing import Any, Final

import msgspec
from msgspec import Raw

from xrouter.core.images import Image, Images, ImagesRequest

from .embeddings import take_known, unpacked
from .rows import Row, fits
from .usage import read_picture_usage

_FIELDS = frozenset({"background", "moderation", "output_compression", "output_format", "quality", "style", "user"})
_NULL = Raw(b"null")
# How files of each type begin, which says more than what a server says about them.
_BEGINNINGS: Final = {
    b"\x89PNG": "image/png",
    b"\xff\xd8\xff": "image/jpeg",
    b"RIFF": "image/webp",
    b"GIF8": "image/gif",
}


class _Picture(msgspec.Struct):
    b64_json: str | None = None
    revised_prompt: str | None = None


class _Body(msgspec.Struct):
    data: list[_Picture]
    output_format: Any = None
    usage: Raw = _NULL


_as_body = msgspec.json.Decoder(_Body).decode


def images_request(request: ImagesRequest, model: str, row: Row) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the names of what was left out."""
    fields: dict[str, Any] = {"model": model.removeprefix(row.model_prefix), "prompt": request.prompt, "n": request.n}
    if request.size is not None:
        fields["size"] = request.size
    if not fits(model, row.plain_images):
        fields["response_format"] = "b64_json"
    given = {name: raw for name, raw in request.fields.items() if name != "response_format"}
    dropped = take_known(given, fields, _FIELDS, row)
    return msgspec.json.encode(fields), dropped


def read_images(body: bytes) -> Images:
    """The pictures. Raises ValueError where there is none, or one is not in the answer itself."""
    found = _as_body(body)
    if not found.data:
        raise ValueError("no picture")
    pictures = []
    for picture in found.data:
        if not picture.b64_json:
            raise ValueError("a picture that is elsewhere, though it was asked for in base64")
        pictures.append(Image(picture.b64_json, _mime(picture.b64_json, found.output_format), picture.revised_prompt))
    return Images(tuple(pictures), read_picture_usage(found.usage))


def _mime(b64: str, said: Any) -> str:
    beginning = unpacked(b64[:16])
    for mark, mime in _BEGINNINGS.items():
        if beginning.startswith(mark):
            return mime
    return f"image/{said}" if isinstance(said, str) and said.isalnum() else "image/png"
