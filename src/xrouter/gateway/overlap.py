"""What a continuation repeats of the text that it goes on with. Pure.

A model that is asked to go on often says the last words once more, in mid-word it must, and some begin anew. What it
repeats must not be shown twice, and what only looks alike must not be lost. A stream tells one from the other with its
first words: as long as they stand somewhere in the text as they come, they may be a repetition and wait; where they
leave it, they are a repetition if they have gone through to its end.

White space and case do not count, so a repetition that is wrapped or capitalised in another way is still one.
"""

from typing import Final

ENOUGH: Final = 12
"""Characters, white space not counted, that are no coincidence. Shorter repetitions count only as whole words."""

WINDOW: Final = 8192
"""Characters of the text that are looked at, and so the most that ever waits."""

_LETTERS: Final = 6  # of them; a row of dashes says nothing
_SHORTEST: Final = 3
_QUOTED: Final = 48


class Restarted(Exception):
    """The model began the whole answer anew, in other words: what it says cannot be joined to the text."""


class Trimmer:
    """Takes away from the beginning of a continuation what it repeats of `text`. `settled`: nothing waits any longer,
    and whatever comes now is new."""

    __slots__ = ("_blank", "_folded", "_is_whole", "_text", "_waiting", "settled")

    def __init__(self, text: str) -> None:
        self._is_whole = len(text) <= WINDOW
        self._text = text[-WINDOW:]
        self._folded = _fold(self._text)
        self._blank = self._text[len(self._text.rstrip()) :]
        self._waiting = ""
        self.settled = not text

    def feed(self, piece: str) -> str:
        """What of the continuation so far is new and was not given out yet. Raises `Restarted`."""
        if self.settled:
            return piece
        self._waiting += piece
        folded = _fold(self._waiting)
        if len(self._waiting) <= WINDOW and folded in self._folded:
            return ""
        return self._settle(folded)

    def end(self) -> str:
        """The continuation is complete: what still waits of it and is new."""
        return "" if self.settled else self._settle(_fold(self._waiting))

    def _settle(self, folded: str) -> str:
        self.settled = True
        waiting, self._waiting = self._waiting, ""
        place = self._repeated(waiting, folded) or self._words_again(waiting)
        if place:
            return self._after_blank(waiting[place:])
        if self._begins_anew(folded):
            raise Restarted
        return self._after_blank(waiting)

    def _repeated(self, waiting: str, folded: str) -> int:
        """Where in `waiting` that ends which is the end of the text, too; 0 where it may be new."""
        whole = self._folded
        for size in range(min(len(folded), len(whole)), ENOUGH - 1, -1):
            if whole.endswith(folded[:size]):
                return _place(waiting, size) if _says_something(folded[:size]) else 0
        return 0

    def _words_again(self, waiting: str) -> int:
        """The same for a few words that are repeated to the letter. A text that breaks off in a word goes on in it, so
        there the beginning of a word is a repetition; after white space it may be the next word, which says the same.
        """
        text = self._text.rstrip()
        if self._is_whole and text and waiting.startswith(text):
            goes_on = waiting[len(text) : len(text) + 1].isalnum()
            if not (self._blank and goes_on):  # else another word, which begins alike
                return len(text)
        if self._blank or not text[-1:].isalnum() or not waiting[:1].isalnum():
            return 0
        for size in range(min(len(text), len(waiting), 2 * ENOUGH), _SHORTEST - 1, -1):
            start = len(text) - size
            if waiting.startswith(text[start:]) and (not start or not text[start - 1].isalnum()):
                return size
        return 0

    def _begins_anew(self, folded: str) -> bool:
        """Does it begin as the whole text does, and then leave it?"""
        alike = 0
        for one, other in zip(folded, self._folded, strict=False):
            if one != other:
                break
            alike += 1
        return self._is_whole and 2 * ENOUGH <= alike < len(self._folded)

    def _after_blank(self, rest: str) -> str:
        """The same without the white space that the text ends with already."""
        size = 0
        while size < min(len(rest), len(self._blank)) and rest[size] == self._blank[size]:
            size += 1
        return rest[size:]


def last_words(text: str) -> str:
    """The end of a text, from the beginning of a word on: what a model may be asked to begin with. Long enough that
    finding it again is no coincidence."""
    text = text.rstrip()
    start = max(0, len(text) - _QUOTED)
    while 0 < start < len(text) - 2 * ENOUGH and not text[start - 1].isspace():
        start += 1
    return text[start:]


class BlankTrimmer:
    """The same for a model that goes on exactly where the text ends, but was given it without the white space at the
    end: what it repeats of that alone is taken away."""

    __slots__ = ("_left", "settled")

    def __init__(self, text: str) -> None:
        self._left = text[len(text.rstrip()) :]
        self.settled = not self._left

    def feed(self, piece: str) -> str:
        """As in `Trimmer`."""
        at = 0
        while at < len(piece) and self._left and piece[at] == self._left[0]:
            self._left = self._left[1:]
            at += 1
        self.settled = not self._left or at < len(piece)
        return piece[at:]

    def end(self) -> str:
        """As in `Trimmer`: nothing waits."""
        self.settled = True
        return ""


def _says_something(folded: str) -> bool:
    return sum(char.isalnum() for char in folded) >= _LETTERS


def _fold(text: str) -> str:
    """Without white space and case, each other character for one."""
    return "".join([_folded(char) for char in text if not char.isspace()])


def _folded(char: str) -> str:
    low = char.lower()
    return low if len(low) == 1 else char


def _place(text: str, count: int) -> int:
    """Where in `text` its first `count` characters end, white space not counted."""
    for at, char in enumerate(text):
        if not char.isspace():
            count -= 1
            if not count:
                return at + 1
    return len(text)
