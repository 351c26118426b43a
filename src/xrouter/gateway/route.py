"""Which deployments may serve a request, and in which order. Pure: the same request, catalogue, health and seed give
the same plan.

Here is the way that nearly every call takes: one name, and nothing but an order to choose. Whoever has wishes, rules,
a key that may not use everything, or asks why, goes through `gateway/weighing.py`.
"""

from xrouter.core.call import Call, Request
from xrouter.core.policy import Strategy
from xrouter.gateway import eligibility, situation, strategies, weighing
from xrouter.gateway.breaker import standing
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.group import Group
from xrouter.gateway.health import Health
from xrouter.gateway.output_guess import OutputGuess
from xrouter.gateway.trace import Trace

__all__ = ["Candidate", "plan"]

_UNKNOWN = Health()
_GUESS = OutputGuess()


def plan(
    request: Request,
    catalog: Catalog,
    health: Health = _UNKNOWN,
    call: Call | None = None,
    *,
    guess: OutputGuess = _GUESS,
    seed: int | None = None,
    trace: Trace | None = None,
) -> tuple[Candidate, ...]:
    """The candidates in order: those of `model`, then those of each entry of `models`, each deployment once.

    `call` says who asks and with which wishes; without one nobody in particular asks. `guess` knows how long answers
    usually are. `seed` is the call's own where none is given. `trace` is filled with how the plan came about.

    Raises `NotFound` for an unknown model, in whichever of the two fields it stands, `Invalid` where none of the
    known ones can do it or the request demands what none of them meets, `Forbidden` where the key may use none of them,
    and `NoRoute` where its route demands that.
    """
    if trace is None and not request.models and (call is None or _asks_nothing(call)):
        group = catalog.group(request.model, request.operation)
        found = group.candidates.get(request.operation)
        if found is not None and not group.restricted and eligibility.fits_all(request, group):
            if len(found) == 1:
                return found
            return _balanced(request, group, found, health, call, guess, seed)
    return weighing.plan(
        request, catalog, health, call, guess, situation.seed_of(call) if seed is None else seed, trace
    )


def _asks_nothing(call: Call) -> bool:
    """Nothing but the name decides."""
    caller = call.caller
    return call.preferences is None and not call.strict and not caller.models and caller.operations is None


def _balanced(
    request: Request,
    group: Group,
    found: tuple[Candidate, ...],
    health: Health,
    call: Call | None,
    guess: OutputGuess,
    seed: int | None,
) -> tuple[Candidate, ...]:
    """Candidates that all can and may, in the order of their route, without those who are ejected; whom too many are to
    be left out go last (`breaker.standing`)."""
    now, of = 0.0 if call is None else call.started, health.of
    out = standing([of(one.deployment) for one in found], now)
    left = found if out is None else tuple([found[place] for place in out.healthy])
    policy = group.policy
    if policy.strategy is not Strategy.PRIORITY and left:
        seed = situation.seed_of(call) if seed is None else seed
        seen = situation.look(request, call, policy, health, guess, seed)
        left = tuple(strategies.arrange(policy.strategy, list(left), seen))
    return left if out is None else (*left, *[found[place] for place in out.reserve])
