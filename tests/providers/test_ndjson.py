"""Newline-delimited JSON in any cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.providers._http.framing import LineTooLong
from xrouter.providers._http.ndjson import LineParser


def parse(chunks: list[bytes]) -> list[bytes]:
    parser = LineParser(64)
    return [payload for chunk in chunks for payload in parser.feed(chunk)] + parser.end()


@given(
    st.lists(st.tuples(st.sampled_from([b"", b" ", b"{}", "ж🙂".encode()]), st.sampled_from([b"\n", b"\r\n"]))),
    st.sampled_from([b"", b"{}"]),
    st.integers(1, 9),
)
def test_no_cut_changes_the_lines(lines: list[tuple[bytes, bytes]], last: bytes, size: int) -> None:
    body = b"".join(line + end for line, end in lines) + last
    expected = [line for line, _ in [*lines, (last, b"")] if line.strip()]
    assert parse([body[at : at + size] for at in range(0, len(body), size)]) == expected
    assert parse([body]) == expected


@pytest.mark.parametrize("body", [b"x" * 65, b"x" * 65 + b"\n", b"{}\n" + b"x" * 65])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_line_over_the_limit_is_refused(body: bytes, size: int) -> None:
    with pytest.raises(LineTooLong):
        parse([body[at : at + size] for at in range(0, len(body), size)])


def test_the_limit_is_for_one_line() -> None:
    assert parse([b"x" * 64 + b"\n"] * 9) == [b"x" * 64] * 9
