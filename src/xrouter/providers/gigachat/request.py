"""`ChatRequest` -> the body and headers of GigaChat's `POST .../chat/completions`, in either contract."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import msgspec

from xrouter.core.chat import ChatRequest, Tool
from xrouter.core.errors import Invalid

from .json_object import INSTRUCTION
from .messages import Turn, turns_of, uploads_of, v1_messages, v2_messages
from .schema import vendor_schema
from .uploads import Upload

Contract = Literal["v1", "v2"]

_encode = msgspec.json.Encoder().encode

# The vendor's own extras and their types. They and `top_p` are sent as they are.
_EXTRAS: Mapping[str, Any] = {
    "repetition_penalty": float,
    "update_interval": float,
    "profanity_check": bool,
    "flags": list[str],
}
_READ = frozenset(
    {
        "messages", "temperature", "top_p", "max_tokens", "max_completion_tokens", "tools", "tool_choice",
        "response_format", "reasoning_effort", "stop", "n", "prompt_cache_key", "session_id", "modalities", "model",
        "models", "stream", "stream_options", *_EXTRAS,
    }
)  # fmt: skip
_READ_V2 = frozenset({"logprobs", "top_logprobs"})
_NO_PARAMETERS = frozenset({"messages", "model", "models", "stream", "stream_options", "session_id", "modalities"})
# Parameters the vendor lacks, with the values that ask for nothing: there is nothing to report then.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "store": (False,),
    "service_tier": ("auto", "default"),
}
# Contract v1 never calls in parallel; v2 may, and cannot be told not to.
_PARALLEL: Mapping[Contract, tuple[bool, ...]] = {"v1": (True, False), "v2": (True,)}
_EFFORTS: Mapping[Contract, Mapping[str, str]] = {
    "v1": {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"},
    "v2": {
        "none": "off", "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high",
        "max": "high",
    },
}  # fmt: skip
_MOST_LOGPROBS = 5
_BUILT_IN = "web_search"
# The client's names of tools that run at the vendor, contract v2.
_HOSTED: Mapping[str, str] = {
    "web_search": "web_search",
    "web_search_preview": "web_search",
    "code_interpreter": "code_interpreter",
    "url_content_extraction": "url_content_extraction",
}
_HEADER_SAFE = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class Ways:
    """How a request is said. `files` leads from the source of an upload to its id at the vendor; `states`: the states
    of earlier tool calls are given back; `schema_as_function`: structured output is asked for as the arguments of a
    function, for models without it."""

    files: Mapping[str, str] = field(default_factory=dict)
    states: bool = True
    schema_as_function: bool = False


class VendorRequest(NamedTuple):
    """What goes out. `names` leads from the vendor's function names back to the client's; `stops` are the texts at
    which the gateway ends the answer, for the vendor cannot; `uploads` are the files that must be at the vendor
    first. The last fields but `clamped` are for the answer, and for other `Ways` of saying the same."""

    body: bytes
    headers: dict[str, str]
    dropped: tuple[str, ...]
    names: dict[str, str]
    stops: tuple[str, ...]
    uploads: tuple[Upload, ...] = ()
    wants_object: bool = False
    schema_function: str = ""
    schemas: Mapping[str, dict[str, Any]] = MappingProxyType({})
    has_states: bool = False
    has_schema: bool = False
    clamped: Mapping[str, float] = MappingProxyType({})


class _Format(NamedTuple):
    """`response_format` in the vendor's words, or the words and the function that stand in for it."""

    sent: dict[str, Any] | None = None
    instruction: str = ""
    function: dict[str, Any] | None = None
    schema: dict[str, Any] | None = None  # the client's, of the function


class _Asked(NamedTuple):
    """What both contracts say in their own form. `silent`: no tool may be called."""

    model: str
    turns: list[Turn]
    functions: list[dict[str, Any]]
    hosted: list[str]
    forced: str | None
    silent: bool
    format: dict[str, Any] | None


def parameters(contract: Contract) -> frozenset[str]:
    """The names of the parameters that are followed, by the vendor or by us."""
    more = _READ_V2 if contract == "v2" else {"parallel_tool_calls"}
    return (_READ | more) - _NO_PARAMETERS


def vendor_request(request: ChatRequest, model: str, contract: Contract = "v1", ways: Ways = Ways()) -> VendorRequest:
    """The request in the vendor's words. Raises `Invalid` for what it cannot say."""
    hosted = _refuse(request, contract)
    offered = request.tools() if "tools" in request.fields else []
    choice = request.field("tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        offered, choice = _allowed(offered, choice.get("allowed_tools") or choice)
    to_vendor = _vendor_names([tool.name for tool in offered])
    wanted = request.field("response_format")
    form = _response_format(wanted, as_function=ways.schema_as_function and not offered)
    turns = turns_of(request.messages(), to_vendor, form.instruction)
    silent = choice == "none"
    # Contract v1 is offered none then, contract v2 has a mode for it.
    functions = [] if silent and contract == "v1" else [_function(tool, to_vendor) for tool in offered]
    forced = _forced(choice, offered, to_vendor) if functions else None
    if form.function is not None:
        functions, forced = [form.function], form.function["name"]
    asked = _Asked(model, turns, functions, hosted, forced, silent, form.sent)
    make = _v1_body if contract == "v1" else _v2_body
    return VendorRequest(
        body=_encode(make(request, asked, ways)),
        headers=_session(request.field("prompt_cache_key") or request.field("session_id")),
        dropped=_dropped(request, contract, unforced=choice == "required" and len(offered) > 1),
        names={vendor: client for client, vendor in to_vendor.items() if vendor != client},
        stops=_stops(request.field("stop")),
        uploads=uploads_of(turns),
        wants_object=(wanted or {}).get("type") == "json_object",
        schema_function="" if form.function is None else form.function["name"],
        schemas=_changed(offered, functions, form),
        has_states=ways.states and any(turn.state for turn in turns),
        has_schema=form.sent is not None and not offered and not hosted,
        clamped=_clamped(request) if contract == "v2" else {},
    )


def _v1_body(request: ChatRequest, asked: _Asked, ways: Ways) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": asked.model,
        "messages": v1_messages(asked.turns, ways.files, states=ways.states),
        **_sampling(request),
        **_extras(request),
    }
    effort = _EFFORTS["v1"].get(request.field("reasoning_effort") or "")
    if effort:
        body["reasoning_effort"] = effort
    if asked.format:
        body["response_format"] = asked.format
    if asked.functions:
        body["functions"] = asked.functions
        body["function_call"] = {"name": asked.forced} if asked.forced else "auto"
    if request.stream:
        body["stream"] = True
    return body


def _v2_body(request: ChatRequest, asked: _Asked, ways: Ways) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": asked.model,
        "messages": v2_messages(asked.turns, ways.files, states=ways.states),
    }
    extras = _extras(request)
    options = _sampling(request)
    options |= {name: extras[name] for name in ("repetition_penalty", "update_interval") if name in extras}
    if request.field("logprobs"):
        options["top_logprobs"] = min(request.field("top_logprobs") or 1, _MOST_LOGPROBS)
    effort = _EFFORTS["v2"].get(request.field("reasoning_effort") or "")
    if effort:
        options["reasoning"] = {"effort": effort}
    if asked.format:
        options["response_format"] = asked.format
    if options:
        body["model_options"] = options
    tools: list[dict[str, Any]] = [{"functions": {"specifications": asked.functions}}] if asked.functions else []
    tools += [{name: {}} for name in asked.hosted]
    if tools:
        body["tools"] = tools
        body["tool_config"] = _tool_config(asked)
    if "profanity_check" in extras:
        body["disable_filter"] = not extras["profanity_check"]
    if "flags" in extras:
        body["flags"] = extras["flags"]
    if request.stream:
        body["stream"] = True
    return body


def _clamped(request: ChatRequest) -> dict[str, float]:
    wanted = request.field("top_logprobs") if request.field("logprobs") else None
    return {"top_logprobs": _MOST_LOGPROBS} if wanted is not None and wanted > _MOST_LOGPROBS else {}


def _tool_config(asked: _Asked) -> dict[str, Any]:
    if asked.forced:
        return {"mode": "forced", "function_name": asked.forced}
    return {"mode": "none" if asked.silent else "auto"}


def _refuse(request: ChatRequest, contract: Contract) -> list[str]:
    """Raises `Invalid` for what has no word at all; gives the tools that shall run at the vendor."""
    if "n" in request.fields and (request.field("n") or 1) != 1:
        raise Invalid("GigaChat gives one choice per call: n must be 1", param="n")
    if "audio" in (request.field("modalities") or ()):
        raise Invalid("GigaChat answers in text only", param="modalities")
    hosted = []
    for place, tool in enumerate(request.field("tools") or ()):
        kind = tool.get("type")
        if kind == "function":
            continue
        if contract == "v1" or kind not in _HOSTED:
            known = "functions only" if contract == "v1" else f"functions, {', '.join(_HOSTED)}"
            raise Invalid(
                f"tools[{place}].type is {kind!r}: GigaChat knows {known}",
                param=f"tools[{place}].type",
            )
        hosted.append(_HOSTED[kind])
    return list(dict.fromkeys(hosted))


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


def _changed(offered: list[Tool], functions: list[dict[str, Any]], form: _Format) -> dict[str, dict[str, Any]]:
    """The client's schemas that the vendor gets in other words, by the client's names of functions."""
    if form.function is not None and form.schema is not None:
        return {form.function["name"]: form.schema}
    told = zip(offered, functions, strict=False)  # no functions where none may be called
    return {
        tool.name: tool.parameters for tool, function in told if tool.parameters not in (None, function["parameters"])
    }


def _forced(choice: Any, offered: list[Tool], names: Mapping[str, str]) -> str | None:
    """The function that must be called. `required` has no word at the vendor: the only function is forced, several
    are left to the model."""
    if isinstance(choice, dict):
        wanted = (choice.get("function") or {}).get("name")
        if not isinstance(wanted, str) or wanted not in names:
            raise Invalid(f"tool_choice names {wanted!r}, which is not among the tools", param="tool_choice")
        return names[wanted]
    if choice == "required" and len(offered) == 1:
        return names[offered[0].name]
    return None


def _response_format(wanted: dict[str, Any] | None, *, as_function: bool) -> _Format:
    """`json_object` has no equal: a schema without fields is refused by models without the feature, so the model is
    asked in words, and the answer is held to it (`json_object.py`)."""
    kind = (wanted or {}).get("type")
    if kind == "json_object":
        return _Format(instruction=INSTRUCTION)
    if kind != "json_schema" or wanted is None:
        return _Format()
    inner = wanted.get("json_schema") or {}
    schema = inner.get("schema") or {"type": "object", "properties": {}}
    if as_function:
        function = {"name": inner.get("name") or "answer", "parameters": vendor_schema(schema)}
        if inner.get("description"):
            function["description"] = inner["description"]
        return _Format(function=function, schema=schema)
    out = {"type": "json_schema", "schema": schema}
    if inner.get("strict") is not None:
        out["strict"] = inner["strict"]
    return _Format(out)


def _sampling(request: ChatRequest) -> dict[str, Any]:
    """Sampling and length, which both contracts call the same."""
    out: dict[str, Any] = {}
    if request.field("top_p") is not None:
        out["top_p"] = request.fields["top_p"]
    temperature = request.field("temperature")
    if temperature == 0:
        out["top_p"] = 0  # the vendor's temperature is above 0; this is its greedy decoding
    elif temperature is not None:
        out["temperature"] = request.fields["temperature"]
    if (most := request.max_tokens) is not None:
        out["max_tokens"] = most
    return out


def _extras(request: ChatRequest) -> dict[str, Any]:
    out = {}
    for name in _EXTRAS.keys() & request.fields.keys():
        raw = request.fields[name]
        if raw == b"null":
            continue
        try:
            out[name] = msgspec.json.decode(raw, type=_EXTRAS[name])
        except msgspec.ValidationError as error:
            raise Invalid(f"{name}: {error}", param=name) from None
    return out


def _session(key: Any) -> dict[str, str]:
    """`X-Session-ID` ties calls with one prefix to one cache; what is unfit for a header goes as its hash."""
    if not key or not isinstance(key, str):
        return {}
    if not _HEADER_SAFE.fullmatch(key):
        key = hashlib.sha256(key.encode()).hexdigest()
    return {"X-Session-ID": key}


def _stops(stop: str | list[str] | None) -> tuple[str, ...]:
    texts = [stop] if isinstance(stop, str) else stop or []
    return tuple(text for text in texts if text)


def _dropped(request: ChatRequest, contract: Contract, *, unforced: bool) -> tuple[str, ...]:
    names = ["tool_choice"] if unforced else []
    for name in request.fields:
        if name in _READ or (contract == "v2" and name in _READ_V2):
            continue
        value = request.field(name)
        neutral = _PARALLEL[contract] if name == "parallel_tool_calls" else _NEUTRAL.get(name, ())
        if value is not None and value not in neutral:
            names.append(name)
    return tuple(names)
