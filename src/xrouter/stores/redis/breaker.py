"""Says when something is not worth asking for a while. Pure; one for each process."""

from collections import deque
from typing import Final

from xrouter.core.clock import Clock

ERRORS: Final = 5
WITHIN_S: Final = 10.0


class Breaker:
    """Opens after 5 errors within 10 s, and closes when a probe succeeds: calls are no probes."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._errors: deque[float] = deque(maxlen=ERRORS)
        self.open = False

    def failed(self) -> None:
        """Every error counts, also one that nobody else hears of."""
        now = self._clock.monotonic()
        self._errors.append(now)
        if len(self._errors) == ERRORS and now - self._errors[0] <= WITHIN_S:
            self.open = True

    def trip(self) -> None:
        """It is known to be of no use: open without counting."""
        self.open = True

    def close(self) -> None:
        """A probe has succeeded."""
        self.open = False
        self._errors.clear()
