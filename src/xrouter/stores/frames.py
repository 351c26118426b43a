"""The journal's format: what one record holds, and how records stand in a segment file.

A frame is `XR`, the payload's length (u16) and CRC-32 (u32), little-endian, then the payload: the fields of
an `AttemptRecord` as one MessagePack array. Every frame is whole in itself: an outcome repeats what its intent
said, so losing one record never loses another. The marker lets a reader find the next frame behind a damaged one.
"""

import struct
import zlib
from typing import Any, Final, NamedTuple

import msgspec

from xrouter.core.records import AttemptRecord

_HEADER: Final = struct.Struct("<2sHI")
_MARKER: Final = b"XR"
LARGEST_FRAME: Final = _HEADER.size + 0xFFFF
LARGEST_INT: Final = 2**63 - 1
"""Both databases end at 64 bits, as does MessagePack."""


class Entry(AttemptRecord, array_like=True, frozen=True, gc=False):
    """An attempt as the journal holds it: an array without names, so a field is known by its place.

    A new field goes last and has a default. Then a record of an older release, which ends before it, gets the
    default, and an older release passes over what it does not know: both happen while an upgrade rolls.
    """


class Damage(NamedTuple):
    """Bytes in a segment that are no frame, with a sound frame behind them."""

    offset: int
    length: int


class Read(NamedTuple):
    """What a stretch of a segment holds. `used` bytes are dealt with; what follows them is a frame that is not
    complete yet, or never will be (`tail` is true then: there are such bytes)."""

    entries: list[Entry]
    used: int
    damage: list[Damage]
    tail: bool


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode
_pack = _HEADER.pack
_crc = zlib.crc32


def frame(fields: tuple[Any, ...]) -> bytes:
    """The fields of an `Entry`, in its order, as one frame.

    Raises ValueError, TypeError, OverflowError or struct.error for values that do not fit.
    """
    payload = _encode(fields)
    return _pack(_MARKER, len(payload), _crc(payload)) + payload


def read_frames(data: bytes, limit: int) -> Read:
    """Up to `limit` entries from `data`, which begins where a frame begins.

    Bytes that are no frame are stepped over if a sound frame follows them, else they are the tail.
    """
    entries: list[Entry] = []
    damage: list[Damage] = []
    at = 0
    while at < len(data) and len(entries) < limit:
        found = _frame_at(data, at)
        if found is None:
            following = _next_frame(data, at + 1)
            if following is None:
                return Read(entries, at, damage, tail=True)
            damage.append(Damage(at, following - at))
            at = following
        else:
            entry, at = found
            entries.append(entry)
    return Read(entries, at, damage, tail=False)


def is_unfinished(tail: bytes) -> bool:
    """Does `tail` stop before the frame that it begins would end?"""
    if len(tail) < _HEADER.size:
        return True
    length: int = _HEADER.unpack_from(tail)[1]
    return len(tail) < _HEADER.size + length


def fitting_int(value: int) -> int:
    """`value`, or what is nearest to it within 64 bits."""
    return max(-LARGEST_INT, min(value, LARGEST_INT))


def _frame_at(data: bytes, at: int) -> tuple[Entry, int] | None:
    start = at + _HEADER.size
    if start > len(data):
        return None
    marker, length, crc = _HEADER.unpack_from(data, at)
    payload = data[start : start + length]
    if marker != _MARKER or len(payload) < length or _crc(payload) != crc:
        return None
    try:
        return _decode(payload), start + length
    except msgspec.MsgspecError:  # a sound frame of another release's making
        return None


def _next_frame(data: bytes, at: int) -> int | None:
    """Where the next sound frame begins, at `at` or behind it."""
    while (at := data.find(_MARKER, at)) >= 0:
        if _frame_at(data, at) is not None:
            return at
        at += 1
    return None
