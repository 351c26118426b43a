"""Try the candidates in order until one answers; after the first content, another one may only go on with the answer.

Each attempt: hold the vendor's slot, open the record, call the provider under one timer, close the record.
What is not streamed (embeddings, pictures, rerankings) is an answer of one event.
Events before the first content (a role, an empty delta) are held back, so that a deployment which dies
there can still be replaced without the client noticing.
"""

import re
from collections.abc import AsyncGenerator
from functools import partial

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
from xrouter.core.closing import closing
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid, ProviderRefused, ProviderTimeout, ProviderUnavailable
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.ports import ChatProvider, EmbeddingsProvider, ImagesProvider, RerankProvider
from xrouter.core.rerank import Ranking, RerankRequest
from xrouter.gateway import continuation, record, slot
from xrouter.gateway.continuation import Broken
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.route import Candidate
from xrouter.gateway.trials import Trials
from xrouter.gateway.watch import Watch

MAX_HELD_EVENTS = 256
"""Events held back before the first content; a vendor that sends more of them is broken."""

_FILTERED = "content_filter"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,39}")  # a vendor's word, about to be shown to a client
_MAX_NAMES = 5


async def send(
    call: Call, plan: tuple[Candidate, ...], gateway: Gateway, part: Request | None = None, *, beside: bool = False
) -> AsyncGenerator[Piece, None]:
    """The events of the first candidate that answers: to the call's request, or to the `part` of it that is given.

    Raises the last attempt's `UpstreamError` when none did; its metadata lists all attempts. An answer that breaks off
    after content was shown is gone on with where that is possible (`gateway/continuation.py`); else the error is final.
    Where no adapter could put the request into its vendor's terms there was no attempt, and the first one's `Invalid`
    is raised.

    `beside`: one attempt is made, while another one of the call still runs (`gateway/hedge.py`).

    One generator for all of it, because it runs for every event.
    """
    trials, streaming = Trials(call, plan, gateway, part, beside=beside), call.request.stream
    monotonic, deadline = gateway.clock.monotonic, call.deadline
    candidate: Candidate | None = plan[0]
    broken: Broken | None = None
    while candidate is not None:
        attempt = trials.begin(candidate)
        with trials:
            held: list[Piece] = []
            complete = shown = apart = filtered = False  # `apart`: content that nobody can go on with
            note_text, idle_s = attempt.text.write, attempt.deployment.timeouts.idle_s
            async with (
                slot.hold(attempt, gateway),
                (watch := Watch(trials.due(), partial(_timed_out, attempt, gateway))),
                closing(events := _events(attempt, gateway, broken, watch)),
            ):
                async for event in events:
                    kind = type(event)  # content is text, reasoning, a refusal or a tool call: showing it commits us
                    if kind is Delta:
                        text = event.text  # type: ignore[union-attr]
                        content = text != ""
                        note_text(text)
                    elif kind is Reasoning:
                        content = event.text != ""  # type: ignore[union-attr]
                        attempt.output_bytes += len(event.text.encode())  # type: ignore[union-attr]
                    elif kind is ToolDelta:
                        content = apart = True
                        attempt.output_bytes += len(event.name) + len(event.arguments.encode())  # type: ignore[union-attr]
                    elif kind is Refusal:
                        content = event.text != ""  # type: ignore[union-attr]
                        apart = True
                        attempt.output_bytes += len(event.text.encode())  # type: ignore[union-attr]
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
                        if attempt.finish_reason == _FILTERED and (filtered or trials.opens_for(event, broken)):
                            filtered = True  # what is left says what it cost
                            continue
                        shown = True
                        _show(attempt, gateway, resumes=broken is not None)
                        watch.resting = True
                        for early in held:
                            yield early
                    watch.resting = False
                    if content and streaming:
                        due = monotonic() + idle_s
                        if due > deadline:
                            due = deadline
                        if due < watch.due:
                            watch.arm(due)
                        else:  # nearly always
                            watch.due = due
            if not complete:  # whatever the provider let pass
                raise _truncated(attempt)
            if filtered:
                raise _refused(attempt)
            return
        if shown and part is None and not (complete or apart):
            broken = continuation.after(broken, attempt)
            if broken is not None and candidate.policy.continues:
                trials.resume()
        candidate = await trials.next()
    raise trials.error()


def _events(attempt: Attempt, gateway: Gateway, broken: Broken | None, watch: Watch) -> AsyncGenerator[Piece, None]:
    """The provider's answer, begun, or the rest of the one that is `broken`. No generator of its own for a chat: one
    would cost time for every event."""
    provider, request = gateway.providers[attempt.deployment.speaker], attempt.request
    if broken is not None:
        return continuation.events(broken, attempt, provider.chat, partial(_alive, attempt, gateway, watch))
    if type(request) is ChatRequest:
        return provider.chat(request, attempt)
    return _at_once(provider, request, attempt)


def _alive(attempt: Attempt, gateway: Gateway, watch: Watch) -> None:
    """The vendor sends, though nothing that is shown."""
    due = gateway.clock.monotonic() + attempt.deployment.timeouts.idle_s
    watch.arm(min(due, attempt.call.deadline))


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


def _show(attempt: Attempt, gateway: Gateway, *, resumes: bool) -> None:
    """From here on this deployment is the one that answers, or `resumes` an answer under the name that began it."""
    call, now = attempt.call, gateway.clock.monotonic()
    attempt.phase = Phase.SHOWN
    attempt.first_content_at = record.wall(call, now)
    gateway.health.shown(attempt, now)
    if call.request.stream and call.served_model is None:
        gateway.telemetry.first_content(call, now - call.started)
    if resumes:
        call.resumed = True
    else:
        call.served_model = attempt.model


def _truncated(attempt: Attempt) -> ProviderUnavailable:
    provider = attempt.deployment.provider
    return ProviderUnavailable(
        f"{provider} ended its answer before it was complete.",
        provider=provider,
        upstream_status=attempt.upstream_status,
        code="provider_truncated",
    )


def _refused(attempt: Attempt) -> ProviderRefused:
    provider = attempt.deployment.provider
    return ProviderRefused(
        f"{provider} does not answer this: its content filter has taken the answer away.",
        provider=provider,
        upstream_status=attempt.upstream_status,
        code="content_filter",
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
        waited_s = gateway.clock.monotonic() - attempt.began
        waited = f"did not answer within {waited_s:.1f} s; as much of the call's time is kept for another deployment"
    return ProviderTimeout(f"{provider} {waited}.", provider=provider, upstream_status=attempt.upstream_status)
