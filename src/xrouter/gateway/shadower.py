"""Which calls of a route are also sent to its shadow, and what that may cost a day. Pure; the books are read elsewhere.

What was spent is known from the books, which all processes and nodes write and which outlive them, as of the last look;
on top of it comes what this process has spent since, and what its running copies are expected to cost. Before the first
look nothing is copied.
"""

import asyncio
from collections import deque
from random import Random

from xrouter.core.beside import Shadow
from xrouter.core.clock import Clock

DAY_S = 86_400.0

MAX_TOGETHER = 16
"""Copies of one route that one worker has under way; a call that comes then is not copied."""

BOOKED_AFTER_S = 5.0
"""What ended longer ago than this is in the books."""


class Shadower:
    """One for each route with a shadow, in each process. `key_id` is what its attempts stand under in the books."""

    __slots__ = ("_booked_micro", "_clock", "_draw", "_expected_micro", "_recent", "_since", "copies", "key_id",
                 "running", "shadow", "skipped")  # fmt: skip

    def __init__(self, route: str, shadow: Shadow, clock: Clock, seed: int | None = None) -> None:
        self.shadow = shadow
        self.key_id = f"shadow:{route}"
        self.running: set[asyncio.Task[None]] = set()
        self.copies = self.skipped = 0
        self._clock = clock
        self._draw = Random(seed)  # noqa: S311 - picks calls, guards nothing
        self._booked_micro: int | None = None
        self._since = 0.0
        self._expected_micro = 0
        self._recent: deque[tuple[float, int]] = deque()

    def is_drawn(self) -> bool:
        return self._draw.random() * 100 < self.shadow.percent

    def reserve(self, expected_micro: int) -> bool:
        """May one more copy begin, which is expected to cost so much? If so it counts until `ended`."""
        now = self._clock.now()
        if (
            self._booked_micro is None
            or midnight(now) > self._since
            or len(self.running) >= MAX_TOGETHER
            or self.spent_micro() + expected_micro > self.shadow.max_micro_per_day
        ):
            self.skipped += 1
            return False
        self._expected_micro += expected_micro
        self.copies += 1
        return True

    def ended(self, expected_micro: int, cost_micro: int) -> None:
        self._expected_micro -= expected_micro
        self._recent.append((self._clock.now(), cost_micro))

    def spent_micro(self) -> int:
        """Of today, with what is expected of running copies."""
        return (self._booked_micro or 0) + self._expected_micro + sum(cost for _, cost in self._recent)

    def look(self) -> float:
        """A look into the books begins: since when it is to sum up."""
        return midnight(self._clock.now())

    def booked(self, since: float, micro: int) -> None:
        """So much stands in the books since then. What ended just now may be among it or not, and counts twice rather
        than never."""
        self._booked_micro, self._since = micro, since
        done = max(since, self._clock.now() - BOOKED_AFTER_S)
        while self._recent and self._recent[0][0] < done:
            self._recent.popleft()


def midnight(now: float) -> float:
    """The beginning of the day (UTC) in which `now` lies."""
    return now - now % DAY_S
