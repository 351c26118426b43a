"""`POST /api/v1/chat/completions`: OpenAI's body and what OpenRouter adds to it.

Field list: OpenRouter's SDK 1.3.84. What has a word in OpenAI's form is put into it here, so that no vendor's adapter
need know two; what is about the gateway alone is taken out; the rest travels on, and who cannot use it says so.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from xrouter.core.chat import ChatRequest
from xrouter.core.errors import Invalid
from xrouter.core.preferences import Preferences
from xrouter.dialects.openai import chat_request
from xrouter.dialects.openai.fields import Checks, Text, preferred

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


class _Reasoning(Struct):
    effort: Effort | None = None
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    exclude: bool | None = None
    enabled: bool | None = None
    summary: str | None = None


class _UsageOptions(Struct):
    include: bool | None = None


TYPES: dict[str, Any] = chat_request.TYPES | {
    "cache_control": dict[str, Raw],
    "debug": dict[str, Raw],
    "include_reasoning": bool,
    "plugins": list[dict[str, Raw]],
    "reasoning": _Reasoning,
    "route": str,
    "session_id": Text,
    "structured_outputs": bool,
    "top_a": Annotated[float, Meta(ge=0, le=1)],
    "trace": dict[str, Raw],
    "transforms": list[str],
    "usage": _UsageOptions,
}
_CHECKS = Checks(TYPES)
_OURS = ("include_reasoning", "reasoning", "session_id", "trace", "usage")
_BUDGETS: tuple[tuple[int, Effort], ...] = ((0, "none"), (1024, "low"), (8192, "medium"))
"""Tokens of reasoning up to which an effort is the nearest; more is `high`."""


def parse(body: bytes) -> tuple[ChatRequest, Preferences | None, bool]:
    """The request in our words, its wishes for the route, and whether reasoning is to be hidden."""
    fields, values = _CHECKS.read(body)
    reasoning: _Reasoning | None = values.get("reasoning")
    hidden = values.get("include_reasoning") is False or bool(reasoning is not None and reasoning.exclude)
    effort = None if reasoning is None else _effort(reasoning)
    if effort is not None and "reasoning_effort" not in values:
        fields["reasoning_effort"] = Raw(msgspec.json.encode(effort))
    if "session_id" in values:
        fields.setdefault("prompt_cache_key", fields["session_id"])
    if "model" not in values and values.get("models"):
        values["model"], *values["models"] = values["models"]
    wants_usage = "usage" not in values or values["usage"].include is not False  # OpenRouter's streams always have it
    request = chat_request.made({name: raw for name, raw in fields.items() if name not in _OURS}, values)
    if wants_usage and request.stream:
        request = msgspec.structs.replace(request, include_usage=True)
    request, preferences = preferred(request)
    return request, preferences, hidden


def _effort(reasoning: _Reasoning) -> Effort | None:
    """One word for what may be said in three ways. Raises `Invalid` where two of them are used."""
    if reasoning.effort is not None and reasoning.max_tokens is not None:
        raise Invalid("reasoning: give 'effort' or 'max_tokens', not both.", param="reasoning")
    if reasoning.enabled is False:
        return "none"
    if reasoning.effort is not None:
        return reasoning.effort
    if reasoning.max_tokens is not None:
        return next((effort for most, effort in _BUDGETS if reasoning.max_tokens <= most), "high")
    return "medium" if reasoning.enabled else None
