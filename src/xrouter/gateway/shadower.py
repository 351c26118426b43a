"""Which calls of a route are also sent to its shadow, and what that may cost a day. Pure; the books are read elsewhere.

What was spent is known from the books, which all processes and nodes write and which outlive them, as of the last look.
This process's own latest copies, and those that run, are left out of that look, because nobody knows which of them the
books have already: they are counted from memory, once. Before the first look nothing is copied.
"""

import asyncio
from math import inf
from random import Random
from typing import NamedTuple

from xrouter.core.beside import SHADOW_PREFIX, Shadow
from xrouter.core.clock import Clock

DAY_S = 86_400.0

MAX_TOGETHER = 16
"""Copies of one route that one worker has under way; a call that comes then is not copied."""

BOOKED_AFTER_S = 5.0
"""What ended longer ago than this is in the books."""


class Look(NamedTuple):
    """A look into the books that began `at`: to sum up what started from `since` on, `but` for these calls."""

    at: float
    since: float
    but: frozenset[str]


class _Copy(NamedTuple):
    ended_at: float
    micro: int


class Shadower:
    """One for each route with a shadow, in each process. `key_id` is what its attempts stand under in the books."""

    __slots__ = ("_booked_micro", "_clock", "_draw", "_own", "_since", "copies", "key_id", "running", "shadow",
                 "skipped")  # fmt: skip

    def __init__(self, route: str, shadow: Shadow, clock: Clock, seed: int | None = None) -> None:
        self.shadow = shadow
        self.key_id = SHADOW_PREFIX + route
        self.running: set[asyncio.Task[None]] = set()
        self.copies = self.skipped = 0
        self._clock = clock
        self._draw = Random(seed)  # noqa: S311 - picks calls, guards nothing
        self._booked_micro: int | None = None
        self._since = 0.0
        self._own: dict[str, _Copy] = {}  # by the id of the call: running ones, and those that ended lately

    def is_drawn(self) -> bool:
        return self._draw.random() * 100 < self.shadow.percent

    def reserve(self, call_id: str, expected_micro: int) -> bool:
        """May one more copy begin, which is expected to cost so much? If so that counts until `ended`."""
        now = self._clock.now()
        if (
            self._booked_micro is None
            or midnight(now) > self._since
            or len(self.running) >= MAX_TOGETHER
            or self.spent_micro() + expected_micro > self.shadow.max_micro_per_day
        ):
            self.skipped += 1
            return False
        self._own[call_id] = _Copy(inf, expected_micro)
        self.copies += 1
        return True

    def ended(self, call_id: str, cost_micro: int) -> None:
        self._own[call_id] = _Copy(self._clock.now(), cost_micro)

    def spent_micro(self) -> int:
        """Of today, with what is expected of running copies."""
        return (self._booked_micro or 0) + sum(one.micro for one in self._own.values())

    def look(self) -> Look:
        """A look into the books begins."""
        now = self._clock.now()
        since = midnight(now)
        return Look(now, since, frozenset(name for name, one in self._own.items() if not _is_booked(one, now, since)))

    def booked(self, look: Look, micro: int) -> None:
        """So much stands in the books. What was not left out there is counted there from now on."""
        self._booked_micro, self._since = micro, look.since
        self._own = {name: one for name, one in self._own.items() if not _is_booked(one, look.at, look.since)}


def _is_booked(one: _Copy, now: float, since: float) -> bool:
    """Is it in the books for sure, or of a day that does not count any more?"""
    return one.ended_at < max(since, now - BOOKED_AFTER_S)


def midnight(now: float) -> float:
    """The beginning of the day (UTC) in which `now` lies."""
    return now - now % DAY_S
