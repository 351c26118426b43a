"""What an attempt used and what it costs. Pure."""

from collections.abc import Iterable

from msgspec import Raw

from xrouter.core.call import Attempt, Call, Phase, Request, State
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.money import Price
from xrouter.core.rerank import RerankRequest


def settle(attempt: Attempt) -> None:
    """Fill in `usage` where the vendor gave none and the work is ours to pay, and `cost_micro`.

    The vendor's own report wins. Without one: a success, a stream broken after content was shown, and a call
    that the client left after it was sent are charged for the prompt and for what was received, both counted by
    `estimate_tokens` and flagged; a failure before any content is charged nothing.
    """
    if attempt.usage is None and _is_charged(attempt):
        attempt.usage = Usage(
            input_tokens=prompt_tokens(attempt.request),
            output_tokens=estimate_tokens(attempt.output_bytes),
            estimated=True,
        )
    if attempt.usage is not None:
        attempt.cost_micro = cost_micro(attempt.price, attempt.usage, attempt.units)


def used(call: Call) -> Usage | None:
    """What the attempts that answered used, all parts of a call together; None where nobody could say. Where one
    went on with what another had begun, both answered: the sum is what is billed, prompts included."""
    attempts = call.attempts
    if len(attempts) == 1:  # nearly always
        return attempts[0].usage if attempts[0].state is State.SUCCEEDED else None
    resumed = call.resumed
    reports = [
        one.usage
        for one in attempts
        if one.usage is not None and (one.state is State.SUCCEEDED or (resumed and one.phase is Phase.SHOWN))
    ]
    if len(reports) < 2:
        return reports[0] if reports else None
    return Usage(
        input_tokens=sum(one.input_tokens for one in reports),
        output_tokens=sum(one.output_tokens for one in reports),
        cached_tokens=sum(one.cached_tokens for one in reports),
        cache_write_tokens=sum(one.cache_write_tokens for one in reports),
        reasoning_tokens=sum(one.reasoning_tokens for one in reports),
        estimated=any(one.estimated for one in reports),
    )


def unpriced(call: Call) -> bool:
    """Whether something was used that nobody gave a price: then the cost is not all of it."""
    for one in call.attempts:  # noqa: SIM110 - asked twice for every answer: a generator would cost more than the rest
        if one.price is None and one.usage is not None:
            return True
    return False


def cost_micro(price: Price | None, usage: Usage, images: int = 0) -> int:
    """What so many tokens and pictures cost, in micro-roubles; 0 for an unpriced deployment, whose rows say so."""
    if price is None:
        return 0
    return price.micro(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cached_tokens,
        images=images,
    )


def _is_charged(attempt: Attempt) -> bool:
    if attempt.state is State.SUCCEEDED or attempt.phase is Phase.SHOWN:
        return True
    return attempt.state is State.CANCELLED and attempt.phase is not Phase.CONNECTING


def expected(request: Request) -> Usage:
    """What a call is known to use before its first byte leaves: the estimated prompt."""
    return Usage(input_tokens=prompt_tokens(request), output_tokens=0, estimated=True)


def prompt_tokens(request: Request) -> int:
    """Estimated tokens of what the model reads: messages and tools as they stand in the request, the inputs, the
    prompt of a picture, or each document once with the query, as a reranker reads them."""
    if isinstance(request, ChatRequest):
        fields = request.fields
        messages, tools = fields.get("messages"), fields.get("tools")
        return (0 if messages is None else estimate_tokens(_length(messages))) + (
            0 if tools is None else estimate_tokens(_length(tools))
        )
    if isinstance(request, EmbeddingsRequest):
        return _tokens_of(request.inputs)
    if isinstance(request, RerankRequest):
        return _tokens_of(request.documents) + _tokens_of([request.query]) * len(request.documents)
    return _tokens_of([request.prompt])


def _tokens_of(texts: Iterable[str]) -> int:
    return sum(estimate_tokens(len(text.encode())) for text in texts)


def _length(raw: Raw) -> int:
    return len(memoryview(raw))


def estimate_tokens(utf8_bytes: int) -> int:
    """Tokens in so many bytes of UTF-8 text, rounded up: one for every 5 bytes.

    Sber's documents give 3-4 characters per token for Russian (6-8 bytes), English runs at about 4
    characters (4 bytes); the request's JSON around the words pulls both towards 5.
    """
    return -(-utf8_bytes // 5)
