"""What servers without parsers leave in the text: `<think>...</think>` and `<tool_call>...</tool_call>`.

Both machines take text in any cut and give pieces; the joined pieces do not depend on the cut. They hold back
only what may yet become a tag, and white space that may turn out to stand beside one.
"""

from typing import NamedTuple, TypeAlias

import msgspec
from msgspec import Raw

_THINK, _THOUGHT = "<think>", "</think>"
_CALL, _CALLED = "<tool_call>", "</tool_call>"
_HELD_LIMIT = 4096  # more white space than this is handed out as it is
_CALL_LIMIT = 1024 * 1024  # a longer "call" is text


class Thought(NamedTuple):
    """A piece of reasoning."""

    text: str


class Called(NamedTuple):
    """A whole tool call; `arguments` is JSON text."""

    name: str
    arguments: str


Piece: TypeAlias = str | Thought | Called


class ThinkTags:
    """Parts a leading `<think>...</think>` from the answer. Tags further on are text: the model may speak of
    them. With `prefilled` the first tag is taken as read."""

    def __init__(self, *, prefilled: bool = False) -> None:
        self._prefilled = prefilled
        self._held = ""
        self._at_start = True
        self._thinking = False
        self._strip = False  # at the beginning of the reasoning or of the answer: white space is the template's

    def feed(self, text: str) -> list[Piece]:
        if not (self._at_start or self._thinking or self._strip):
            return [text] if text else []
        self._held += text
        pieces: list[Piece] = []
        if self._at_start:
            self._begin()
        if self._thinking:
            pieces += self._think()
        if not (self._at_start or self._thinking):
            pieces += self._speak()
        return pieces

    def end(self) -> list[Piece]:
        """What was held back, now that nothing follows."""
        rest, self._held = self._held, ""
        thinking = self._thinking
        self._at_start = self._thinking = self._strip = False
        if thinking:
            rest = rest.rstrip()
            return [Thought(rest)] if rest else []
        return [rest] if rest else []

    def _begin(self) -> None:
        seen = self._held.lstrip()
        if seen.startswith(_THINK):
            self._at_start, self._thinking, self._strip = False, True, True
            self._held = seen[len(_THINK) :]
        elif not _THINK.startswith(seen) or len(self._held) > _HELD_LIMIT:
            self._at_start = False
            self._thinking = self._strip = self._prefilled

    def _think(self) -> list[Piece]:
        before, tag, after = self._held.partition(_THOUGHT)
        if tag:
            self._held, self._thinking = after, False
            thought = before.rstrip()
        else:
            thought, self._held = _split_held(before, _THOUGHT)
        if self._strip:
            thought = thought.lstrip()
            self._strip = not thought
        if tag:
            self._strip = True
        return [Thought(thought)] if thought else []

    def _speak(self) -> list[Piece]:
        text, self._held = self._held, ""
        if self._strip:
            text = text.lstrip()
            self._strip = not text
        return [text] if text else []


class ToolCallTags:
    """Finds `<tool_call>{"name":...,"arguments":{...}}</tool_call>`. What is no call inside stays text."""

    def __init__(self) -> None:
        self._held = ""
        self._calling = False
        self._gap = ""  # white space before a call: the template's, unless the call turns out to be text
        self._strip = False  # white space after a call is the template's

    def feed(self, text: str) -> list[Piece]:
        if not (self._held or self._calling or self._strip or "<" in text) and text and not text[-1].isspace():
            return [text]
        seen = len(self._held)
        self._held += text
        pieces: list[Piece] = []
        while True:
            if self._calling:
                end = self._held.find(_CALLED, max(0, seen - len(_CALLED)))
                if end < 0:
                    if len(self._held) > _CALL_LIMIT:
                        pieces.append(self._gap + _CALL + self._held)
                        self._held, self._calling = "", False
                    return pieces
                body, self._held = self._held[:end], self._held[end + len(_CALLED) :]
                call = read_call(body)
                self._calling, self._strip = False, call is not None
                pieces.append(call or self._gap + _CALL + body + _CALLED)
            else:
                before, tag, after = self._held.partition(_CALL)
                if tag:
                    text, self._held, self._calling = before.rstrip(), after, True
                    self._gap = before[len(text) :]
                else:
                    text, self._held = _split_held(before, _CALL)
                if self._strip:
                    text = text.lstrip()
                if text:
                    self._strip = False
                    pieces.append(text)
                if not tag:
                    return pieces
            seen = 0

    def end(self) -> list[Piece]:
        """What was held back, now that nothing follows. A call may lack its closing tag."""
        rest, self._held = self._held, ""
        if self._calling:
            self._calling = False
            return [read_call(rest) or self._gap + _CALL + rest]
        if self._strip:
            rest = rest.lstrip()
        return [rest] if rest else []


class _Call(msgspec.Struct):
    name: str
    arguments: Raw = Raw(b"{}")


_as_call = msgspec.json.Decoder(_Call).decode


def read_call(text: str) -> Called | None:
    """A Hermes call out of its JSON, or None where the text is none."""
    try:
        call = _as_call(text.encode())
        return Called(call.name, json_text(call.arguments)) if call.name else None
    except ValueError:
        return None


def json_text(raw: Raw | None) -> str:
    """Arguments as JSON text, whether they came as an object or as a string that holds one."""
    value = None if raw is None else msgspec.json.decode(raw)
    if value is None:
        return ""
    return value if isinstance(value, str) else str(raw or b"", "utf-8")


def _split_held(text: str, tag: str) -> tuple[str, str]:
    """What may go out, and what must wait: a beginning of `tag` at the end, and the white space before it."""
    kept = 0
    start = text.rfind("<", max(0, len(text) - len(tag) + 1))
    if start >= 0 and tag.startswith(text[start:]):
        kept = len(text) - start
    ready = text[: len(text) - kept].rstrip()
    if len(text) - len(ready) > _HELD_LIMIT:
        ready = text[: len(text) - kept]
    return ready, text[len(ready) :]
