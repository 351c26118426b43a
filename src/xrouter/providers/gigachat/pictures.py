"""Pictures: the vendor draws in a chat. The answer names a file, which is fetched apart.

In v1 the built-in function `text2image` is left to the model (`function_call: auto` without functions), so the
request must read like a wish for a picture; in v2 the tool `image_generate` is forced.
"""

import re
from typing import Any, Final

import msgspec

from xrouter.core.chat import Answer
from xrouter.core.errors import Invalid
from xrouter.core.images import ImagesRequest

from .request import Contract

_SYSTEM: Final = "Ты художник. Нарисуй то, о чём просит пользователь. Не задавай вопросов."
_PICTURE: Final = re.compile(r"<img\b[^>]{0,500}?\bsrc=\"([A-Za-z0-9_-]{1,128})\"")
_GATEWAYS: Final = frozenset({"model", "models", "prompt", "n", "response_format", "metadata"})
_MAGIC: Final = ((b"\xff\xd8\xff", "image/jpeg"), (b"\x89PNG\r\n", "image/png"), (b"RIFF", "image/webp"))


def picture_request(request: ImagesRequest, model: str, contract: Contract) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the parameters that the vendor has no word for. Raises `Invalid`."""
    if request.n != 1:
        raise Invalid("GigaChat draws one picture per call: n must be 1", param="n")
    wish = f"Нарисуй: {request.prompt}"
    body: dict[str, Any] = {"model": model}
    if contract == "v1":
        body["messages"] = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": wish}]
        body["function_call"] = "auto"
    else:
        body["messages"] = [
            {"role": "system", "content": [{"text": _SYSTEM}]},
            {"role": "user", "content": [{"text": wish}]},
        ]
        body["tools"] = [{"image_generate": {}}]
        body["tool_config"] = {"mode": "forced", "tool_name": "image_generate"}
    dropped = [name for name, raw in request.fields.items() if name not in _GATEWAYS and raw != b"null"]
    if request.size not in (None, "auto") and "size" not in dropped:
        dropped.append("size")
    if request.size in (None, "auto") and "size" in dropped:
        dropped.remove("size")
    return msgspec.json.encode(body), tuple(dropped)


def picture_in(answer: Answer) -> str | None:
    """The id of the file in an answer; None where there is no picture in it."""
    message = answer.choices[0].message
    for raw in (message.extra or {}).get("files"), (message.extra or {}).get("attachments"):
        found = None if raw is None else msgspec.json.decode(raw)
        for file in found if isinstance(found, list) else ():
            identifier = file.get("id") if isinstance(file, dict) else file
            if isinstance(identifier, str) and identifier:
                return identifier
    named = _PICTURE.search(message.content or "")
    return named[1] if named else None


def mime_of(data: bytes) -> str:
    """By its first bytes: the vendor says `image/jpg`, which is no type (RFC 2046)."""
    return next((mime for magic, mime in _MAGIC if data.startswith(magic)), "image/jpeg")
