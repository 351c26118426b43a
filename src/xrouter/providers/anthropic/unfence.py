"""Takes the code fence off a JSON object: models put one around it, whatever they were asked."""

import re

_OPENING = re.compile(r"\s*```(?:json|JSON)?[ \t]*\r?\n")
_MAYBE_OPENING = re.compile(r"\s*(?:`{0,2}|```(?:j(?:s(?:on?)?)?|J(?:S(?:ON?)?)?)?[ \t]*\r?)")
_CLOSING = re.compile(r"\s*```\s*\Z")
_MAYBE_CLOSING = re.compile(r"\s*`{0,3}\s*\Z")


class Unfencer:
    """Feed it text in any cut; what it gives does not depend on the cut. Without a fence the text stays as it is."""

    def __init__(self) -> None:
        self._held = ""
        self._at_start = True
        self._fenced = False

    def feed(self, text: str) -> str:
        if not self._at_start and not self._fenced:
            return text
        self._held += text
        if self._at_start:
            opening = _OPENING.match(self._held)
            if opening is None and _MAYBE_OPENING.fullmatch(self._held):
                return ""
            self._at_start, self._fenced = False, opening is not None
            if opening is None:
                ready, self._held = self._held, ""
                return ready
            self._held = self._held[opening.end() :]
        end = _MAYBE_CLOSING.search(self._held)
        kept = end.start() if end else len(self._held)
        ready, self._held = self._held[:kept], self._held[kept:]
        return ready

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        rest, self._held = self._held, ""
        if not self._fenced:
            return rest
        return _CLOSING.sub("", rest)
