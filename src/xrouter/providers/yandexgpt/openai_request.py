"""`ChatRequest` -> the body of `POST /v1/chat/completions`.

The vendor documents `temperature`, `max_tokens`, `stream`, `response_format` and tools with the choices `auto` and
`none`; beside them it was seen to take `parallel_tool_calls`, `top_k` and `reasoning_effort`. Nothing more goes out,
except `top_p`, and for open models the `stop` of the server behind them.
https://yandex.cloud/docs/ai-studio/concepts/openai-compatibility
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

from xrouter.core.chat import ChatRequest
from xrouter.core.errors import Invalid

from . import parameters
from .names import ModelName

TAKEN: Final = ("top_p", "top_k")
_EFFORTS: Final = {
    "minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high",
}  # fmt: skip
_MESSAGE_FIELDS: Final = ("role", "content", "name", "tool_calls", "tool_call_id")

_encode = msgspec.json.Encoder().encode


class Outgoing(NamedTuple):
    """What goes out, and what must be known for the answer: where it stops, and whether one call is all. `dropped` and
    `clamped` as in `Attempt`."""

    body: bytes
    dropped: tuple[str, ...]
    stops: tuple[str, ...]
    one_call: bool
    clamped: Mapping[str, float]


def openai_request(request: ChatRequest, name: ModelName, uri: str, *, sees: bool) -> Outgoing:
    """The request for model `name` at `uri`; `sees`: it takes pictures. Raises `Invalid`."""
    parameters.refuse(request)
    stops = parameters.stops(request)
    body: dict[str, Any] = {"model": uri, "stream": request.stream, "messages": _messages(request, name, sees=sees)}
    for field in TAKEN:
        if request.field(field) is not None:
            body[field] = request.fields[field]
    temperature, clamped = parameters.temperature(request)
    if temperature is not None:
        body["temperature"] = temperature
    if request.max_tokens is not None:
        body["max_tokens"] = request.max_tokens
    if request.field("response_format") is not None:
        body["response_format"] = request.fields["response_format"]
    if effort := _EFFORTS.get(request.field("reasoning_effort") or ""):
        body["reasoning_effort"] = effort
    if stops and not name.is_own:
        body["stop"] = stops  # vLLM ends there by itself; we look all the same
    softened = _tools(request, body)
    dropped = parameters.dropped(request, TAKEN) + softened
    return Outgoing(_encode(body), dropped, stops, parameters.one_call(request), clamped)


def _tools(request: ChatRequest, body: dict[str, Any]) -> tuple[str, ...]:
    """Adds the tools to `body`. A demanded call has no word here: the tool is offered alone, and the client is told."""
    tools = parameters.tools_of(request)
    if not tools.functions:
        return ()
    offered = [one for one in tools.functions if tools.only in (None, one["name"])]
    body["tools"] = [{"type": "function", "function": one} for one in offered]
    body["tool_choice"] = "none" if tools.mode == "none" else "auto"
    parallel = request.field("parallel_tool_calls")
    if parallel is not None:
        body["parallel_tool_calls"] = parallel
    return ("tool_choice",) if tools.mode == "required" else ()


def _messages(request: ChatRequest, name: ModelName, *, sees: bool) -> list[dict[str, Any]]:
    """The conversation, of each message what the vendor knows."""
    names: dict[str, str] = {}
    out = []
    for place, given in enumerate(msgspec.json.decode(request.fields["messages"])):
        message = {field: given[field] for field in _MESSAGE_FIELDS if given.get(field) is not None}
        role = message["role"]
        if role == "developer":
            message["role"] = "system"
        elif role == "assistant":
            _calls(message, place, names, own=name.is_own)
        elif role == "tool":
            _result(message, place, names, own=name.is_own)
        message["content"] = _content(message.get("content"), place, sees=sees)
        out.append(message)
    return out


def _calls(message: dict[str, Any], place: int, names: dict[str, str], *, own: bool) -> None:
    """The calls of one turn. The vendor's own models know a call by its function's name: so they named it
    themselves before we gave it an id of its own."""
    shown = []
    for number, call in enumerate(message.pop("tool_calls", ())):
        function = call.get("function")
        if not isinstance(function, dict):
            raise Invalid("only calls of functions are known", param=f"messages[{place}].tool_calls[{number}]")
        called = function.get("name") or ""
        names[call.get("id") or called] = called
        inner = {"name": called, "arguments": function.get("arguments") or "{}"}
        shown.append({"id": called if own else call.get("id") or called, "type": "function", "function": inner})
    if shown:
        message["tool_calls"] = shown


def _result(message: dict[str, Any], place: int, names: Mapping[str, str], *, own: bool) -> None:
    call_id = message.get("tool_call_id") or ""
    if call_id not in names:
        raise Invalid(
            f"messages[{place}] answers no call of an assistant message before it", param=f"messages[{place}]"
        )
    message["tool_call_id"] = names[call_id] if own else call_id
    message.pop("name", None)


def _content(content: Any, place: int, *, sees: bool) -> Any:
    """A text as it is; of parts those that the model takes, a refusal as a text. Raises `Invalid`."""
    if not isinstance(content, list):
        return content or ""
    parts = []
    for part in content:
        kind = part.get("type")
        if kind == "text" or (kind == "image_url" and sees):
            parts.append(part)
        elif kind == "refusal":
            parts.append({"type": "text", "text": part.get("refusal") or ""})
        else:
            why = "this model takes no pictures" if kind == "image_url" else "only text is known"
            raise Invalid(
                f"messages[{place}].content has a part of type {kind!r}: {why}", param=f"messages[{place}].content"
            )
    return parts
