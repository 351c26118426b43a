"""What the order of a call's candidates is made from, looked up once. Pure."""

from typing import Final

from msgspec import Struct

from xrouter.core.call import Call, Request
from xrouter.core.chat import ChatRequest
from xrouter.core.policy import Policy, Strategy
from xrouter.gateway import draws, meter, rules
from xrouter.gateway.health import Health
from xrouter.gateway.output_guess import OutputGuess
from xrouter.gateway.trace import Trace


class Situation(Struct, frozen=True):
    """`now` is on the monotonic clock, `wall` the same moment since the epoch. The tokens are those that the request is
    expected to take. `sticky` is what the choice sticks to, 64 bits, None for nothing."""

    health: Health
    seed: int = 0
    now: float = 0.0
    wall: float = 0.0
    input_tokens: int = 0
    output_tokens: int = 0
    sticky: int | None = None
    trace: Trace | None = None


_PRICED: Final = frozenset({Strategy.CHEAPEST, Strategy.PRICE_WEIGHTED})


def look(
    request: Request,
    call: Call | None,
    policy: Policy,
    health: Health,
    guess: OutputGuess,
    seed: int,
    trace: Trace | None = None,
) -> Situation:
    """The situation, with as much of it as the policy's strategy reads."""
    priced = policy.strategy in _PRICED
    found = Situation(
        health,
        seed,
        0.0 if call is None else call.started,
        0.0 if call is None else call.started_at,
        meter.prompt_tokens(request) if priced else 0,
        _expected_output(request, guess) if priced else 0,
        _sticky(request, call, policy) if policy.strategy is Strategy.STICKY else None,
        trace,
    )
    if trace is not None and priced:
        trace.tokens = (found.input_tokens, found.output_tokens)
    return found


def seed_of(call: Call | None) -> int:
    """A call's own seed; 0 where nobody in particular asks."""
    return 0 if call is None else draws.seed_of(call.id)


def _expected_output(request: Request, guess: OutputGuess) -> int:
    """What the client allows, else what answers of this model usually take; nothing but a chat has any."""
    return (request.max_tokens or guess.of(request.model)) if isinstance(request, ChatRequest) else 0


def _sticky(request: Request, call: Call | None, policy: Policy) -> int | None:
    """The first of the route's words that the request has a value for."""
    for by in policy.sticky:
        number = rules.stick(by, request, call)
        if number:
            return number
    return None
