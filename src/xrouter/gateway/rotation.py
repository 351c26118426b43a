"""Which of several credentials of one provider is asked first: the least busy one; of those that are as busy, each by
its weight in turn. One that should get no calls comes last."""

from itertools import groupby

from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.ports import Slots
from xrouter.gateway.health import Health
from xrouter.gateway.route import Candidate

_Plan = tuple[Candidate, ...]


def spread(plan: _Plan, rota: "Rota") -> _Plan:
    """The same candidates: where several credentials for one model stand next to each other, in the order in which
    they are to be asked. What a strategy has put apart stays apart."""
    if len(plan) == 1 or not any(candidate.deployment.account for candidate in plan):
        return plan
    spread: list[Candidate] = []
    for _, group in groupby(plan, _model):
        same = list(group)
        spread += rota.in_order(same) if len(same) > 1 else same
    return tuple(spread)


def _model(candidate: Candidate) -> tuple[str, str]:
    return candidate.model, candidate.deployment.id


class Rota:
    """Remembers how often each account was first, in proportion to its weight: start-time fair queueing
    (https://doi.org/10.1109/90.649569), in which `reached` is the virtual time of a provider."""

    __slots__ = ("_clock", "_firsts", "_health", "_reached", "_slots")

    def __init__(self, slots: Slots, health: Health, clock: Clock) -> None:
        self._slots = slots
        self._health = health
        self._clock = clock
        self._firsts: dict[str, float] = {}
        self._reached: dict[str, float] = {}

    def in_order(self, same: list[Candidate]) -> list[Candidate]:
        """`same` are those of one model, each with another account."""
        firsts, provider = self._firsts, same[0].deployment.provider
        reached = self._reached.get(provider, 0.0)
        for one in same:  # who comes, or comes back, does not make up for what the others have had meanwhile
            firsts[one.deployment.account] = max(firsts.get(one.deployment.account, reached), reached)
        now = self._clock.monotonic()
        same.sort(
            key=lambda one: (
                self._health.ejected(one.deployment, now) is not None,
                self._busy(one.deployment),
                firsts[one.deployment.account],
            )
        )
        first = same[0].deployment
        self._reached[provider] = firsts[first.account]
        firsts[first.account] += 1 / first.weight
        return same

    def _busy(self, deployment: Deployment) -> float:
        busy = self._slots.load(deployment.credential) or self._health.of(deployment).in_flight
        return busy / deployment.weight
