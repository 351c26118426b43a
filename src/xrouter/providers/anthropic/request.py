"""`ChatRequest` -> the body of a POST to `/messages`.

Source: https://docs.anthropic.com/en/api/messages
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from xrouter.core.chat import ChatRequest
from xrouter.core.errors import Invalid

from .messages import Conversation, conversation
from .options import Options
from .tools import is_forced, tools_of

# Ours, told by the pipeline, or said in other words below. What stands nowhere here is dropped and told.
_READ: Final = frozenset(
    {
        "max_completion_tokens", "max_tokens", "messages",
        "modalities", "model", "models", "n", "parallel_tool_calls", "prompt_cache_options", "prompt_cache_retention",
        "reasoning_effort", "response_format", "safety_identifier", "stop", "stream", "stream_options", "temperature",
        "thinking", "tool_choice", "tools", "top_k", "top_p", "user",
    }
)  # fmt: skip
_NO_PARAMETERS: Final = frozenset({"messages", "modalities", "model", "models", "stream", "stream_options"})
_SAMPLING: Final = ("temperature", "top_p", "top_k")
_LEAST_BUDGET: Final = 1024  # tokens; the vendor refuses less
# Our measure of "how much": the vendor's older models know budgets only.
_BUDGETS: Final = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 24576, "max": 32000}
_JSON_ONLY: Final = (
    "Answer with one JSON object and nothing else: no words before or after it, no code fence around it."
)


class VendorRequest(NamedTuple):
    """What goes out. `dropped` and `clamped` as in `Attempt`; `wants_object`: the client wants a JSON object, and the
    vendor was only asked for it in words."""

    body: bytes
    dropped: tuple[str, ...]
    wants_object: bool
    clamped: Mapping[str, float]


def parameters(options: Options) -> frozenset[str]:
    """The names of the parameters that are followed, by the vendor or by us."""
    return _READ - _NO_PARAMETERS - (frozenset() if options.is_old else frozenset(_SAMPLING))


def vendor_request(request: ChatRequest, model: str, options: Options) -> VendorRequest:
    """The request in the vendor's words. Raises `Invalid` for what they cannot say."""
    dropped = [name for name in request.fields if name not in _READ]
    if [kind for kind in request.field("modalities") or () if kind != "text"]:
        raise Invalid("This model answers with text only.", param="modalities")
    wanted = _thinking(request, options, dropped)
    talk = conversation(request.fields["messages"], thinking=wanted is not None)
    tools = tools_of(request, talk.calls, dropped)
    if wanted is not None and (talk.lost_thinking or is_forced(tools)):
        # Both are refused beside thinking. The call matters more.
        dropped.append("reasoning_effort" if "reasoning_effort" in request.fields else "thinking")
        wanted = None
        talk = conversation(request.fields["messages"], thinking=False)
    fields: dict[str, Any] = {"model": model, "max_tokens": _cap(request, options, wanted), "stream": request.stream}
    fields |= tools
    wants_object = _add_format(request, fields, talk)
    fields["messages"] = talk.messages
    if talk.system:
        fields["system"] = talk.system
    if wanted is not None:
        _add_thinking(fields, wanted)
    elif not options.is_old and request.field("reasoning_effort") == "none":
        fields["thinking"] = {"type": "disabled"}
    clamped = _add_sampling(request, fields, options, dropped, thinking=wanted is not None)
    _add_rest(request, fields)
    return VendorRequest(msgspec.json.encode(fields), tuple(dropped), wants_object, clamped)


def _thinking(request: ChatRequest, options: Options, dropped: list[str]) -> dict[str, Any] | None:
    """`thinking` and `effort` of the vendor, or None where the model shall not think (or decides itself). What the
    client says in the vendor's own words wins."""
    if request.prefilled:  # it has thought before, and thinking with a beginning is refused
        return None
    own = request.field("thinking")
    effort = request.field("reasoning_effort")
    if own is not None:
        if not isinstance(own, dict) or own.get("type") not in ("enabled", "disabled", "adaptive", "between_tools"):
            raise Invalid("'thinking' needs a type: enabled, disabled or adaptive.", param="thinking")
        return None if own["type"] == "disabled" else {"thinking": own}
    if effort is None or effort == "none":
        return None
    if not options.is_old:
        return {"thinking": {"type": "adaptive"}, "effort": "low" if effort == "minimal" else effort}
    budget = _BUDGETS[effort]
    if request.max_tokens is not None:
        budget = min(budget, request.max_tokens - 1)
    if budget < _LEAST_BUDGET:
        dropped.append("reasoning_effort")  # there is no room for a thought
        return None
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


def _cap(request: ChatRequest, options: Options, wanted: dict[str, Any] | None) -> int:
    """The cap on the answer, thinking included: a default cap is for what comes after the thinking."""
    if request.max_tokens is not None:
        return request.max_tokens
    budget = (wanted or {}).get("thinking", {}).get("budget_tokens")
    return options.max_tokens + (budget if isinstance(budget, int) else 0)


def _add_thinking(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    fields["thinking"] = wanted["thinking"]
    if "effort" in wanted:
        fields.setdefault("output_config", {})["effort"] = wanted["effort"]


def _add_format(request: ChatRequest, fields: dict[str, Any], talk: Conversation) -> bool:
    """The wished form of the answer. True where a JSON object could only be asked for in words."""
    wanted = request.field("response_format") or {}
    if wanted.get("type") == "json_schema":
        schema = (wanted.get("json_schema") or {}).get("schema")
        if schema is not None:
            fields["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
            return False
    if wanted.get("type") in ("json_object", "json_schema"):
        talk.system.append({"type": "text", "text": _JSON_ONLY})
        return True
    return False


def _add_sampling(
    request: ChatRequest, fields: dict[str, Any], options: Options, dropped: list[str], *, thinking: bool
) -> dict[str, float]:
    """Sampling is gone from newer versions, and older ones refuse it beside thinking. Gives what was clamped: the
    vendor's temperature ends at 1."""
    clamped: dict[str, float] = {}
    for name in _SAMPLING:
        value = request.field(name)
        if value is None:
            continue
        if not options.is_old or thinking:
            dropped.append(name)
        elif name == "temperature" and value > 1:
            fields[name] = clamped[name] = 1
        else:
            fields[name] = value
    return clamped


def _add_rest(request: ChatRequest, fields: dict[str, Any]) -> None:
    stop = request.field("stop")
    if stop:
        stops = [stop] if isinstance(stop, str) else stop
        if not all(one.strip() for one in stops):
            raise Invalid("This model knows no stop sequence of white space alone.", param="stop")
        fields["stop_sequences"] = stops
    user = request.field("safety_identifier") or request.field("user")
    if user:
        fields["metadata"] = {"user_id": _pseudonym(user)}
    options, retention = request.field("prompt_cache_options"), request.field("prompt_cache_retention")
    if options is not None or retention is not None:
        ttl = options.get("ttl") if isinstance(options, dict) else None
        fields["cache_control"] = {"type": "ephemeral", "ttl": "1h" if retention == "24h" or ttl == "1h" else "5m"}


def _pseudonym(user: str) -> str:
    """Tells one user from another without telling who it is."""
    return hashlib.blake2b(user.encode(), digest_size=16, person=b"xrouter-user").hexdigest()
