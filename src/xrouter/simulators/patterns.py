"""Text that matches a simple regular expression.

Understands literals, escapes, classes, groups, alternatives and quantifiers: what JSON Schemas use. Whatever it
makes is checked with `re` before it is handed out, so an expression it misunderstands gives None, never a lie.
"""

import re
import string
import warnings
from functools import lru_cache
from random import Random
from typing import Final

_TRIES: Final = 24
_MAX_REPEATS: Final = 1_000
_SETS: Final = {
    "d": string.digits,
    "w": string.ascii_lowercase + string.digits + "_",
    "s": " ",
    "D": string.ascii_lowercase,
    "W": "-",
    "S": string.ascii_lowercase,
}
_CONTROLS: Final = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v"}
_PRINTABLE: Final = string.ascii_letters + string.digits + " _-.,:;!?@#%&+=/"


@lru_cache(1024)
def compiled(pattern: str) -> re.Pattern[str] | None:
    """The expression as Python reads it, None if it cannot."""
    with warnings.catch_warnings():
        # What reads oddly to Python is the business of whoever wrote the schema.
        warnings.simplefilter("ignore")
        try:
            return re.compile(pattern)
        except (re.error, OverflowError, RecursionError):
            return None


def sample(pattern: str, rng: Random, min_length: int = 0, max_length: int | None = None) -> str | None:
    """A string of allowed length in which `pattern` is found (JSON Schema does not anchor), or None."""
    expression = compiled(pattern)
    if expression is None:
        return None
    for attempt in range(_TRIES):
        # Later tries repeat more, until a lower bound on the length is met.
        spread = 2 if attempt < _TRIES // 3 else max(2, min(_MAX_REPEATS, min_length))
        try:
            text = _Writer(pattern, rng, spread).alternatives()
        except (IndexError, ValueError):
            return None
        if len(text) < min_length:
            text = _padded(text, pattern, min_length)
        if (max_length is None or len(text) <= max_length) and len(text) >= min_length and expression.search(text):
            return text
    return None


def _padded(text: str, pattern: str, length: int) -> str:
    padding = "x" * (length - len(text))
    return text + padding if not pattern.endswith("$") else padding + text


class _Writer:
    """Reads the expression from left to right and writes what it asks for."""

    def __init__(self, pattern: str, rng: Random, spread: int) -> None:
        self._pattern = pattern
        self._at = 0
        self._rng = rng
        self._spread = spread

    def alternatives(self) -> str:
        options = [self._sequence()]
        while self._peek() == "|":
            self._at += 1
            options.append(self._sequence())
        return self._rng.choice(options)

    def _sequence(self) -> str:
        parts = []
        while self._peek() not in {"", "|", ")"}:
            start = self._at
            part = self._atom()
            end = self._at
            least, most = self._quantifier()
            count = self._rng.randint(least, most)
            parts.append(part if count else "")
            after = self._at
            for _ in range(count - 1):
                self._at = start
                parts.append(self._atom())
            self._at = after if after > end else end
        return "".join(parts)

    def _atom(self) -> str:
        char = self._next()
        if char == "(":
            if self._peek() == "?":
                self._group_kind()
            text = self.alternatives()
            self._next()
            return text
        if char == "[":
            return self._rng.choice(self._class())
        if char == "\\":
            return self._escape()
        if char == ".":
            return self._rng.choice(string.ascii_lowercase)
        return "" if char in {"^", "$"} else char

    def _group_kind(self) -> None:
        self._next()
        kind = self._next()
        if kind == "P" or (kind == "<" and self._peek() not in {"=", "!"}):
            while self._next() != ">":
                pass
        elif kind != ":":
            raise ValueError("looks around")

    def _escape(self) -> str:
        char = self._next()
        if char in _SETS:
            return self._rng.choice(_SETS[char])
        if char in {"b", "B", "A", "Z"}:
            return ""
        if char.isdigit():
            raise ValueError("refers back")
        return self._literal(char)

    def _literal(self, char: str) -> str:
        if char in {"x", "u"}:
            digits = 2 if char == "x" else 4
            code = self._pattern[self._at : self._at + digits]
            self._at += digits
            return chr(int(code, 16))
        return _CONTROLS.get(char, char)

    def _class(self) -> str:
        negated = self._peek() == "^"
        if negated:
            self._at += 1
        chars = ""
        first = True
        while first or self._peek() != "]":
            first = False
            char = self._next()
            if char == "\\":
                char = self._next()
                if char in _SETS:
                    chars += _SETS[char]
                    continue
                char = self._literal(char)
            if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in {"]", ""}:
                self._at += 1
                last = self._next()
                last = self._literal(self._next()) if last == "\\" else last
                # A wide range is not written out: its first hundred characters are enough to choose from.
                chars += "".join(map(chr, range(ord(char), min(ord(last), ord(char) + 99) + 1)))
            else:
                chars += char
        self._at += 1
        if negated:
            chars = "".join(char for char in _PRINTABLE if char not in chars)
        if not chars:
            raise ValueError("an empty class")
        return chars

    def _quantifier(self) -> tuple[int, int]:
        char = self._peek()
        bounds = {"?": (0, 1), "*": (0, self._spread), "+": (1, max(1, self._spread))}.get(char)
        if bounds is not None:
            self._at += 1
        elif char == "{" and (found := re.compile(r"\{(\d+)(,(\d*))?\}").match(self._pattern, self._at)):
            self._at = found.end()
            least = int(found[1])
            most = least if found[2] is None else int(found[3]) if found[3] else least + self._spread
            if least > _MAX_REPEATS:
                raise ValueError("repeats too often")
            bounds = (least, min(most, _MAX_REPEATS))
        else:
            return 1, 1
        if self._peek() in {"?", "+"}:
            self._at += 1
        return bounds

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._pattern[self._at]
        self._at += 1
        return char
