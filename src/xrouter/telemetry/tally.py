"""Counts that are on their way into Prometheus: added here at each call, moved there four times a second.

A count in prometheus_client takes a lock, a check of its kind and five Python calls; a call makes thirteen of them,
which were 8 % of all that the gateway does for it. Everything here runs on the event loop, so no count needs a lock.
"""

from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from prometheus_client import Counter, Gauge, Histogram

Add = Callable[[float], None]


class Tallies:
    """What was counted since the last `fold`. A process that is killed takes at most that with it."""

    def __init__(self) -> None:
        self._sums: dict[Counter | Gauge, _Sum] = {}
        self._spreads: dict[Histogram, _Spread] = {}

    def count(self, child: Counter | Gauge) -> Add:
        """Adds to a counter or gauge. One tally for each child, however often it is asked for."""
        found = self._sums.get(child)
        if found is None:
            found = self._sums[child] = _Sum(child)
        return found.add

    def observe(self, child: Histogram) -> Add:
        """Adds an observation to a histogram."""
        found = self._spreads.get(child)
        if found is None:
            found = self._spreads[child] = _Spread(child)
        return found.add

    def fold(self) -> None:
        """Bring Prometheus up to date."""
        for total in self._sums.values():
            total.fold()
        for spread in self._spreads.values():
            spread.fold()


class _Sum:
    __slots__ = ("_child", "_sum")

    def __init__(self, child: Counter | Gauge) -> None:
        self._child = child
        self._sum = 0.0

    def add(self, amount: float) -> None:
        self._sum += amount

    def fold(self) -> None:
        if self._sum:
            self._child.inc(self._sum)
            self._sum = 0.0


class _Spread:
    __slots__ = ("_bounds", "_child", "_counts", "_sum")

    def __init__(self, child: Histogram) -> None:
        self._child: Any = child  # the library has no word for several observations at once: see `fold`
        self._bounds: list[float] = self._child._upper_bounds
        self._counts = [0] * len(self._bounds)
        self._sum = 0.0

    def add(self, amount: float) -> None:
        self._counts[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def fold(self) -> None:
        """What `Histogram.observe` does for one observation, for all of them; a test compares the two."""
        for place, count in enumerate(self._counts):
            if count:
                self._child._buckets[place].inc(count)
                self._counts[place] = 0
        if self._sum:
            self._child._sum.inc(self._sum)
            self._sum = 0.0
