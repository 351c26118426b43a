"""Server-sent events in any cut and with any line end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.providers._http.framing import LineTooLong
from xrouter.providers._http.sse import EventParser

LINES = [b"data: a", b"data:b", b"data:", b"data:  c", b": note", b"", b"", b"event: message_start", b"event:x",
         b"id: 7", b"retry: 1", b"data", "data: ж🙂".encode(), b"junk"]  # fmt: skip
ENDS = [b"\n", b"\r\n", b"\r"]
streams = st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)), max_size=25).map(
    lambda lines: b"".join(line + end for line, end in lines)
)


def parse(chunks: list[bytes]) -> list[bytes]:
    parser = EventParser(1024)
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.end()


@given(streams, st.integers(1, 9))
def test_no_cut_changes_the_events(body: bytes, size: int) -> None:
    assert parse([body[at : at + size] for at in range(0, len(body), size)]) == parse([body])


@given(st.lists(st.sampled_from(LINES), max_size=25), st.sampled_from(ENDS))
def test_line_ends_mean_the_same(lines: list[bytes], end: bytes) -> None:
    assert parse([end.join(lines)]) == parse([b"\n".join(lines)])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"data: x\n\n", [b"x"]),
        (b"\xef\xbb\xbfdata: x\n\n", [b"x"]),
        (b"event: ping\ndata: {}\n\ndata: y\n\n", [b"{}", b"y"]),
        (b"event: ping\n\ndata: y\n\n", [b"y"]),
        (b"data: a\ndata: b\n\n", [b"a\nb"]),
        (b": only\n\n\n\n", []),
        (b"data: unfinished", [b"unfinished"]),
        (b"", []),
    ],
)
def test_events(body: bytes, expected: list[bytes]) -> None:
    assert parse([body]) == expected
    assert parse([bytes([byte]) for byte in body]) == expected


@pytest.mark.parametrize(
    "chunk", [b"data: " + b"x" * 2000, b"data: " + b"x" * 2000 + b"\n\n", b"data: xxxxxxxxx\n" * 300]
)
def test_the_limit_holds(chunk: bytes) -> None:
    parser = EventParser(1024)
    with pytest.raises(LineTooLong):
        for at in range(0, len(chunk), 100):
            parser.feed(chunk[at : at + 100])
        parser.end()


def test_the_limit_is_for_one_event() -> None:
    parser = EventParser(1024)
    assert len(parser.feed(b"data: " + b"x" * 500 + b"\n\n") * 10) == 10
    assert len([event for _ in range(50) for event in parser.feed(b"data: " + b"x" * 500 + b"\n\n")]) == 50
