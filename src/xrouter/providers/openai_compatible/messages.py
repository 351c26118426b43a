"""The conversation as a server wants it: the same bytes where it is that already."""

import hashlib
import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from xrouter.core.chat import Fields
from xrouter.core.errors import Invalid

from .json_fields import NULL, as_fields_list, is_null, text
from .rows import Row

_REASONING: Final = ("reasoning", "reasoning_content", "reasoning_details")
_SHORT_ID = re.compile(r"[A-Za-z0-9]{9}")
_LETTERS: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


class _Head(msgspec.Struct):
    role: str = ""
    content: Raw = NULL


class _Part(msgspec.Struct):
    type: str = "text"


_as_heads = msgspec.json.Decoder(list[_Head]).decode
_as_parts = msgspec.json.Decoder(list[_Part]).decode


def mend_messages(raw: Raw, row: Row) -> Any:
    """The messages with every quirk of `row` answered. Raises `Invalid` for a part that the server cannot read."""
    looks = row.parts or row.reasoning_back or row.short_call_ids
    seen = bytes(raw) if looks else b""
    reasons = row.reasoning_back != "" and b'"reasoning' in seen
    calls = row.short_call_ids and b'"tool_call' in seen
    parted = bool(row.parts) and b'"type"' in seen
    if row.developer_role and not (row.system_first or parted or reasons or calls):
        return raw
    heads = _as_heads(raw) if row.system_first or not row.developer_role or parted else []
    if parted:
        _check_parts(heads, row)
    roles = [head.role for head in heads]
    renamed = not row.developer_role and "developer" in roles
    system_roles = ("system", "developer") if renamed else ("system",)
    scattered = row.system_first and any(role in system_roles for role in roles[1:])
    if not (renamed or scattered or reasons or calls):
        return raw
    messages = as_fields_list(raw)
    for message in messages:
        if renamed and text(message.get("role")) == "developer":
            message["role"] = Raw(b'"system"')
        if reasons:
            _mend_reasoning(message, keep=row.reasoning_back == "keep")
        if calls:
            _shorten_ids(message)
    if not scattered:
        return messages
    systems = [message for message, role in zip(messages, roles, strict=True) if role in system_roles]
    others = [message for message, role in zip(messages, roles, strict=True) if role not in system_roles]
    return [{**systems[0], "content": _join(systems)}, *others]


def lacks_reasoning(raw: Raw) -> bool:
    """Is this a tool loop whose calls have come back without the reasoning before them?"""
    for message in reversed(as_fields_list(raw)):
        role = text(message.get("role"))
        if role == "user":
            return False
        thought = (message.get("reasoning_content"), message.get("reasoning"))
        if role == "assistant" and not is_null(message.get("tool_calls")) and all(map(is_null, thought)):
            return True
    return False


def _check_parts(heads: list[_Head], row: Row) -> None:
    for place, head in enumerate(heads):
        if bytes(memoryview(head.content)[:1]) != b"[":
            continue
        for number, part in enumerate(_as_parts(head.content)):
            if part.type not in row.parts:
                raise Invalid(
                    f"This model reads no content of the type '{part.type}', only {', '.join(sorted(row.parts))}.",
                    param=f"messages[{place}].content[{number}].type",
                )


def _mend_reasoning(message: Fields, *, keep: bool) -> None:
    kept = NULL
    for name in _REASONING:
        found = message.pop(name, NULL)
        if name != "reasoning_details" and found != NULL:
            kept = found
    if keep and kept != NULL:
        message["reasoning_content"] = kept


def _shorten_ids(message: Fields) -> None:
    answered = message.get("tool_call_id")
    if not is_null(answered):
        message["tool_call_id"] = _short(answered)
    calls = message.get("tool_calls")
    if not is_null(calls):
        made: Any = [{**call, "id": _short(call.get("id"))} for call in as_fields_list(calls)]  # type: ignore[arg-type]  # not None
        message["tool_calls"] = made


def _short(raw: Raw | None) -> Any:
    """Nine letters and digits for any id; the same for the same, and itself where it is that already."""
    given = text(raw)
    if _SHORT_ID.fullmatch(given):
        return raw
    number = int.from_bytes(hashlib.blake2b(given.encode(), digest_size=8).digest())
    short = ""
    for _ in range(9):
        number, place = divmod(number, len(_LETTERS))
        short += _LETTERS[place]
    return short


def _join(messages: list[Fields]) -> str | list[Any]:
    """The contents of several messages as one: text where all are text, else a list of parts."""
    contents = [msgspec.json.decode(message.get("content", NULL)) for message in messages]
    contents = [content for content in contents if content]
    if all(isinstance(content, str) for content in contents):
        return "\n\n".join(contents)
    parts: list[Any] = []
    for content in contents:
        parts += [{"type": "text", "text": content}] if isinstance(content, str) else content
    return parts
