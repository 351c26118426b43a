"""Try the candidates in order until one answers; fail over until the first content, never after.

Each attempt: hold the vendor's slot, open the record, call the provider under one timer, close the record.
What is not streamed (embeddings, pictures, rerankings) is an answer of one event.
Events before the first content (a role, an empty delta) are held back, so that a deployment which dies
there can still be replaced without the client noticing.
"""

import asyncio
import re
from collections.abc import AsyncGenerator
from functools import partial
from types import TracebackType

from xrouter.core.call import Attempt, Call, Phase, Piece, Request
from xrouter.core.chat import (
    Answer,
    ChatRequest,
    Delta,
    Finish,
    Reasoning,
    Refusal,
    ToolDelta,
    Usage,
)
from xrouter.core.closing import UNBOUND, Unbound, closing
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid, ProviderRateLimited, ProviderTimeout, ProviderUnavailable, UpstreamError
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.ports import ChatProvider, EmbeddingsProvider, ImagesProvider, RerankProvider
from xrouter.core.rerank import Ranking, RerankRequest
from xrouter.gateway import record, retry
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.route import Candidate
from xrouter.gateway.watch import Watch

MIN_REMAINING_S = 1.0
"""A further attempt is pointless with less time than this left."""

MAX_HELD_EVENTS = 256
"""Events held back before the first content; a vendor that sends more of them is broken."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")  # a vendor's word, about to be shown to a client
_MAX_NAMES = 5


async def send(
    call: Call, plan: tuple[Candidate, ...], gateway: Gateway, part: Request | None = None
) -> AsyncGenerator[Piece, None]:
    """The events of the first candidate that answers: to the call's request, or to the `part` of it that is given.

    Raises the last attempt's `UpstreamError` when none did; its metadata lists all attempts. After content
    was shown an error is final. Where no adapter could put the request into its vendor's terms there was no
    attempt, and the first one's `Invalid` is raised.

    One generator for all of it, because it runs for every event.
    """
    trials, streaming, clock = _Trials(call, plan, gateway, part), call.request.stream, gateway.clock
    candidate: Candidate | None = plan[0]
    while candidate is not None:
        attempt = trials.begin(candidate)
        with trials:
            held: list[Piece] = []
            complete = shown = False
            async with (
                _slot(attempt, gateway),
                (watch := Watch(trials.due(), partial(_timed_out, attempt, gateway))),
                closing(events := _events(attempt, gateway)),
            ):
                async for event in events:
                    kind = type(event)  # content is text, reasoning, a refusal or a tool call: showing it commits us
                    if kind is Delta or kind is Reasoning or kind is Refusal:
                        content = bool(event.text)  # type: ignore[union-attr]
                        attempt.output_bytes += len(event.text.encode())  # type: ignore[union-attr]
                    elif kind is ToolDelta:
                        content = True
                        attempt.output_bytes += len(event.name) + len(event.arguments.encode())  # type: ignore[union-attr]
                    else:
                        content = False
                        complete = _note(attempt, event) or complete
                    if shown:
                        watch.resting = True
                        yield event
                    else:
                        held.append(event)
                        attempt.phase = Phase.BODY
                        if not (content or complete):
                            _check_held(held, attempt)
                            continue
                        shown = True
                        _show(attempt, gateway)
                        watch.resting = True
                        for early in held:
                            yield early
                    watch.resting = False
                    if content and streaming:
                        due = clock.monotonic() + attempt.deployment.timeouts.idle_s
                        watch.arm(due if due < call.deadline else call.deadline)
            if not complete:  # whatever the provider let pass
                raise _truncated(attempt)
            return
        candidate = await trials.next()
    raise trials.error()


class _Trials:
    """Who was tried and what became of it. As a context, it closes the attempt that runs: writes its record, and
    swallows what another attempt may mend."""

    __slots__ = ("_allowed", "_attempt", "_call", "_candidate", "_due", "_failure", "_gateway", "_made", "_part",
                 "_plan", "_refusal", "_tries")  # fmt: skip

    _attempt: Attempt
    _candidate: Candidate

    def __init__(self, call: Call, plan: tuple[Candidate, ...], gateway: Gateway, part: Request | None) -> None:
        self._call = call
        self._plan = plan
        self._gateway = gateway
        self._part = part
        self._tries: dict[Candidate, int] = {}
        self._due: dict[Candidate, float] = {}  # when a candidate may be asked once more
        self._allowed = plan
        self._made = 0
        self._failure: UpstreamError | None = None
        self._refusal: Invalid | None = None

    def begin(self, candidate: Candidate) -> Attempt:
        """The next attempt. To be used as: `with trials`."""
        self._candidate = candidate
        self._tries[candidate] = self._tries.get(candidate, 0) + 1
        self._attempt = record.begin(self._call, candidate, self._gateway, self._part)
        return self._attempt

    def due(self) -> float:
        """Until when the running attempt may take for its first content.

        A whole answer shows no sign of life before it is there, so a silent vendor would eat the whole deadline:
        with another candidate to spare it gets half of what is left.
        """
        began, deadline = self._attempt.began, self._call.deadline
        if self._call.request.stream:
            return min(deadline, began + self._attempt.deployment.timeouts.first_s)
        has_spare = self._made + 1 < retry.MAX_ATTEMPTS and len(self._tries) < len(self._plan)
        return (began + deadline) / 2 if has_spare else deadline

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        attempt, candidate = self._attempt, self._candidate
        self._made += record.end(attempt, error, self._gateway)
        if isinstance(error, UpstreamError):
            self._failure = error
        elif isinstance(error, Invalid):
            self._refusal = self._refusal or error
        else:
            return False
        verdict = retry.judge(error, attempt.phase, self._tries[candidate])
        self._due.pop(candidate, None)
        if verdict.same:
            self._due[candidate] = self._gateway.clock.monotonic() + verdict.wait_s
        self._allowed = self._plan if verdict.other else (candidate,)
        return True

    async def next(self) -> Candidate | None:
        """The next candidate: an untried one at once, else the repeatable one that is due first, after its wait. As
        long as there was no attempt, there is no lack of time either: nothing has been waited for."""
        clock, tries = self._gateway.clock, self._tries
        remaining_s = self._call.deadline - clock.monotonic()
        if self._made >= retry.MAX_ATTEMPTS or (self._made and remaining_s < MIN_REMAINING_S):
            return None
        for candidate in self._allowed:
            if candidate not in tries:
                return candidate
        repeatable = {
            one: at for one, at in self._due.items() if one in self._allowed and tries[one] < retry.MAX_PER_DEPLOYMENT
        }
        if not repeatable:
            return None
        candidate = min(repeatable, key=repeatable.__getitem__)
        wait_s = max(0.0, repeatable[candidate] - clock.monotonic())
        if remaining_s - wait_s < MIN_REMAINING_S:
            return None
        await asyncio.sleep(wait_s)
        return candidate

    def error(self) -> UpstreamError | Invalid:
        """What the client is told when nobody answered."""
        if self._failure is None:
            assert self._refusal is not None, "the trials end by an answer or an error"
            return self._refusal
        self._failure.metadata["attempts"] = [_account(one) for one in self._call.attempts]
        return self._failure


def _slot(attempt: Attempt, gateway: Gateway) -> "_Slot | Unbound":
    """Holds one of the vendor's slots, if it has a limit."""
    return _Slot(attempt, gateway) if attempt.deployment.max_concurrency > 0 else UNBOUND


class _Slot:
    """Holds one of the vendor's slots; waits for it until the call's deadline. The attempt begins when it is held."""

    __slots__ = ("_attempt", "_clock", "_hold")

    def __init__(self, attempt: Attempt, gateway: Gateway) -> None:
        deployment = attempt.deployment
        self._attempt = attempt
        self._clock = gateway.clock
        self._hold = gateway.slots.hold(deployment.credential, deployment.max_concurrency, attempt.call.deadline)

    async def __aenter__(self) -> None:
        try:
            await self._hold.__aenter__()
        except TimeoutError:
            deployment = self._attempt.deployment
            raise ProviderRateLimited(
                f"{deployment.provider} serves {deployment.max_concurrency} calls at once for this account, and none "
                "of them ended before this call's deadline. Try again, or add an account or a fallback model.",
                provider=deployment.provider,
                code="provider_busy",
                retry_after_s=1.0,
            ) from None
        self._attempt.began = self._clock.monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hold.__aexit__(kind, error, trace)


def _events(attempt: Attempt, gateway: Gateway) -> AsyncGenerator[Piece, None]:
    """The provider's answer, begun. No generator of its own for a chat: one would cost time for every event."""
    provider, request = gateway.providers[attempt.deployment.provider], attempt.request
    if type(request) is ChatRequest:
        return provider.chat(request, attempt)
    return _at_once(provider, request, attempt)


async def _at_once(provider: ChatProvider, request: Request, attempt: Attempt) -> AsyncGenerator[Piece, None]:
    """The answer to what is never streamed, as the only event. Raises `Invalid` where the operator's file promises
    what the provider's format has no words for."""
    if isinstance(request, EmbeddingsRequest) and isinstance(provider, EmbeddingsProvider):
        yield await provider.embed(request, attempt)
    elif isinstance(request, ImagesRequest) and isinstance(provider, ImagesProvider):
        yield await provider.draw(request, attempt)
    elif isinstance(request, RerankRequest) and isinstance(provider, RerankProvider):
        yield await provider.rerank(request, attempt)
    else:
        raise Invalid(
            f"{attempt.deployment.provider} cannot be asked for {request.operation}: its wire format has no such call.",
            code="model_not_supported",
            param="model",
        )


def _check_held(held: list[Piece], attempt: Attempt) -> None:
    """Raises `ProviderUnavailable` when so many events came without any content."""
    if len(held) > MAX_HELD_EVENTS:
        provider = attempt.deployment.provider
        raise ProviderUnavailable(
            f"{provider} sent {MAX_HELD_EVENTS} events without any content." + _unread(held), provider=provider
        )


def _unread(held: list[Piece]) -> str:
    """The names of what the provider filled instead of content: its reasoning may have a name we do not know."""
    names = dict.fromkeys(
        name for event in held if isinstance(event, Delta) for name in event.extra or () if _NAME.fullmatch(name)
    )
    return f" It filled fields that are not read: {', '.join([*names][:_MAX_NAMES])}." if names else ""


def _note(attempt: Attempt, event: Piece) -> bool:
    """Take what the record needs from an event without text; True when the answer is complete with it."""
    if isinstance(event, Usage):
        attempt.usage = event
    elif isinstance(event, Finish):
        attempt.finish_reason = event.reason
        return True
    elif isinstance(event, Answer):
        attempt.usage = event.usage
        for choice in event.choices:
            message = choice.message
            attempt.finish_reason = choice.finish_reason
            for text in (message.content, message.reasoning, message.refusal):
                if text:
                    attempt.output_bytes += len(text.encode())
            for one in message.tool_calls:
                attempt.output_bytes += len(one.arguments.encode())
        return True
    elif isinstance(event, Embeddings | Images | Ranking):
        attempt.usage = event.usage
        if isinstance(event, Images):
            attempt.units = len(event.images)
        return True
    return False


def _show(attempt: Attempt, gateway: Gateway) -> None:
    """From here on this deployment is the one that answers."""
    call, now = attempt.call, gateway.clock.monotonic()
    attempt.phase = Phase.SHOWN
    attempt.first_content_at = record.wall(call, now)
    if call.request.stream and call.served_model is None:
        gateway.telemetry.first_content(call, now - call.started)
    call.served_model = attempt.model


def _truncated(attempt: Attempt) -> ProviderUnavailable:
    provider = attempt.deployment.provider
    return ProviderUnavailable(
        f"{provider} ended its answer before it was complete.",
        provider=provider,
        upstream_status=attempt.upstream_status,
        code="provider_truncated",
    )


def _timed_out(attempt: Attempt, gateway: Gateway) -> ProviderTimeout:
    provider, limits = attempt.deployment.provider, attempt.deployment.timeouts
    if gateway.clock.monotonic() >= attempt.call.deadline:
        waited = f"did not finish before the call's deadline ({attempt.call.deadline - attempt.call.started:g} s)"
    elif attempt.phase is Phase.SHOWN:
        waited = f"stalled: no content for {limits.idle_s:g} s"
    elif attempt.call.request.stream:
        waited = f"sent no content within {limits.first_s:g} s"
    else:
        waited = "did not answer within half of the time that was left, and another deployment is tried"
    return ProviderTimeout(f"{provider} {waited}.", provider=provider, upstream_status=attempt.upstream_status)


def _account(attempt: Attempt) -> dict[str, object]:
    """One attempt as the error's metadata tells it."""
    return {
        "provider": attempt.deployment.provider,
        "model": attempt.deployment.id,
        "status": attempt.upstream_status,
        "error": attempt.error,
        "attempt_id": attempt.id,
    }
