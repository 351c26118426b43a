"""`ChatRequest` -> the body and headers of GigaChat's `POST /v1/chat/completions`."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from xrouter.core.chat import ChatRequest, Tool
from xrouter.core.errors import Invalid

from .messages import vendor_messages
from .schema import vendor_schema

_encode = msgspec.json.Encoder().encode

# Sent as they are. The last three are the vendor's own.
_SAME = ("top_p", "max_tokens", "repetition_penalty", "profanity_check", "update_interval")
_READ = frozenset(
    {
        "messages", "temperature", "max_tokens", "max_completion_tokens", "tools", "tool_choice", "functions",
        "function_call", "response_format", "reasoning_effort", "stop", "n", "prompt_cache_key", "modalities",
        "model", "models", "stream", "stream_options", *_SAME,
    }
)  # fmt: skip
# Parameters the vendor lacks, with the values that ask for nothing: there is nothing to report then.
# GigaChat never calls in parallel; `metadata` and `store` are the gateway's own business.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "parallel_tool_calls": (True, False),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
_GATEWAY_ONLY = frozenset({"metadata"})
_EFFORTS = {"low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}
_JSON_PLEASE = "Ответь одним объектом JSON: без пояснений, без Markdown, без текста до и после него."
_BUILT_IN = "web_search"
_HEADER_SAFE = re.compile(r"[!-~]{1,128}")


class VendorRequest(NamedTuple):
    """What goes out. `names` leads from the vendor's function names back to the client's; `stops` are the
    texts at which the gateway ends the answer, for the vendor cannot."""

    body: bytes
    headers: dict[str, str]
    dropped: tuple[str, ...]
    names: dict[str, str]
    stops: tuple[str, ...]


def vendor_request(request: ChatRequest, model: str) -> VendorRequest:
    """The request in the vendor's words. Raises `Invalid` for what it cannot say."""
    _refuse(request)
    offered = request.tools()
    choice = request.field("tool_choice")
    if choice is None:
        choice = _legacy_choice(request)
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        offered, choice = _allowed(offered, choice.get("allowed_tools") or choice)
    to_vendor = _vendor_names([tool.name for tool in offered])
    body: dict[str, Any] = {"model": model}
    format_, instruction = _response_format(request.field("response_format"))
    body["messages"] = vendor_messages(request.messages(), to_vendor, instruction)
    body |= _sampling(request)
    if format_:
        body["response_format"] = format_
    if offered and choice != "none":
        body["functions"] = [_function(tool, to_vendor) for tool in offered]
        body["function_call"] = _function_call(choice, offered, to_vendor)
    if request.stream:
        body["stream"] = True
    return VendorRequest(
        body=_encode(body),
        headers=_session(request.field("prompt_cache_key")),
        dropped=_dropped(request),
        names={vendor: client for client, vendor in to_vendor.items() if vendor != client},
        stops=_stops(request.field("stop")),
    )


def _refuse(request: ChatRequest) -> None:
    if (request.field("n") or 1) != 1:
        raise Invalid("GigaChat gives one choice per call: n must be 1", param="n")
    if "audio" in (request.field("modalities") or ()):
        raise Invalid("GigaChat answers in text only", param="modalities")
    for place, tool in enumerate(request.field("tools") or ()):
        if tool.get("type") != "function":
            raise Invalid(
                f"tools[{place}].type is {tool.get('type')!r}: GigaChat knows functions only",
                param=f"tools[{place}].type",
            )


def _legacy_choice(request: ChatRequest) -> Any:
    """`function_call` of the old form in the words of `tool_choice`."""
    choice = request.field("function_call")
    return {"type": "function", "function": choice} if isinstance(choice, dict) else choice


def _allowed(offered: list[Tool], allowed: dict[str, Any]) -> tuple[list[Tool], Any]:
    """`allowed_tools` is a smaller offer and a mode."""
    names = {(tool.get("function") or {}).get("name") for tool in allowed.get("tools") or ()}
    return [tool for tool in offered if tool.name in names], allowed.get("mode", "auto")


def _vendor_names(names: list[str]) -> dict[str, str]:
    """The client's function names -> the vendor's: one collides with a built-in function."""
    out = {name: name for name in names}
    if _BUILT_IN in out:
        other = f"client_{_BUILT_IN}"
        while other in out:
            other += "_"
        out[_BUILT_IN] = other
    return out


def _function(tool: Tool, names: Mapping[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {"name": names[tool.name]}
    if tool.description:
        out["description"] = tool.description
    out["parameters"] = vendor_schema(tool.parameters)
    return out


def _function_call(choice: Any, offered: list[Tool], names: Mapping[str, str]) -> Any:
    """`required` has no word at the vendor: the only function is forced, several are left to the model."""
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        if not isinstance(wanted, str) or wanted not in names:
            raise Invalid(f"tool_choice names {wanted!r}, which is not among the tools", param="tool_choice")
        return {"name": names[wanted]}
    if choice == "required" and len(offered) == 1:
        return {"name": names[offered[0].name]}
    return "auto"


def _response_format(wanted: dict[str, Any] | None) -> tuple[dict[str, Any] | None, str]:
    """The vendor's `response_format`, and an instruction for the system message.

    `json_object` has no equal: a schema without fields is refused by models without the feature, so the model
    is asked in words, and the answer is passed on unchecked.
    """
    kind = (wanted or {}).get("type")
    if kind == "json_schema" and wanted is not None:
        inner = wanted.get("json_schema") or {}
        out = {"type": "json_schema", "schema": inner.get("schema") or {"type": "object", "properties": {}}}
        if inner.get("strict") is not None:
            out["strict"] = inner["strict"]
        return out, ""
    return None, _JSON_PLEASE if kind == "json_object" else ""


def _sampling(request: ChatRequest) -> dict[str, Any]:
    out: dict[str, Any] = {name: request.fields[name] for name in _SAME if request.field(name) is not None}
    temperature = request.field("temperature")
    if temperature == 0:
        out["top_p"] = 0  # the vendor's temperature is above 0; this is its greedy decoding
    elif temperature is not None:
        out["temperature"] = request.fields["temperature"]
    if request.max_tokens is not None:
        out["max_tokens"] = request.max_tokens
    effort = _EFFORTS.get(request.field("reasoning_effort") or "")
    if effort:
        out["reasoning_effort"] = effort
    return out


def _session(cache_key: str | None) -> dict[str, str]:
    """`X-Session-ID` ties calls with one prefix to one cache; what is unfit for a header goes as its hash."""
    if not cache_key:
        return {}
    if not _HEADER_SAFE.fullmatch(cache_key):
        cache_key = hashlib.sha256(cache_key.encode()).hexdigest()
    return {"X-Session-ID": cache_key}


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop or []
    return tuple(text for text in texts if text)


def _dropped(request: ChatRequest) -> tuple[str, ...]:
    names = []
    for name in request.fields:
        if name in _READ or name in _GATEWAY_ONLY:
            continue
        value = request.field(name)
        if value is not None and value not in _NEUTRAL.get(name, ()):
            names.append(name)
    return tuple(names)
