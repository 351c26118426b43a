"""`GET /api/v1/generation?id=`: what became of one call, as OpenRouter tells it.

Field names: https://openrouter.ai/docs/api-reference/get-a-generation (SDK 1.3.84). Money is in roubles, which
`currency` says.
"""

from decimal import Decimal
from typing import Literal

from pydantic import BaseModel

from xrouter.admin.schemas import Roubles, Timestamp
from xrouter.admin.times import written
from xrouter.core.call import State
from xrouter.core.money import rub_text
from xrouter.core.records import AttemptRecord

_API_TYPES: dict[str, Literal["embeddings", "image", "rerank"]] = {
    "embd": "embeddings",
    "img": "image",
    "rerank": "rerank",
}
"""By how the public id begins; chats and completions are one type."""


class ProviderResponse(BaseModel):
    """One attempt. `latency` is milliseconds to its first content, or to its end where none came."""

    id: str
    provider_name: str
    endpoint_id: str
    model_permaslug: str
    status: int | None
    latency: int | None
    state: State
    error: str | None
    is_byok: bool = False


class GenerationData(BaseModel):
    """`latency` is milliseconds from the start of the call to its first content, `generation_time` from there
    to its end; a non-streamed answer is all latency. Tokens and costs are sums over all attempts, as billed;
    `native_tokens_*` and `tokens_*` are the same numbers: the vendor's own count. `native_finish_reason` is null:
    the books keep the translated reason only."""

    id: str
    model: str
    provider_name: str
    streamed: bool
    cancelled: bool
    created_at: Timestamp
    latency: int | None
    generation_time: int | None
    finish_reason: str | None
    native_finish_reason: str | None
    tokens_prompt: int
    tokens_completion: int
    native_tokens_prompt: int
    native_tokens_completion: int
    native_tokens_reasoning: int
    native_tokens_cached: int
    total_cost: Roubles
    usage: Roubles
    currency: Literal["RUB"] = "RUB"
    is_byok: bool = False
    api_type: Literal["completions", "embeddings", "image", "rerank"]
    request_id: str
    client_request_id: str | None
    provider_responses: list[ProviderResponse]


class Generation(BaseModel):
    data: GenerationData


def generation(attempts: tuple[AttemptRecord, ...]) -> Generation:
    """The call whose attempts these are, in their order; there is at least one."""
    served = next((attempt for attempt in reversed(attempts) if attempt.state is State.SUCCEEDED), attempts[-1])
    first = attempts[0]
    own = [attempt for attempt in attempts if not attempt.on_operator]
    prompt = sum(attempt.input_tokens for attempt in own)
    completion = sum(attempt.output_tokens for attempt in own)
    cost = Decimal(rub_text(sum(attempt.cost_micro for attempt in own)))
    return Generation(
        data=GenerationData(
            id=first.call_id,
            model=served.model,
            provider_name=served.provider,
            streamed=first.streamed,
            cancelled=served.state is State.CANCELLED,
            created_at=written(first.started_at),
            latency=_ms(first.started_at, _first_sign(served)),
            generation_time=_ms(_first_sign(served), served.ended_at),
            finish_reason=served.finish_reason,
            native_finish_reason=None,
            tokens_prompt=prompt,
            tokens_completion=completion,
            native_tokens_prompt=prompt,
            native_tokens_completion=completion,
            native_tokens_reasoning=sum(attempt.reasoning_tokens for attempt in own),
            native_tokens_cached=sum(attempt.cached_tokens for attempt in own),
            total_cost=cost,
            usage=cost,
            api_type=_API_TYPES.get(first.call_id.partition("-")[0], "completions"),
            request_id=first.request_id,
            client_request_id=first.client_request_id,
            provider_responses=[_provider_response(attempt) for attempt in attempts],
        )
    )


def _provider_response(attempt: AttemptRecord) -> ProviderResponse:
    return ProviderResponse(
        id=attempt.id,
        provider_name=attempt.provider,
        endpoint_id=attempt.deployment,
        model_permaslug=attempt.upstream_model,
        status=attempt.upstream_status,
        latency=_ms(attempt.started_at, _first_sign(attempt)),
        state=attempt.state,
        error=attempt.error,
    )


def _first_sign(attempt: AttemptRecord) -> float | None:
    return attempt.ended_at if attempt.first_content_at is None else attempt.first_content_at


def _ms(since: float | None, until: float | None) -> int | None:
    """Milliseconds between two points of wall time, which may have been set back in between."""
    return None if since is None or until is None else max(0, round((until - since) * 1000))
