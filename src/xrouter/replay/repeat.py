"""Makes a noted decision again (`core/decision.py`): a request, a caller and vitals as the choice saw them, and the
choice. What the client said is not needed: texts of the same length stand for it."""

from collections.abc import Mapping
from typing import Final

import msgspec
from msgspec import Raw

from xrouter.core.call import Call, Caller, Request
from xrouter.core.chat import ChatRequest
from xrouter.core.decision import Asked, Asker, Decision, Explanation, Seen
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import GatewayError
from xrouter.core.images import ImagesRequest
from xrouter.core.operation import Operation
from xrouter.core.rerank import RerankRequest
from xrouter.core.vitals import Samples, Vitals
from xrouter.gateway import eligibility, explain, route
from xrouter.gateway.candidate import Candidate
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.gateway.output_guess import OutputGuess
from xrouter.gateway.trace import Trace

_STICKS: Final = ("session", "user", "prompt")
_BYTES_PER_TOKEN: Final = 5
"""As `meter.estimate_tokens` counts them."""
_BEFORE, _AFTER = b'[{"role":"user","content":"', b'"}]'


def order(decision: Decision, catalog: Catalog) -> tuple[str, ...]:
    """The keys of the deployments that this catalogue would try, in their order. Raises `GatewayError` where it would
    refuse the request."""
    call, health, guess = _given(decision)
    plan = route.plan(call.request, catalog, health, call, guess=guess, seed=decision.seed)
    return tuple([one.deployment.key for one in plan])


def noted(decision: Decision) -> tuple[str, ...]:
    """The keys of the deployments that were to be tried, in their order."""
    return tuple([decision.seen[number].key for number in decision.order])


def explanation(decision: Decision, catalog: Catalog) -> Explanation:
    """How this catalogue chooses. It never raises `GatewayError`: a refusal is a choice, too, and `error` of it."""
    call, health, guess = _given(decision)
    trace, error = Trace(seed=decision.seed), None
    plan: tuple[Candidate, ...] = ()
    try:
        plan = route.plan(call.request, catalog, health, call, guess=guess, seed=decision.seed, trace=trace)
    except GatewayError as refusal:
        error = refusal.message
    return explain.told(plan, trace, catalog, health, decision.now, error)


def _given(decision: Decision) -> tuple[Call, Health, OutputGuess]:
    call = Call(
        request=_request(decision.asked),
        caller=_caller(decision.asker),
        request_id="",
        id="",
        started_at=decision.wall,
        started=decision.now,
        strict=decision.asker.strict,
        tags=decision.asker.tags,
        preferences=decision.asker.preferences,
        session=decision.asker.session,
        sticks={by: decision.asker.sticks.get(by, 0) for by in _STICKS},
    )
    return call, Remembered({one.key: one for one in decision.seen}), _Guess(decision.asked.output_guess)


def _caller(asker: Asker) -> Caller:
    return Caller(
        key_id="",
        name=asker.key,
        scopes=frozenset(),
        organisation_id=asker.organisation,
        team_id=asker.team,
        user_id=asker.user,
        models=asker.models,
        operations=None if asker.operations is None else frozenset(map(Operation, asker.operations)),
    )


def _request(asked: Asked) -> Request:
    """One that the choice cannot tell from the one that was."""
    operation = Operation(asked.operation)
    fields = {name: Raw(b"null") for name in asked.fields}
    if asked.metadata:
        fields["metadata"] = Raw(msgspec.json.encode(asked.metadata))
    if asked.json_schema:
        fields["response_format"] = Raw(b'{"type":"json_schema"}')
    if operation is Operation.CHAT:
        if asked.tools_bytes:
            fields["tools"] = Raw(b"[]".ljust(asked.tools_bytes))
        if asked.messages_bytes:
            fields["messages"] = Raw(_messages(asked))
        if asked.max_tokens is not None:
            name = "max_completion_tokens" if "max_completion_tokens" in fields else "max_tokens"
            fields[name] = Raw(b"%d" % asked.max_tokens)
        return ChatRequest(
            model=asked.model,
            stream=asked.stream,
            fields=fields,
            models=asked.models,
            inputs=frozenset(asked.inputs),
        )
    text = "x" * (asked.prompt_tokens * _BYTES_PER_TOKEN)
    if operation is Operation.EMBEDDINGS:
        return EmbeddingsRequest(asked.model, (text,), fields, models=asked.models)
    if operation is Operation.IMAGES:
        return ImagesRequest(asked.model, text, fields, models=asked.models)
    return RerankRequest(asked.model, "", (text,), fields, models=asked.models)


def _messages(asked: Asked) -> bytes:
    """JSON of the same length, whose text takes as many tokens; all of it is text where nobody counted them."""
    room = max(0, asked.messages_bytes - len(_BEFORE) - len(_AFTER))
    if asked.least_tokens is not None:
        room = min(room, max(0, asked.least_tokens - (asked.max_tokens or 0)) * eligibility.BYTES_PER_TOKEN)
    return (_BEFORE + b"x" * room + _AFTER).ljust(asked.messages_bytes)


class Remembered(Health):
    """The vitals as they were seen; of a deployment that nobody has seen nothing is known."""

    __slots__ = ("_seen",)

    def __init__(self, seen: Mapping[str, Seen]) -> None:
        super().__init__()
        self._seen = seen

    def of(self, deployment: Deployment) -> Vitals:
        seen = self._seen.get(deployment.key)
        if seen is None:
            return Vitals(deployment.key)
        return Vitals(
            key=seen.key,
            in_flight=seen.in_flight,
            ttft_s=seen.ttft_s,
            tokens_per_s=seen.tokens_per_s,
            failures=seen.failures,
            last_failure_at=seen.last_failure_at,
            ejected=seen.ejected,
            ejected_until=seen.ejected_until,
            ttft_samples=Percentiles(known=seen.ttft, shares=(50, 75, 90, 99)) if seen.ttft else Samples(),
            rate_samples=Percentiles(known=seen.rate, shares=(50, 25, 10, 1)) if seen.rate else Samples(),
            ttft_at=seen.ttft_at,
        )

    def ejected(self, deployment: Deployment, now: float) -> str | None:
        seen = self._seen.get(deployment.key)
        return None if seen is None else seen.ejected


class Percentiles(Samples):
    """Those that were noted stand for the samples."""

    known: tuple[float | None, ...] = ()
    shares: tuple[int, ...] = ()

    def percentile(self, share: float) -> float | None:
        return self.known[self.shares.index(round(share * 100))]


class _Guess(OutputGuess):
    def __init__(self, known: int) -> None:
        super().__init__()
        self._known = known

    def of(self, model: str) -> int:
        return self._known
