"""A whole answer: a `message` object -> one `Answer`.

Source: https://docs.anthropic.com/en/api/messages
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from msgspec import Raw

from xrouter.core.chat import Answer, AnswerMessage, Choice, FinishReason, ToolCall
from xrouter.core.errors import ProviderUnavailable, UpstreamError

from .blocks import redacted, signed
from .failures import error_of
from .unfence import Unfencer
from .usage import read_usage

_FINISHES: Final[dict[str, FinishReason]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """How to read one answer. `wants_object`: it should be a bare JSON object."""

    provider: str
    in_band: Callable[[Any], UpstreamError]
    wants_object: bool = False

    def broken(self, what: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.provider} {what}", provider=self.provider)


def finish_reason(native: str) -> FinishReason:
    """Ours for the vendor's; a word nobody knows means that the model stopped."""
    return _FINISHES.get(native, "stop")


def read_answer(body: bytes, reading: Reading) -> Answer:
    """The answer in `body`. Raises `UpstreamError`: one inside the body, or a body that is no answer."""
    try:
        found = msgspec.json.decode(body)
        if error_of(found) is not None:
            raise reading.in_band(found)
        return _answer(found, reading)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise reading.broken(f"answered a broken body: {type(error).__name__}") from None


def _answer(found: Any, reading: Reading) -> Answer:
    native = found["stop_reason"]
    if not isinstance(native, str):
        raise reading.broken("answered without a stop reason")
    said, thought = "", ""
    calls: list[ToolCall] = []
    details: list[Any] = []
    citations: list[Any] = []
    others: list[Any] = []
    for block in found["content"]:
        kind = block["type"]
        if kind == "text":
            said += block["text"]
            citations += block.get("citations") or ()
        elif kind == "thinking":
            thought += block["thinking"]
            details.append(signed(block["thinking"], block.get("signature") or "", len(details)))
        elif kind == "redacted_thinking":
            details.append(redacted(block["data"], len(details)))
        elif kind == "tool_use":
            calls.append(ToolCall(block["id"], block["name"], msgspec.json.encode(block["input"]).decode()))
        else:
            others.append(block)
    if reading.wants_object:
        fence = Unfencer()
        said = fence.feed(said) + fence.end()
    extra = {"reasoning_details": details, "citations": citations, "content_blocks": others}
    message = AnswerMessage(
        content=said or (None if calls else ""),
        tool_calls=tuple(calls),
        reasoning=thought or None,
        extra={name: Raw(msgspec.json.encode(value)) for name, value in extra.items() if value} or None,
    )
    model = found.get("model")
    return Answer(
        (Choice(0, message, finish_reason(native), native, extra=stopped_at(found.get("stop_sequence"))),),
        read_usage(found.get("usage")),
        model if isinstance(model, str) else None,
    )


def stopped_at(sequence: Any) -> dict[str, Raw] | None:
    """Which stop sequence ended the answer, for whoever looks (vLLM calls it `stop_reason`, too)."""
    return {"stop_reason": Raw(msgspec.json.encode(sequence))} if isinstance(sequence, str) else None
