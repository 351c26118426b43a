"""Reading a body, and the checks on its bytes against slow and obvious references."""

import asyncio
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xrouter.core.errors import Invalid, TooLarge
from xrouter.edge.body import (
    MAX_CONTAINERS,
    ClientGone,
    check_depth,
    check_surrogates,
    check_utf8,
    read_body,
)


def _receive(*messages: dict[str, Any]) -> Any:
    left = list(messages)

    async def receive() -> dict[str, Any]:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    return receive


def _piece(body: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def _read(*messages: dict[str, Any], limit: int = 10, length: bytes | None = None) -> bytes:
    headers = [] if length is None else [(b"content-length", length)]
    return await read_body({"headers": headers}, _receive(*messages), limit=limit)


async def test_a_body_in_one_piece_is_not_copied() -> None:
    body = bytes(bytearray(b"0123456789"))
    assert await _read(_piece(body)) is body


@given(pieces=st.lists(st.binary(max_size=5), min_size=1, max_size=6), limit=st.integers(0, 20))
async def test_pieces_are_joined_up_to_the_limit(pieces: list[bytes], limit: int) -> None:
    messages = [_piece(piece, more=index < len(pieces) - 1) for index, piece in enumerate(pieces)]
    whole = b"".join(pieces)
    if len(whole) <= limit:
        assert await _read(*messages, limit=limit) == whole
    else:
        with pytest.raises(TooLarge):
            await _read(*messages, limit=limit)


async def test_too_large_a_body_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge):
        await _read(length=b"11")


@pytest.mark.parametrize("before", [[], [_piece(b"a", more=True)]])
async def test_a_client_that_leaves_is_noticed(before: list[dict[str, Any]]) -> None:
    with pytest.raises(ClientGone):
        await _read(*before, {"type": "http.disconnect"})


# ── depth ──


def _depth(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max((_depth(item) for item in value.values()), default=0)
    if isinstance(value, list):
        return 1 + max((_depth(item) for item in value), default=0)
    return 0


def _is_too_deep(body: bytes, limit: int) -> bool:
    try:
        check_depth(body, limit)
    except Invalid:
        return True
    return False


_TEXT = st.text(st.sampled_from('[]{}"\\,: \n/bfnrtuaъ\x00'), max_size=8)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=30,
)


@given(value=_JSON, limit=st.integers(0, 8), ascii_only=st.booleans())
@example(value=[["]]"], ["[["]], limit=2, ascii_only=True)
@example(value={'\\"[': [["\\"]]}, limit=2, ascii_only=True)
def test_depth_of_valid_json_is_exact(value: Any, limit: int, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    assert _is_too_deep(body, limit) == (_depth(value) > limit)


def _parser_depth(body: str) -> int:
    """How deep a parser of RFC 8259 gets in `body` before it ends or complains about a string or bracket."""
    depth = deepest = place = 0
    stack: list[str] = []
    while place < len(body):
        char = body[place]
        if char == '"':
            string = re.compile(r'"(?:[^"\\]|\\["\\/bfnrtu])*"').match(body, place)
            if string is None:
                return deepest
            place = string.end()
            continue
        if char in "[{":
            stack.append(char)
            depth += 1
            deepest = max(deepest, depth)
        elif char in "]}":
            if not stack or stack.pop() + char not in ("[]", "{}"):
                return deepest
            depth -= 1
        elif char not in ",:0 ":
            return deepest
        place += 1
    return deepest


@given(body=st.text(st.sampled_from('[[[]]]{}""\\,nx0'), max_size=40), limit=st.integers(0, 6))
def test_no_nonsense_leads_a_parser_deeper_than_the_limit(body: str, limit: int) -> None:
    if not _is_too_deep(body.encode(), limit):
        assert _parser_depth(body) <= limit


@pytest.mark.parametrize("opener", [b"[", b'{"a":'])
def test_the_default_limit_is_64_levels(opener: bytes) -> None:
    closer = b"]" if opener == b"[" else b"}"
    check_depth(opener * 63 + b"[]" + closer * 63)
    with pytest.raises(Invalid):
        check_depth(opener * 64 + b"[]" + closer * 64)
    with pytest.raises(Invalid):
        check_depth(opener * 100_000)


def test_the_number_of_containers_is_bounded() -> None:
    check_depth(b"[" + b"[]," * (MAX_CONTAINERS - 2) + b"[]]")
    with pytest.raises(Invalid) as raised:
        check_depth(b"[" + b"[]," * MAX_CONTAINERS + b"[]]")
    assert raised.value.code == "json_too_complex"


# ── text ──


@given(body=st.binary(max_size=12) | st.text(max_size=12).map(str.encode))
@example(body=b"\xed\xa0\x80")
@example(body=b"\xef\xbb\xbf{}")
def test_only_utf8_without_a_mark_passes(body: bytes) -> None:
    try:
        good = not body.decode("utf-8").startswith("\ufeff")
    except UnicodeDecodeError:
        good = False
    if good:
        check_utf8(body)
    else:
        with pytest.raises(Invalid):
            check_utf8(body)


_ESCAPES = st.lists(
    st.sampled_from(["\\ud83d", "\\uDE00", "\\uDbFf", "\\udc00", "\\u00ff", "\\\\", '\\"', "ud83d", "x", "\\n", "ъ"]),
    max_size=8,
)


@given(pieces=_ESCAPES)
@example(pieces=["\\\\", "ud83d"])
@example(pieces=["\\ud83d", "\\\\", "\\uDE00"])
def test_only_whole_surrogate_pairs_pass(pieces: list[str]) -> None:
    body = ('"' + "".join(pieces) + '"').encode()
    try:
        json.loads(body).encode()
        good = True
    except UnicodeEncodeError:
        good = False
    if good:
        check_surrogates(body)
    else:
        with pytest.raises(Invalid):
            check_surrogates(body)
