"""Globs over model ids: what they stand for, and which is within which."""

import re
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.globs import contains, contains_all, matches

GLOBS = st.text("ab*/", max_size=8)
TEXTS = st.text("ab/c", max_size=10)


@given(GLOBS, TEXTS)
def test_a_star_is_any_run_of_characters_and_nothing_else_is_special(glob: str, text: str) -> None:
    assert matches(glob, text) == bool(re.fullmatch(re.escape(glob).replace(r"\*", ".*"), text, re.DOTALL))


@pytest.mark.parametrize("special", ["a?c", "a[bc]", "a.c", "a\\*"])
def test_what_shells_and_regular_expressions_know_stands_for_itself(special: str) -> None:
    assert matches(special, special)
    assert not matches(special, "abc")


@given(GLOBS, st.lists(st.tuples(TEXTS, TEXTS), max_size=4), st.data())
def test_a_glob_that_contains_another_stands_for_all_of_its_texts(
    wide: str, stars: list[tuple[str, str]], data: st.DataObject
) -> None:
    narrow = data.draw(GLOBS | st.just("*".join(wide.split("*"))))
    for left, right in stars:  # each star of the wide one may become text with stars of its own
        wide_star = f"{left}*{right}" if left != right else left
        narrow = narrow.replace("*", wide_star, 1)
    text = "".join(data.draw(TEXTS) if letter == "*" else letter for letter in narrow)
    assert matches(narrow, text)
    assert matches(wide, text) or not contains(wide, narrow)


@given(GLOBS, GLOBS)
def test_a_glob_that_does_not_contain_another_misses_a_text_of_it(wide: str, narrow: str) -> None:
    text = narrow.replace("*", "c")  # a letter that no glob of this test has: only a star takes it
    assert matches(narrow, text)
    assert contains(wide, narrow) == matches(wide, text)


def test_each_glob_must_lie_within_one() -> None:
    assert contains_all(["gigachat/*", "tbank/*"], ["gigachat/GigaChat-2", "tbank/t-*"])
    assert not contains_all(["gigachat/*"], ["*"])
    assert not contains_all([], ["a"])
    assert contains_all([], [])


def test_a_hostile_glob_takes_no_time() -> None:
    began = perf_counter()
    assert not matches("*a" * 99 + "b", "a" * 512)
    assert perf_counter() - began < 0.05
