"""`json_object` for a vendor without it: asked for in words, and the answer is held to it."""

import re
from typing import Final

import msgspec

INSTRUCTION: Final = "Ответь одним объектом JSON: без пояснений, без Markdown, без текста до и после него."
_MARKS: Final = re.compile(r'["\\{}]')


class ObjectCutter:
    """Takes the answer in any cut, gives its first JSON object and nothing around it: models like to put it between
    fences, or to announce it."""

    def __init__(self) -> None:
        self._before = ""
        self._pieces: list[str] = []
        self._depth = 0
        self._in_string = False
        self._skip = False  # the next character stands behind a backslash
        self._whole = False

    def feed(self, text: str) -> str:
        """What may be shown of the next piece."""
        if self._whole or not text:
            return ""
        if not self._pieces:
            before, brace, rest = text.partition("{")
            self._before += before
            if not brace:
                return ""
            text = brace + rest
        text = self._until_balanced(text)
        self._pieces.append(text)
        return text

    def _until_balanced(self, text: str) -> str:
        at = 1 if self._skip else 0
        self._skip = False
        while (mark := _MARKS.search(text, at)) is not None:
            char, at = mark[0], mark.end()
            if char == '"':
                self._in_string = not self._in_string
            elif char == "\\":
                at += 1  # in a string; elsewhere it is no JSON, and `is_object` will say so
            elif not self._in_string:
                self._depth += 1 if char == "{" else -1
                if self._depth == 0:
                    self._whole = True
                    return text[:at]
        self._skip = at > len(text)
        return text

    def rest(self) -> str:
        """What was held back, where the answer ended before an object began."""
        return "" if self._pieces else self._before

    def is_object(self) -> bool:
        """Was what was shown a JSON object?"""
        if not self._whole:
            return False
        try:
            msgspec.json.decode("".join(self._pieces))
        except (ValueError, RecursionError):
            return False
        return True
