"""A thought in the middle of an answer: a server that does not tell its reasoning apart writes it as text, in tags,
where it goes on with somebody else's answer. Pure. See `gateway/continuation.py`."""

from typing import Final

LONGEST: Final = 1 << 20
"""Characters of one thought. Nothing of it is kept."""

_OPENS: Final = "<think>"
_CLOSES: Final = "</think>"


class Endless(Exception):
    """The thought is not closed: whether an answer stands in it nobody knows."""


class Thought:
    """Takes away a thought, with its tags and the white space around it, from the beginning of what goes on with
    `text`, and nothing where `text` itself breaks off inside of one. `passed`: whatever comes now is the answer."""

    __slots__ = ("_after", "_inside", "_size", "_waiting", "passed")

    def __init__(self, text: str) -> None:
        self.passed = text.rfind(_OPENS) > text.rfind(_CLOSES)
        self._waiting = ""
        self._inside = self._after = False
        self._size = 0

    def feed(self, piece: str) -> str:
        """What of it belongs to the answer. Raises `Endless`."""
        if self.passed:
            return piece
        self._waiting += piece
        if not self._inside and not self._after:
            begun = self._waiting.lstrip()
            if _OPENS.startswith(begun):  # too early to tell, where it is not all of it
                self._inside = begun == _OPENS
            elif begun.startswith(_OPENS):
                self._inside = True
            else:
                return self._pass(self._waiting)
            if not self._inside:
                return ""
        if self._inside:
            self._size += len(piece)
            _, closed, rest = self._waiting.partition(_CLOSES)
            if not closed:
                if self._size > LONGEST:
                    raise Endless
                self._waiting = self._waiting[1 - len(_CLOSES) :]
                return ""
            self._inside, self._after, self._waiting = False, True, rest
        self._waiting = self._waiting.lstrip()
        return self._pass(self._waiting) if self._waiting else ""

    def end(self) -> str:
        """The continuation is complete: what still waits, and was no thought. Raises `Endless`."""
        if self._inside:
            raise Endless
        return self._pass(self._waiting)

    def _pass(self, rest: str) -> str:
        self.passed, self._waiting = True, ""
        return rest
