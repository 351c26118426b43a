"""How many calls at once a vendor bears, learnt from what it answers: additive increase, multiplicative decrease (AIMD,
as TCP's congestion avoidance in RFC 5681). Pure; time is passed in.

A window that is not known yet is endless: nobody is slowed down before the vendor has said for the first time that it
is too much (429). Then it is a part of what ran at that moment. It grows by one for as many successes as it has places,
and while it is below what was borne before, by one for each. Only a window that is used grows.
"""

from math import inf
from typing import Final

SHRINK: Final = 0.8
"""What is left of it after a 429 or a timeout."""

ENDLESS: Final = 1 << 30


class Window:
    """`limit` is how many calls may run at once, `ENDLESS` while that is not known. `start` and `ceiling` are such
    numbers, 0 for none."""

    __slots__ = ("_borne", "_ceiling", "_shrunk_at", "_size", "limit", "shrinks")

    def __init__(self, start: int = 0, ceiling: int = 0) -> None:
        self._ceiling: float = ceiling or inf
        self._size: float = min(start or inf, self._ceiling)
        self._borne: float = 1.0  # below it the window grows fast: so much went well before
        self._shrunk_at = -inf
        self.shrinks = 0
        self.limit = self._whole()

    def bound(self, ceiling: int) -> None:
        """The operator has set another `ceiling`."""
        new = ceiling or inf
        if new != self._ceiling:
            if self._size == self._ceiling:  # nothing was learnt
                self._size = new
            self._ceiling = new
            self._size = min(self._size, new)
            self.limit = self._whole()

    def succeeded(self, running: int) -> None:
        """A call ended well while `running` calls ran, itself included."""
        if self._size >= self._ceiling or running * 2 < self._size:
            return
        self._size = min(self._ceiling, self._size + (1.0 if self._size < self._borne else 1.0 / self._size))
        self.limit = self._whole()

    def refused(self, began: float, now: float, running: int) -> None:
        """The vendor said that it was too much (429) to a call that `began` then. What began before the window shrank
        last says nothing about its new size; and where no other call ran, it was not the crowd that was refused, but
        what was sent within a minute or a day."""
        if began < self._shrunk_at or running <= 1:
            return
        self._shrink(min(self._size, float(running)), now)
        self._borne = self._size

    def timed_out(self, began: float, now: float) -> None:
        """A call got no answer in time. As long as nothing is known of the vendor's limit, that is no word on it."""
        if began < self._shrunk_at or self._size == inf:
            return
        self._borne = max(self._borne, self._size)
        self._shrink(self._size, now)

    def _shrink(self, size: float, now: float) -> None:
        self._size = max(1.0, size * SHRINK)
        self._shrunk_at = now
        self.shrinks += 1
        self.limit = self._whole()

    def _whole(self) -> int:
        return ENDLESS if self._size == inf else int(self._size + 1e-9)
