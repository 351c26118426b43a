"""The machines for `<think>` and `<tool_call>` in text: no cut changes what they find."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xrouter.providers.openai_compatible.text import Called, Piece, ThinkTags, Thought, ToolCallTags

WORDS = ["<think>", "</think>", "<tool_call>", "</tool_call>", "<", "</", "th", ">", " ", "\n", "a", "Я🙂", "{", "}",
         '{"name":"f","arguments":{"x":1}}', '{"name":"g"}', '"</tool_call>"']  # fmt: skip
texts = st.lists(st.sampled_from(WORDS), max_size=14).map("".join)
cuts = st.lists(st.integers(0, 120), max_size=12)


def parts(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(min(place, len(text)) for place in places), len(text)]
    return [text[start:end] for start, end in pairwise(edges)]


def run(machine: ThinkTags | ToolCallTags, pieces: list[str]) -> list[Piece]:
    found = [found for piece in pieces for found in machine.feed(piece)] + machine.end()
    joined: list[Piece] = []
    for piece in found:
        last = joined[-1] if joined else None
        if isinstance(piece, str) and isinstance(last, str):
            joined[-1] = last + piece
        elif isinstance(piece, Thought) and isinstance(last, Thought):
            joined[-1] = Thought(last.text + piece.text)
        else:
            joined.append(piece)
    assert all(piece not in ("", Thought("")) for piece in found)
    return joined


@given(texts, cuts, st.booleans())
@example("<think>\n x \n</think>\n\n y", [1, 3, 9, 20], False)
def test_no_cut_changes_what_was_thought(text: str, places: list[int], prefilled: bool) -> None:
    whole = run(ThinkTags(prefilled=prefilled), [text])
    assert run(ThinkTags(prefilled=prefilled), parts(text, places)) == whole
    assert run(ThinkTags(prefilled=prefilled), list(text)) == whole


@given(texts, cuts)
@example('a \n<tool_call>{"name":"f"}</tool_call>\n b', [3, 6, 15, 40])
def test_no_cut_changes_what_was_called(text: str, places: list[int]) -> None:
    whole = run(ToolCallTags(), [text])
    assert run(ToolCallTags(), parts(text, places)) == whole
    assert run(ToolCallTags(), list(text)) == whole


@given(texts)
def test_text_without_a_call_is_not_changed(text: str) -> None:
    found = run(ToolCallTags(), [text])
    if not any(isinstance(piece, Called) for piece in found):
        assert "".join(str(piece) for piece in found) == text


@given(texts)
def test_only_a_leading_tag_makes_reasoning(text: str) -> None:
    found = run(ThinkTags(), [text])
    if not text.lstrip().startswith("<think>"):
        assert found == ([text] if text else [])


@pytest.mark.parametrize(
    ("prefilled", "text", "expected"),
    [
        (False, "<think>\nA b\n</think>\n\nC", [Thought("A b"), "C"]),
        (False, " \n<think></think>C", ["C"]),
        (False, "<think>A", [Thought("A")]),
        (False, "<thin", ["<thin"]),
        (False, "x</think>y", ["x</think>y"]),
        (True, "A</think>C", [Thought("A"), "C"]),
        (True, "<think>A</think>C <think>", [Thought("A"), "C <think>"]),
        (True, "A </thi", [Thought("A </thi")]),
    ],
)
def test_think_tags(prefilled: bool, text: str, expected: list[Piece]) -> None:
    assert run(ThinkTags(prefilled=prefilled), [text]) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<tool_call>\n{"name":"f","arguments":{"x": 1}}\n</tool_call>', [Called("f", '{"x": 1}')]),
        ('<tool_call>{"name":"f"}</tool_call>\n<tool_call>{"name":"g","arguments":"{}"}</tool_call>',
         [Called("f", "{}"), Called("g", "{}")]),
        ('a <tool_call>{"name":"f"}', ["a", Called("f", "{}")]),
        ("a <tool_call>{bad}</tool_call> b", ["a <tool_call>{bad}</tool_call> b"]),
        ('<tool_call>{"name":""}</tool_call>', ['<tool_call>{"name":""}</tool_call>']),
        ("a <tool", ["a <tool"]),
    ],
)  # fmt: skip
def test_tool_call_tags(text: str, expected: list[Piece]) -> None:
    assert run(ToolCallTags(), [text]) == expected


def test_neither_machine_holds_more_than_its_limit() -> None:
    spaces = ThinkTags()
    assert sum(len(str(piece)) for _ in range(20) for piece in spaces.feed(" " * 1000)) >= 15_000
    endless = ToolCallTags()
    endless.feed("<tool_call>")
    given_out = [piece for _ in range(20) for piece in endless.feed("x" * 100_000)]
    assert given_out
    assert not any(isinstance(piece, Called) for piece in given_out)
