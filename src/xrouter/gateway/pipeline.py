"""READ FIRST: the journey of a call, in order.

The door (a dialect) calls `admit` with the headers before it reads the body, then `converse` with the decoded request,
turns the events into its own bytes, and calls `end` when the last of them is out. Each step is one module of this
package.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable

from xrouter.core.call import Call, Caller, Piece, Scope
from xrouter.core.closing import closing
from xrouter.core.errors import GatewayError
from xrouter.gateway import (
    authenticate,
    deadline,
    decide,
    dispatch,
    fan_out,
    hedge,
    limits,
    rotation,
    route,
    shadow,
)
from xrouter.gateway.gateway import Gateway


async def admit(
    credential: str | None, gateway: Gateway, address: Callable[[], str | None], scope: Scope = Scope.MODELS
) -> Caller:
    """Who calls, decided from the headers alone. `address` gives the client's own, where that matters."""
    return await authenticate.check(credential, scope, gateway.keys, gateway.clock, address)


def converse(call: Call, gateway: Gateway) -> AsyncGenerator[Piece, None]:
    """The events of one call; what is not streamed is one event. Whoever iterates must close:
    `async with closing(events := converse(...))`.

    The record of each attempt is written by `dispatch` whichever way this ends. No generator of its own: as long
    as no step stands between `dispatch` and the dialect, one would only cost time for every call and event.
    """
    wait = limits.admit(call, gateway)
    if wait is not None:
        return _after(wait, call, gateway)
    try:
        plan = route.plan(call.request, gateway.catalog, gateway.health, call, guess=gateway.output_guess)
        decide.note(call, plan, gateway)
        plan = rotation.spread(plan, gateway.rota)
        deadline.begin(call, plan)
        parts, plan = fan_out.split(call.request, plan)
    except GatewayError:
        limits.refund(call)
        raise
    if gateway.shadows:
        shadow.copy(call, gateway)
    if parts:
        return fan_out.send(call, parts, plan, gateway)
    if gateway.hedgers and call.request.stream:
        return hedge.send(call, plan, gateway)
    return dispatch.send(call, plan, gateway)


async def _after(wait: Callable[[], Awaitable[None]], call: Call, gateway: Gateway) -> AsyncGenerator[Piece, None]:
    """The same once the call is admitted."""
    await wait()
    async with closing(events := converse(call, gateway)):
        async for event in events:
            yield event


def end(call: Call, gateway: Gateway) -> None:
    """The call is over, whichever way it ended, and even if it never came to `converse`. Awaits nothing."""
    limits.release(call, gateway)
