"""Time as a value that is handed in, so that tests can move it."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where every step takes its time from."""

    def now(self) -> float:
        """Wall clock, seconds since the Unix epoch (UTC)."""
        ...

    def monotonic(self) -> float:
        """Seconds from an arbitrary start; never goes back. The same scale as the event loop's own time."""
        ...


class SystemClock:
    """The machine's clocks."""

    # The functions themselves: a call reads a clock ten times, a stream at each event.
    now = staticmethod(time.time)  # noqa: TID251 - this is the one place that reads the wall clock
    monotonic = staticmethod(time.monotonic)  # noqa: TID251 - and the monotonic one


class ManualClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self._now = now
        self._monotonic = 1_000.0

    def now(self) -> float:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Move both scales forward by `seconds`."""
        self._now += seconds
        self._monotonic += seconds
