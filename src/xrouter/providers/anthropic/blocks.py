"""Content blocks: parts of a message on their way out, thinking on its way there and back.

A signed piece of thinking travels through the client as an entry of `reasoning_details`, the form that OpenRouter
made common: the vendor takes thinking back only with its signature.
"""

import base64
import re
from typing import Any, Final

import msgspec

from xrouter.core.errors import Invalid

_DATA_URL = re.compile(
    r"data:(?P<type>[a-z]+/[a-z0-9.+-]+)(?:;[a-z0-9=-]+)*;base64,(?P<data>.*)", re.DOTALL | re.IGNORECASE
)
_PICTURES: Final = ("image/jpeg", "image/png", "image/gif", "image/webp")
_FORMAT: Final = "anthropic-claude-v1"
_EPHEMERAL: Final = {"type": "ephemeral"}


def blocks_of(content: Any, place: str) -> list[dict[str, Any]]:
    """A message's `content` as blocks; empty texts, which the vendor refuses, are left out. Raises `Invalid`; `place`
    names the message."""
    if content is None:
        return []
    if isinstance(content, str):
        return [{"type": "text", "text": content}] if content else []
    found = []
    for number, part in enumerate(content):
        block = _block(part, f"{place}.content[{number}]")
        if block is not None:
            cache = part.get("cache_control") or (_EPHEMERAL if part.get("prompt_cache_breakpoint") else None)
            found.append({**block, "cache_control": cache} if cache else block)
    return found


def thinking_blocks(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The vendor's own thinking that a client has brought back; what bears no signature of this vendor stays out."""
    found = []
    for detail in message.get("reasoning_details") or ():
        if not isinstance(detail, dict) or detail.get("format", _FORMAT) != _FORMAT:
            continue
        if detail.get("type") == "reasoning.encrypted" and isinstance(detail.get("data"), str):
            found.append({"type": "redacted_thinking", "data": detail["data"]})
        elif isinstance(detail.get("signature"), str):
            text = detail.get("text")
            thought = text if isinstance(text, str) else ""
            found.append({"type": "thinking", "thinking": thought, "signature": detail["signature"]})
    return found


def signed(text: str, signature: str, number: int) -> dict[str, Any]:
    """Thinking block `number` as an entry of `reasoning_details`."""
    return {"type": "reasoning.text", "text": text, "signature": signature, "format": _FORMAT, "index": number}


def redacted(data: str, number: int) -> dict[str, Any]:
    """The same for thinking that the vendor shows to nobody."""
    return {"type": "reasoning.encrypted", "data": data, "format": _FORMAT, "index": number}


def tool_input(arguments: str, place: str) -> Any:
    """The arguments of a call as an object."""
    try:
        found = msgspec.json.decode(arguments or "{}")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Invalid("The arguments of a tool call must be a JSON object.", param=f"{place}.function.arguments")
    return found


def _block(part: dict[str, Any], place: str) -> dict[str, Any] | None:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise Invalid("A part of text needs its text.", param=place)
        return {"type": "text", "text": text} if text else None
    if kind == "image_url":
        return {"type": "image", "source": _picture(part.get("image_url"), place)}
    if kind == "file":
        return _document(part.get("file"), place)
    raise Invalid(f"This model reads no content of the type '{kind}', only text, pictures and files.", param=place)


def _picture(given: Any, place: str) -> dict[str, Any]:
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str):
        raise Invalid("A picture needs its URL.", param=place)
    inside = _DATA_URL.fullmatch(url)
    if inside is None:
        return {"type": "url", "url": _outside(url, place)}
    if inside["type"].lower() not in _PICTURES:
        raise Invalid(f"This model sees pictures of the types {', '.join(_PICTURES)}.", param=place)
    return {"type": "base64", "media_type": inside["type"].lower(), "data": inside["data"]}


def _document(given: Any, place: str) -> dict[str, Any]:
    data = given.get("file_data") if isinstance(given, dict) else None
    if not isinstance(data, str):
        raise Invalid("A file must be in the message itself, as `file_data`.", param=place)
    inside = _DATA_URL.fullmatch(data)
    if inside is None:
        source: dict[str, Any] = {"type": "url", "url": _outside(data, place)}
    elif inside["type"].lower() == "application/pdf":
        source = {"type": "base64", "media_type": "application/pdf", "data": inside["data"]}
    elif inside["type"].lower().startswith("text/"):
        source = {"type": "text", "media_type": "text/plain", "data": _text_of(inside["data"], place)}
    else:
        raise Invalid("This model reads files of the types application/pdf and text/plain.", param=place)
    name = given.get("filename")
    return {"type": "document", "source": source, **({"title": name} if isinstance(name, str) and name else {})}


def _text_of(b64: str, place: str) -> str:
    try:
        return base64.b64decode(b64, validate=True).decode()
    except ValueError:
        raise Invalid("A file of text must be UTF-8 in base64.", param=place) from None


def _outside(url: str, place: str) -> str:
    if not url.startswith("https://"):
        raise Invalid("Pictures and files are taken as data URLs in base64 or from https:// addresses.", param=place)
    return url
