"""What an attempt used and what it costs. Pure."""

from msgspec import Raw

from xrouter.core.call import Attempt, Phase, State
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.money import Price


def settle(attempt: Attempt) -> None:
    """Fill in `usage` where the vendor gave none and the work is ours to pay, and `cost_micro`.

    The vendor's own report wins. Without one: a success, a stream broken after content was shown, and a call
    that the client left after it was sent are charged for the prompt and for what was received, both counted by
    `estimate_tokens` and flagged; a failure before any content is charged nothing.
    """
    if attempt.usage is None and _is_charged(attempt):
        attempt.usage = Usage(
            input_tokens=prompt_tokens(attempt.call.request),
            output_tokens=estimate_tokens(attempt.output_bytes),
            estimated=True,
        )
    if attempt.usage is not None:
        attempt.cost_micro = cost_micro(attempt.price, attempt.usage)


def cost_micro(price: Price | None, usage: Usage) -> int:
    """What so many tokens cost, in micro-roubles; 0 for an unpriced deployment, whose rows say so."""
    if price is None:
        return 0
    return price.micro(
        input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cached_tokens=usage.cached_tokens
    )


def _is_charged(attempt: Attempt) -> bool:
    if attempt.state is State.SUCCEEDED or attempt.phase is Phase.SHOWN:
        return True
    return attempt.state is State.CANCELLED and attempt.phase is not Phase.CONNECTING


def expected(request: ChatRequest) -> Usage:
    """What a call is known to use before its first byte leaves: the estimated prompt."""
    return Usage(input_tokens=prompt_tokens(request), output_tokens=0, estimated=True)


def prompt_tokens(request: ChatRequest) -> int:
    """Estimated tokens of the messages and tools as they stand in the request."""
    fields = request.fields
    return sum(estimate_tokens(_length(fields[name])) for name in ("messages", "tools") if name in fields)


def _length(raw: Raw) -> int:
    return len(memoryview(raw))


def estimate_tokens(utf8_bytes: int) -> int:
    """Tokens in so many bytes of UTF-8 text, rounded up: one for every 5 bytes.

    Sber's documents give 3-4 characters per token for Russian (6-8 bytes), English runs at about 4
    characters (4 bytes); the request's JSON around the words pulls both towards 5.
    """
    return -(-utf8_bytes // 5)
