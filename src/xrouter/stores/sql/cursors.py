"""Opaque cursors for pages that run from new to old: the time and id of the last row shown."""

import math
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error
from typing import Final

_TIME: Final = struct.Struct(">d")
_LONGEST_ID: Final = 64


def cursor_after(kind: bytes, at: float, row_id: str) -> str:
    """A cursor for the rows behind this one. `kind` is one byte that tells lists apart."""
    return urlsafe_b64encode(kind + _TIME.pack(at) + row_id.encode()).decode().rstrip("=")


def read_cursor(kind: bytes, cursor: str) -> tuple[float, str]:
    """Time and id out of `cursor`. Raises ValueError for a text that `cursor_after` did not make."""
    try:
        packed = urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4))
        at, row_id = _TIME.unpack(packed[1:9])[0], packed[9:].decode("ascii")
    except (Error, UnicodeError, struct.error) as error:
        raise ValueError("not a cursor of this list") from error
    sane = math.isfinite(at) and 0 < len(row_id) <= _LONGEST_ID and row_id.isalnum()
    if not sane or packed[:1] != kind or cursor_after(kind, at, row_id) != cursor:
        raise ValueError("not a cursor of this list")
    return at, row_id
