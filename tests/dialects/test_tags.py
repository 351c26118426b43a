"""`x-xrouter-tags`: what is read, and what is refused in words."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.errors import Invalid
from xrouter.dialects import tags
from xrouter.dialects.exchange import Exchange


def named(*lines: bytes) -> tuple[str, ...]:
    async def nothing(*_: object) -> None: ...

    headers = [(b"host", b"x"), *((tags.HEADER, line) for line in lines)]
    scope = {"method": "POST", "path": "/", "headers": headers}
    return tags.named(Exchange(scope, nothing, nothing, 0.0, 0))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([], ()),
        ([b""], ()),
        ([b" , ,"], ()),
        ([b"checkout"], ("checkout",)),
        ([b"b, a ,b,\ta"], ("b", "a")),
        ([b"a", b"b,c"], ("a", "b", "c")),
        ([b"x" * 64], ("x" * 64,)),
        ([b"team:payments/a%3A'\"{}-~!+"], ("team:payments/a%3A'\"{}-~!+",)),
        ([b",".join(b"%d" % number for number in range(10))], tuple(map(str, range(10)))),
    ],
)
def test_tags_are_read_each_once(lines: list[bytes], found: tuple[str, ...]) -> None:
    assert named(*lines) == found


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"a b", "'a b', which is no tag"),
        (b"ok," + b"x" * 65, "which is no tag"),
        ("касса".encode(), "which is no tag"),
        (b"a\x00", "which is no tag"),
        (b",".join(b"%d" % number for number in range(11)), "has 11 tags"),
    ],
)
def test_what_is_no_tag_is_refused(line: bytes, words: str) -> None:
    with pytest.raises(Invalid, match="at most 10 tags") as caught:
        named(line)
    assert words in caught.value.message
    assert caught.value.param == "x-xrouter-tags"


@given(st.lists(st.binary(max_size=80), max_size=3))
def test_any_bytes_are_tags_or_refused(lines: list[bytes]) -> None:
    try:
        found = named(*lines)
    except Invalid:
        return
    assert len(found) <= 10
    assert len(set(found)) == len(found)
    assert all(
        0 < len(one) <= 64 and one.isascii() and one.isprintable() and not set(one) & {",", " "} for one in found
    )
