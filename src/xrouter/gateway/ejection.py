"""Leaves out whose deployment is ejected: half of the plan at most for its failures, and never everybody. Pure."""

from xrouter.gateway.breaker import standing
from xrouter.gateway.health import Health
from xrouter.gateway.route import Candidate


def narrow(plan: tuple[Candidate, ...], health: Health, now: float) -> tuple[Candidate, ...]:
    """Who may be tried at the monotonic `now`: the healthy ones in their order, then those who are ejected and
    could not be left out."""
    if len(plan) == 1:
        return plan
    found = standing([health.of(one.deployment) for one in plan], now)
    return plan if found is None else tuple([plan[place] for place in (*found.healthy, *found.reserve)])
