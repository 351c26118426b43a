"""Does the caller have room for this call? All limits of its key, user, team and organisation must pass, and those that
these have for each end user or tag.

Decided from what this process holds, without waiting (`gateway/limiter.py`). Only where that is used up and several
nodes count together, or for a limit that is exact, the call waits for one answer of the shared counters.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final

from xrouter.core.call import Call, Request
from xrouter.core.chat import ChatRequest
from xrouter.core.errors import NotFound, RateLimited
from xrouter.core.limits import Draw
from xrouter.gateway import limit_words, meter
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.limiter import TICK_S, Hand, Held, Limiter, Plan, Refusal

HURRY_S: Final = 0.02
"""Pause between two times of giving back what cannot wait for the tick."""

_MOST_TOKENS: Final = 10**8
"""Of one call: a vendor's count beyond it is nonsense, and must not lock its caller out for years."""


def admit(call: Call, gateway: Gateway) -> Callable[[], Awaitable[None]] | None:
    """Take the call's part of its caller's limits; `release` gives back what it does not use.

    Raises `RateLimited`. Where it returns something, the call must wait for that first, which raises the same.
    """
    caller = call.caller
    if not (caller.limits or caller.each) or call.hold is not None:
        return None
    limiter, request = gateway.limiter, call.request
    models = (request.model, *request.models) if request.models else request.model
    plan = limiter.plan(caller, models, lambda asked: _names(asked, request, gateway), call.end_user, call.tags)
    if not plan.hands:
        return None
    tokens = _reserve(request, gateway) if plan.tokens else 0
    if not limiter.take(plan, tokens):
        if limiter.shares:
            return partial(_ask, call, limiter, plan, tokens)
        refusal = limiter.take_near(plan, tokens)
        if refusal is not None:
            raise _refused(limiter, plan, refusal)
    call.hold = Held(limiter, plan, tokens)
    return None


def release(call: Call, gateway: Gateway) -> None:
    """The call has ended, whichever way. Synchronous, and once: the second time does nothing."""
    hold, call.hold = call.hold, None
    if hold is None:
        return
    used = 0
    for attempt in call.attempts:
        usage = attempt.usage
        if usage is not None and not attempt.on_operator:
            used += max(0, usage.input_tokens) + max(0, usage.output_tokens)
            if not usage.estimated:
                gateway.output_guess.learn(call.request.model, usage.output_tokens)
    hold.settle(min(used, _MOST_TOKENS), _reached(call) if hold.by_model else ())


def refund(call: Call) -> None:
    """The call is refused by what comes after its limits, before anything was sent: it has used none of them."""
    if call.hold is not None:
        call.hold.refund()


async def keep(limiter: Limiter) -> None:
    """What runs beside the calls: gives back what is not used."""
    urgent = asyncio.Event()
    limiter.on_urgent = urgent.set
    loop = asyncio.get_running_loop()
    tick_at = loop.time() + TICK_S
    while True:
        try:
            async with asyncio.timeout_at(tick_at):
                await urgent.wait()
        except TimeoutError:
            limiter.tick()
            tick_at = loop.time() + TICK_S
        else:
            await asyncio.sleep(HURRY_S)
            urgent.clear()
            limiter.hurry()


def _names(models: str | tuple[str, ...], request: Request, gateway: Gateway) -> list[str]:
    """Every id that a request for `models` may be served by: the names themselves, and the deployments behind them. A
    limit for a model holds under its aliases, too, and for one that is asked for as a fallback."""
    found: list[str] = []
    for name in (models,) if isinstance(models, str) else models:
        found.append(name)
        try:
            found += [one.id for one in gateway.catalog.deployments(name, request.operation)]
        except NotFound:  # routing will say so
            continue
    return found


def _reached(call: Call) -> list[str]:
    """What the call asked for, and whom it was sent to; nothing where it was sent to nobody. An alias may lead to a
    model that a limit is for, and be served by another one."""
    sent = [name for one in call.attempts if not one.on_operator for name in (one.model, one.deployment.id)]
    return [call.request.model, *sent] if sent else []


def _reserve(request: Request, gateway: Gateway) -> int:
    """The tokens that a call may use: its prompt, and as much output as it asks for or as is usual."""
    tokens = meter.prompt_tokens(request)
    if isinstance(request, ChatRequest):
        tokens += sum(meter.estimate_tokens(len(prompt.encode())) for prompt in request.prompts[1:])
        output = request.max_tokens or gateway.output_guess.of(request.model)
        tokens += output * (request.field("n") or 1) * max(1, len(request.prompts))
    return min(tokens, _MOST_TOKENS)


def _refused(limiter: Limiter, plan: Plan, refusal: Refusal) -> RateLimited:
    error = limit_words.refused(refusal.limit, refusal.wait_s)
    error.headers = tuple(limiter.headers(plan))
    return error


async def _ask(call: Call, limiter: Limiter, plan: Plan, tokens: int) -> None:
    """Wait for the shared counters. Before the call is refused, other processes are asked for what they do not use."""
    draws, hands = limiter.missing(plan, tokens)
    refusal = limiter.surely_refused(hands, draws)
    if refusal is None:
        refusal = await _Waiting(limiter, plan, tokens).answer(draws, hands)
        if refusal is not None and limiter.shares and (wait_s := limiter.recall(hands)):
            await asyncio.sleep(wait_s)
            refusal = await _Waiting(limiter, plan, tokens).answer(*limiter.missing(plan, tokens))
            if refusal is None:
                limiter.recall_helped(hands)
    if refusal is not None:
        raise _refused(limiter, plan, refusal)
    call.hold = Held(limiter, plan, tokens)


class _Waiting:
    """One call that waits for an answer of the shared counters."""

    def __init__(self, limiter: Limiter, plan: Plan, tokens: int) -> None:
        self._limiter = limiter
        self._plan = plan
        self._tokens = tokens
        self._future: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()

    @property
    def waits(self) -> bool:
        return not self._future.done()

    def __call__(self, refusal: Refusal | None) -> None:
        self._future.set_result(refusal)

    async def answer(self, draws: Sequence[Draw], hands: Sequence[Hand]) -> Refusal | None:
        """None: admitted, and used. A caller that is cancelled meanwhile has used nothing but a request."""
        if not draws and self._limiter.take(self._plan, self._tokens):
            return None
        self._limiter.ask(self._plan, self._tokens, draws, hands, self)
        try:
            return await self._future
        except asyncio.CancelledError:
            if self._future.done() and not self._future.cancelled() and self._future.result() is None:
                self._limiter.settle(self._plan, self._tokens, 0)  # admitted in the very moment we left
            raise
