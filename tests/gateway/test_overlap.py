"""What a continuation repeats is taken away, and nothing else is."""

import random
import string
from collections.abc import Callable

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from xrouter.gateway.overlap import ENOUGH, WINDOW, BlankTrimmer, Restarted, Trimmer, last_words

WORDS = st.text(string.ascii_lowercase + "жшюёйцук", min_size=1, max_size=9)
TEXTS = st.lists(WORDS, min_size=4, max_size=60, unique=True).map(" ".join)
ANY_TEXT = st.text(st.characters(codec="utf-8"), max_size=200)


def said(trimmer: Trimmer | BlankTrimmer, continuation: str, sizes: list[int] | None = None) -> str:
    """All that is given out, of a continuation that comes in pieces of these sizes, then one by one."""
    out, at = "", 0
    for size in [*(sizes or ()), *[1] * len(continuation)]:
        piece, at = continuation[at : at + size], at + size
        out += trimmer.feed(piece)
    return out + trimmer.end()


def fold(text: str) -> str:
    return "".join(char.lower() if len(char.lower()) == 1 else char for char in text if not char.isspace())


@settings(max_examples=400)
@given(TEXTS, st.data(), st.lists(st.integers(1, 30), max_size=5))
def test_the_joined_text_is_the_whole_for_any_cut_and_any_repetition(
    text: str, data: st.DataObject, sizes: list[int]
) -> None:
    cut = data.draw(st.integers(1, len(text)))
    shown, rest = text[:cut], text[cut:]
    assume(not _looks_repeated(shown, rest))
    longest = min(cut, 4 * ENOUGH)
    repeated = data.draw(st.sampled_from([0, *range(min(2 * ENOUGH, longest), longest + 1), len(_quoted(shown))]))
    repeated = min(repeated, cut)
    assume(not repeated or sum(not char.isspace() for char in shown[cut - repeated :]) >= ENOUGH)
    assert shown + said(Trimmer(shown), text[cut - repeated :], sizes) == text


def _quoted(shown: str) -> str:
    """The last words and what white space follows them."""
    return shown[len(shown.rstrip()) - len(last_words(shown)) :]


def _looks_repeated(shown: str, rest: str) -> bool:
    """Nobody could tell: the rest itself begins with what the text ends with."""
    sizes = range(1, len(rest) + 1)
    return any(shown.endswith(rest[:size]) and (size >= 3 or size == len(shown)) for size in sizes)


@given(
    st.lists(WORDS, min_size=12, max_size=40, unique=True),
    st.integers(1, 11),
    st.sampled_from(["  ", "\n", "\t "]),
    st.sampled_from([str.upper, str.title, str.lower]),
)
def test_a_repetition_in_other_white_space_and_case_is_one(
    words: list[str], cut: int, blank: str, changed: Callable[[str], str]
) -> None:
    shown, rest = " ".join(words[:cut]), " " + " ".join(words[cut:])
    start = max(0, cut - 8)
    again = blank.join(map(changed, words[start:cut]))
    assume(sum(map(len, words[start:cut])) >= ENOUGH)
    assert shown + said(Trimmer(shown), again + rest) == shown + rest


@settings(max_examples=400)
@given(ANY_TEXT, ANY_TEXT, st.lists(st.integers(1, 30), max_size=5))
@example("ab" * 40, "ab" * 40, [])
@example("a", "a", [])
@example("x ", " ", [])
def test_nothing_is_lost_but_what_the_text_ends_with(shown: str, continuation: str, sizes: list[int]) -> None:
    try:
        out = said(Trimmer(shown), continuation, sizes)
    except Restarted:
        assert fold(continuation)[: 2 * ENOUGH] == fold(shown)[: 2 * ENOUGH]
        return
    assert continuation.endswith(out), "only the beginning is taken away"
    gone = fold(continuation[: len(continuation) - len(out)])
    assert fold(shown).endswith(gone)


@given(ANY_TEXT, ANY_TEXT)
def test_what_waits_is_bounded(shown: str, continuation: str) -> None:
    trimmer, given_out = Trimmer(shown), 0
    for at, char in enumerate(continuation):
        try:
            given_out += len(trimmer.feed(char))
        except Restarted:
            return
        if not trimmer.settled:
            assert at <= len(shown) + sum(one.isspace() for one in continuation[: at + 1])


def test_a_long_text_is_not_searched_nor_waited_for_without_end() -> None:
    rng = random.Random(1)
    text = "".join(rng.choice(string.ascii_lowercase + "  ") for _ in range(3 * WINDOW))
    trimmer = Trimmer(text)
    assert text + trimmer.feed(text[-100:] + " new") + trimmer.end() == text + " new"
    trimmer = Trimmer(" " * 2 * WINDOW)
    fed = sum(len(trimmer.feed("  " * 1000)) for _ in range(20))
    assert fed + len(trimmer.end()) >= 20 * 2000 - 2 * WINDOW


@pytest.mark.parametrize(
    ("shown", "continuation", "joined"),
    [
        ("The cat sat and went to sle", "sleep. Then it", "The cat sat and went to sleep. Then it"),
        ("Кот сидел на ков", "ковре и спал", "Кот сидел на ковре и спал"),
        ("The", "The end of it", "The end of it"),
        ("A", " apple", "A apple"),
        ("A ", "A cat", "A cat"),
        ("A ", "Apple", "A Apple"),
        ("It is very ", "very good", "It is very very good"),
        ("| a | b |\n|---|", "---|\n| 1 | 2 |", "| a | b |\n|---|---|\n| 1 | 2 |"),
        ("x = [0, 1,\n\n", "\n    2]", "x = [0, 1,\n\n    2]"),
        ("Everything was said before.", "Everything was said before.", "Everything was said before."),
        ("Everything was said before.", "", "Everything was said before."),
        ("", "new", "new"),
    ],
)
def test_what_models_do(shown: str, continuation: str, joined: str) -> None:
    assert shown + said(Trimmer(shown), continuation) == joined


def test_whoever_begins_anew_in_other_words_cannot_be_joined() -> None:
    shown = "There are three reasons for it. The first one is the price of bread."
    with pytest.raises(Restarted):
        said(Trimmer(shown), "There are three reasons for it. The first reason is another one.")


def test_the_same_list_item_again_is_no_new_beginning() -> None:
    shown = "Reasons:\n- The function returns the value one.\n"
    rest = "- The function returns the value two."
    assert shown + said(Trimmer(shown), rest) == shown + rest


@given(st.text(" \n\tab", max_size=8), st.text(" \n\tab", max_size=8))
def test_white_space_that_was_cut_off_before_comes_once(shown: str, rest: str) -> None:
    bare = shown.rstrip()
    continuation = (shown + rest)[len(bare) :]  # what a model says that was given the text without it
    assert shown + said(BlankTrimmer(shown), continuation) == shown + rest


@given(TEXTS)
def test_last_words_are_the_end_of_the_text(text: str) -> None:
    words = last_words(text)
    assert text.rstrip().endswith(words)
    assert len(words) <= 48 or " " not in words
    assert len(words) >= min(len(text.rstrip()), 2 * ENOUGH)
