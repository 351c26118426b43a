"""Shadow traffic: a copy of a call goes to another model, beside it; the answer is thrown away, the record is kept.

It never delays the call and never fails it: what cannot be sent is left out. Its cost is the operator's, and bounded.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec

from xrouter.core.call import Call, Caller, Piece, Scope
from xrouter.core.closing import closing
from xrouter.core.errors import GatewayError
from xrouter.core.ids import ulid
from xrouter.core.policy import Policy
from xrouter.gateway import deadline, dispatch, meter, route, rules
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.route import Candidate
from xrouter.gateway.shadower import Shadower

_MOST_BUSY = 0.5
"""A credential that is busier than this keeps its slots for clients."""


def copy(call: Call, gateway: Gateway) -> None:
    """Send a copy of `call`, if its route has a shadow, this call is drawn, and nothing stands against it."""
    shadower = gateway.shadows.get(gateway.catalog.plain(call.request.model))
    if shadower is None or not shadower.is_drawn():
        return
    plan = _plan(call, shadower, gateway)
    if not plan:
        return
    double = _double(call, shadower, gateway)
    deadline.begin(double, plan)
    expected_micro = _expected_micro(double, plan[0], gateway)
    if shadower.reserve(double.id, expected_micro):
        task = asyncio.get_running_loop().create_task(_run(double, plan, shadower, gateway))
        shadower.running.add(task)
        task.add_done_callback(shadower.running.discard)


def _plan(call: Call, shadower: Shadower, gateway: Gateway) -> tuple[Candidate, ...]:
    """Who may get the copy: whom its caller may use and its route allows (regions, tags), and nobody whose slots
    clients need."""
    request = msgspec.structs.replace(call.request, model=shadower.shadow.model, models=())
    try:
        plan = route.plan(request, gateway.catalog, gateway.health, call, guess=gateway.output_guess)
    except GatewayError:
        return ()
    policy, slots = _policy(call, gateway), gateway.slots
    return tuple(
        one
        for one in plan
        if (policy.regions is None or one.deployment.region in policy.regions)
        and policy.with_tags <= one.deployment.tags
        and (not one.deployment.max_concurrency or slots.load(one.deployment.credential) < _MOST_BUSY)
    )


def _policy(call: Call, gateway: Gateway) -> Policy:
    """The route of the call itself, with the rule that holds for it."""
    policy = gateway.catalog.group(call.request.model, call.request.operation).policy
    rule = rules.first(policy.rules, call.request, call) if policy.rules else None
    return policy if rule is None else rules.changed(policy, rule)


def _double(call: Call, shadower: Shadower, gateway: Gateway) -> Call:
    """A call of its own, in the operator's name."""
    clock = gateway.clock
    return Call(
        id=f"shadow-{ulid()}",
        request=msgspec.structs.replace(call.request, model=shadower.shadow.model, models=()),
        caller=Caller(shadower.key_id, "shadow", frozenset({Scope.MODELS})),
        request_id=call.request_id,
        started_at=clock.now(),
        started=clock.monotonic(),
        dialect=call.dialect,
        cut_by="server_shutdown",
        on_operator=True,
        may_continue=False,
    )


def _expected_micro(call: Call, candidate: Candidate, gateway: Gateway) -> int:
    price = candidate.deployment.price
    if price is None:
        return 0
    guessed = gateway.output_guess.of(call.request.model)
    usage = msgspec.structs.replace(meter.expected(call.request), output_tokens=guessed)
    return meter.cost_micro(price.at(call.started_at), usage)


async def _run(call: Call, plan: tuple[Candidate, ...], shadower: Shadower, gateway: Gateway) -> None:
    try:
        with suppress(Exception):  # the record says what went wrong; nobody waits to hear of it
            await _read(dispatch.send(call, plan[:1], gateway, beside=True))
    finally:
        shadower.ended(call.id, sum(attempt.cost_micro for attempt in call.attempts))


async def _read(events: AsyncGenerator[Piece, None]) -> None:
    async with closing(events):
        async for _ in events:
            pass
