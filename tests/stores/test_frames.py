"""Segments: what was written is read back, and damage costs only the records that it touches."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.call import State
from xrouter.stores.frames import Entry, frame, read_frames

_text = st.text(max_size=40)
_entries = st.builds(
    Entry,
    **dict.fromkeys(("id", "call_id", "request_id", "key_id", "model", "deployment", "provider"), _text),
    **dict.fromkeys(("upstream_model", "dialect", "owner", "phase"), _text),
    **{name: st.none() | _text for name in ("client_request_id", "upstream_request_id", "finish_reason", "error")},
    **{name: st.integers(-(2**63), 2**63) for name in ("number", "input_tokens", "output_tokens", "cached_tokens")},
    **{name: st.integers(0, 2**63) for name in ("reasoning_tokens", "cost_micro")},
    upstream_status=st.none() | st.integers(100, 599),
    **{name: st.booleans() for name in ("streamed", "estimated", "unpriced")},
    state=st.sampled_from(State),
    started_at=st.floats(allow_nan=False, allow_infinity=False),
    first_content_at=st.none() | st.floats(0, 2e9),
    ended_at=st.none() | st.floats(0, 2e9),
)


def _frame(entry: Entry) -> bytes:
    return frame(msgspec.structs.astuple(entry))


@given(st.lists(_entries, max_size=8))
def test_what_is_written_is_read(entries: list[Entry]) -> None:
    data = b"".join(map(_frame, entries))
    assert read_frames(data, 100) == (entries, len(data), [], False)


@given(st.lists(_entries, min_size=1, max_size=6), st.integers(1, 5))
def test_a_limit_stops_between_two_records(entries: list[Entry], limit: int) -> None:
    data = b"".join(map(_frame, entries))
    first = read_frames(data, limit)
    assert first.entries == entries[:limit]
    assert read_frames(data[first.used :], 100).entries == entries[limit:]


@given(st.lists(_entries, max_size=3), _entries)
def test_a_record_torn_at_any_byte_is_left_and_all_before_it_are_read(before: list[Entry], last: Entry) -> None:
    whole, torn = b"".join(map(_frame, before)), _frame(last)
    for cut in range(1, len(torn)):
        assert read_frames(whole + torn[:cut], 100) == (before, len(whole), [], True)


@given(st.lists(_entries, min_size=2, max_size=5), st.data())
def test_a_flipped_bit_costs_its_own_record_only(entries: list[Entry], data: st.DataObject) -> None:
    frames = list(map(_frame, entries))
    hit = data.draw(st.integers(0, len(frames) - 1), "record")
    bit = data.draw(st.integers(0, len(frames[hit]) * 8 - 1), "bit")
    flipped = bytearray(frames[hit])
    flipped[bit // 8] ^= 1 << bit % 8
    at = sum(map(len, frames[:hit]))
    found = read_frames(b"".join([*frames[:hit], bytes(flipped), *frames[hit + 1 :]]), 100)
    assert found.entries == entries[:hit] + entries[hit + 1 :]
    if hit == len(frames) - 1:
        assert found.tail
        assert found.used == at
    else:
        assert found.damage == [(at, len(frames[hit]))]


@given(st.binary(max_size=300))
def test_garbage_is_never_a_record(garbage: bytes) -> None:
    found = read_frames(garbage, 100)
    assert found.entries == []
    assert found.used == 0
