"""Which of several credentials of one provider is asked first: the least busy one; of those that are as busy, each by
its weight in turn."""

from itertools import groupby

from xrouter.core.ports import Slots
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
    """Remembers how often each account was first, in proportion to its weight."""

    __slots__ = ("_firsts", "_slots")

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._firsts: dict[str, float] = {}

    def in_order(self, same: list[Candidate]) -> list[Candidate]:
        """`same` are those of one model, each with another account."""
        firsts = self._firsts
        known = [firsts[one.deployment.account] for one in same if one.deployment.account in firsts]
        fresh = min(known, default=0.0)  # a newcomer does not make up for what the others have had before it came
        same.sort(key=lambda one: (self._busy(one), firsts.get(one.deployment.account, fresh)))
        first = same[0].deployment
        firsts[first.account] = firsts.get(first.account, fresh) + 1 / first.weight
        return same

    def _busy(self, candidate: Candidate) -> float:
        deployment = candidate.deployment
        return self._slots.load(deployment.credential) / deployment.weight
