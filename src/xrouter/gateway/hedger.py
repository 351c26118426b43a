"""When a second attempt for the first token is made, and how many there may be. Pure."""

from xrouter.core.beside import Hedge
from xrouter.gateway.health import Health
from xrouter.gateway.route import Candidate

PERCENTILE = 0.95
MIN_SAMPLES = 20
"""Fewer streams than this say nothing about the slowest of them."""

MAX_CREDIT = 10.0
"""Second attempts that may be saved up: so many at once when all deployments become slow."""

_ROUNDING = 1e-9


class Hedger:
    """One for each route that hedges, in each process."""

    __slots__ = ("_credit", "_hedge", "calls", "made", "won")

    def __init__(self, hedge: Hedge) -> None:
        self._hedge = hedge
        self._credit = 0.0
        self.calls = self.made = self.won = 0

    @property
    def hedge(self) -> Hedge:
        """What the route says of it."""
        return self._hedge

    def after_s(self, first: Candidate, health: Health) -> float | None:
        """A call comes: how long its first attempt may be silent. None while that is not known."""
        self.calls += 1
        self._credit = min(MAX_CREDIT, self._credit + self._hedge.budget_percent / 100)
        if self._hedge.after_s is not None:
            return self._hedge.after_s
        samples = health.of(first.deployment).ttft_samples
        return samples.percentile(PERCENTILE) if samples.count >= MIN_SAMPLES else None

    def spend(self) -> bool:
        """Is there budget for one more second attempt? If so it is spent."""
        if self._credit + _ROUNDING < 1.0:
            return False
        self._credit -= 1.0
        self.made += 1
        return True
