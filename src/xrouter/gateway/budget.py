"""How many attempts may be repeats: a vendor who is down must not get three times the load.

Source: Finagle's retry budget, https://finagle.github.io/blog/2016/02/08/retry-budgets/.
"""

from typing import Final

from msgspec import Struct, field

SHARE: Final = 0.2
"""Of the calls of the last ten seconds, so many may be repeated."""

TTL_S: Final = 10
FLOOR_PER_S: Final = 1.0
FLOOR_BURST: Final = 3.0
"""And besides, for whoever has few calls: one each second, three at once."""


class RetryBudget(Struct, eq=False):
    """One group's. `seconds` holds for each second its number, the calls begun and the repeats drawn from them."""

    seconds: list[list[int]] = field(default_factory=lambda: [[-1, 0, 0] for _ in range(TTL_S)])
    floor: float = FLOOR_BURST
    floor_at: float = 0.0

    def called(self, now: float) -> None:
        """A call has begun."""
        second = int(now)
        bucket = self.seconds[second % TTL_S]
        if bucket[0] == second:
            bucket[1] += 1
        else:
            bucket[:] = second, 1, 0

    def draw(self, now: float) -> bool:
        """One repeat, if there is one left."""
        oldest = int(now) - TTL_S
        calls = drawn = 0
        for second, made, repeats in self.seconds:
            if second > oldest:
                calls += made
                drawn += repeats
        if drawn + 1 <= calls * SHARE:
            self._note(int(now))
            return True
        self.floor = min(FLOOR_BURST, self.floor + (now - self.floor_at) * FLOOR_PER_S)
        self.floor_at = now
        if self.floor < 1.0:
            return False
        self.floor -= 1.0
        return True

    def _note(self, second: int) -> None:
        bucket = self.seconds[second % TTL_S]
        if bucket[0] != second:
            bucket[:] = second, 0, 0
        bucket[2] += 1
