"""JSON objects one level deep: what we know is decoded, what we do not know stays the bytes that came."""

from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import Fields

NULL = Raw(b"null")
_ZERO = Raw(b"0")
_EMPTY = Raw(b'""')

as_fields = msgspec.json.Decoder(Fields).decode
as_fields_list = msgspec.json.Decoder(list[Fields]).decode
_as_integer = msgspec.json.Decoder(int).decode
_as_optional_text = msgspec.json.Decoder(str | None).decode


def is_null(raw: Raw | None) -> bool:
    """True for `null` and for a field that is not there."""
    return raw is None or raw == NULL


def integer(raw: Raw | None) -> int:
    """A whole number, 0 where there is none. Raises ValueError for anything else."""
    return 0 if raw is None or raw in (_ZERO, NULL) else _as_integer(raw)


def text(raw: Raw | None) -> str:
    """A text, empty where there is none. Raises ValueError for anything else."""
    return "" if raw is None or raw == _EMPTY else _as_optional_text(raw) or ""


def take_fields(fields: Fields, name: str) -> Fields:
    """Remove an object from `fields` and give its own fields; empty where there is none."""
    raw = fields.pop(name, None)
    return {} if raw is None or raw == NULL else as_fields(raw)


def known(fields: Fields) -> Fields | None:
    """Fields to be passed on, without nulls, which say nothing; None where none is left."""
    return {name: raw for name, raw in fields.items() if raw != NULL} or None


def checked(fields: Fields | None) -> Fields | None:
    """The same fields, all of them UTF-8: a `Raw` is not looked into by the decoder. Raises ValueError."""
    for raw in (fields or {}).values():
        str(raw, "utf-8")
    return fields


def content_text(raw: Raw | None) -> tuple[str, str]:
    """`content` as (answer, reasoning): a text, nothing, or Mistral's list of parts. Raises ValueError."""
    if raw is None or raw == _EMPTY:
        return "", ""
    value = msgspec.json.decode(raw)
    if isinstance(value, str):
        return value, ""
    if value is None:
        return "", ""
    if not isinstance(value, list):
        raise ValueError("content is neither text nor parts")  # noqa: TRY004 - one class for all bad bodies
    said, thought = "", ""
    for part in value:
        if isinstance(part, dict) and part.get("type") == "text":
            said += _part_text(part.get("text"))
        elif isinstance(part, dict) and part.get("type") == "thinking":
            thought += "".join(
                _part_text(item.get("text")) for item in part.get("thinking") or () if isinstance(item, dict)
            )
    return said, thought


def _part_text(value: Any) -> str:
    return value if isinstance(value, str) else ""
