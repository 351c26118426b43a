"""The vendor's word for the end of an answer -> ours."""

from xrouter.core.chat import FINISH_REASONS, FinishReason

_SYNONYMS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "max_output_tokens": "length",
    "model_length": "length",
    "tool_use": "tool_calls",
    "tool_call": "tool_calls",
    "safety": "content_filter",
    "sensitive": "content_filter",
}
# The upstream gave up in the middle: OpenRouter says `error`, vLLM `abort`, DeepSeek that it lacks resources.
BROKEN = frozenset({"error", "abort", "insufficient_system_resource"})


def finish_reason(native: str) -> FinishReason:
    """One of the closed set; a word nobody knows means that the model stopped."""
    if native in FINISH_REASONS:
        return native  # type: ignore[return-value]  # just checked
    return _SYNONYMS.get(native.lower(), "stop")
