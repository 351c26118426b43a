"""Stop sequences for a vendor without them: the answer ends before the first one."""

from collections.abc import Sequence


class StopCutter:
    """Takes the answer in any cut, gives what may be shown. `hit` once a stop sequence was found.

    Holds back only the beginning of a possible stop sequence at the end of the text.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = stops
        self._held = ""
        self.hit = False

    def feed(self, text: str) -> str:
        if self.hit or not self._stops:
            return "" if self.hit else text
        text = self._held + text
        # The one that was complete first, whatever the cut: the others never came to be written.
        found = [(place + len(stop), place) for stop in self._stops if (place := text.find(stop)) >= 0]
        if found:
            self.hit, self._held = True, ""
            return text[: min(found)[1]]
        kept = max(self._overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - kept :]
        return text[: len(text) - kept]

    def end(self) -> str:
        """What was held back, now that nothing follows."""
        rest, self._held = self._held, ""
        return rest

    @staticmethod
    def _overlap(text: str, stop: str) -> int:
        """The length of the longest beginning of `stop` that ends the text."""
        for length in range(min(len(stop) - 1, len(text)), 0, -1):
            if text.endswith(stop[:length]):
                return length
        return 0
