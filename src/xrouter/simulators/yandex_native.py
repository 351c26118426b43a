"""Yandex AI Studio's native completion: proto3-JSON of `yandex/cloud/ai/foundation_models/v1`.

https://github.com/yandex-cloud/cloudapi; a field that the message does not have is an error, as in any parser of it.
"""

from random import Random
from typing import Any, Final

import msgspec

from xrouter.simulators import continuing, delivery, speech
from xrouter.simulators.answers import Question, Tool
from xrouter.simulators.desk import Refusal
from xrouter.simulators.faults import Fault
from xrouter.simulators.yandex_errors import streaming_error
from xrouter.simulators.yandex_models import Found
from xrouter.simulators.yandex_speech import Ask, Spoken, pieces

VERSION: Final = "09.02.2025"
STREAM: Final = delivery.Stream(
    frame=lambda event: event + b"\n", farewell=b"", failure=streaming_error(500), ping=b"\n", halved=True
)
_STATUS: Final = {
    "stop": "ALTERNATIVE_STATUS_FINAL",
    "length": "ALTERNATIVE_STATUS_TRUNCATED_FINAL",
    "content_filter": "ALTERNATIVE_STATUS_CONTENT_FILTER",
    "tool_calls": "ALTERNATIVE_STATUS_TOOL_CALLS",
}
_PARTIAL: Final = "ALTERNATIVE_STATUS_PARTIAL"
_FIELDS: Final = {
    "modelUri", "completionOptions", "messages", "tools", "jsonObject", "jsonSchema", "parallelToolCalls", "toolChoice",
}  # fmt: skip
_OPTIONS: Final = {"stream", "temperature", "maxTokens", "reasoningOptions"}
_CONTENTS: Final = {"text", "toolCallList", "toolResultList"}
_ROLES: Final = ("system", "user", "assistant")
_MODES: Final = {"NONE": "none", "AUTO": "auto", "REQUIRED": "required", "TOOL_CHOICE_MODE_UNSPECIFIED": "auto"}


def read(data: dict[str, Any], found: Found) -> Ask:
    """Check a request body. Raises `Refusal` 400."""
    if not found.model.own:
        raise Refusal(400, f"Failed to get model '{data.get('modelUri')}'")
    _known("request", data, _FIELDS)
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "Empty message list")
    for index, message in enumerate(messages):
        _check_message(index, message)
    options = _object("completionOptions", data.get("completionOptions"))
    _known("completionOptions", options, _OPTIONS)
    temperature, cap = options.get("temperature"), _int64("maxTokens", options.get("maxTokens"))
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 1):
        raise Refusal(400, "temperature must be in range [0, 1]")
    if cap is not None and cap < 1:
        raise Refusal(400, "max_tokens must be positive")
    mode = _object("reasoningOptions", options.get("reasoningOptions")).get("mode", "DISABLED")
    if mode not in ("DISABLED", "ENABLED_HIDDEN", "REASONING_MODE_UNSPECIFIED"):
        raise Refusal(400, "reasoning_options.mode is unknown")
    tools = [_tool(tool) for tool in data.get("tools") or ()]
    prompt = sum(_message_tokens(message) for message in messages) + _json_tokens(data.get("tools"))
    if prompt > found.model.context_tokens:
        raise Refusal(400, f"number of input tokens must be no more than {found.model.context_tokens}, got {prompt}")
    messages, said, _ = continuing.part(messages, _said, exact=False)
    results = messages[-1].get("toolResultList")
    question = Question(
        user_text=next((m.get("text", "") for m in reversed(messages) if m["role"] == "user" and "text" in m), ""),
        results=[] if results is None else [_result(result) for result in results["toolResults"]],
        ends_with_user=messages[-1]["role"] == "user" and results is None,
        tools=tools,
        call=_choice(data.get("toolChoice"), tools),
        json_schema=_schema(data),
        thinking=mode == "ENABLED_HIDDEN",
        said=said,
    )
    like = {name: data[name] for name in _FIELDS - {"completionOptions", "modelUri"} if name in data}
    return Ask(
        question,
        prompt,
        stream=options.get("stream") is True,
        max_tokens=cap,
        stops=(),
        likeness={"model": found.tail, "mode": mode, **like, "messages": messages},
    )


def _said(message: dict[str, Any]) -> str:
    return str(message.get("text") or "")


def completion(spoken: Spoken, ask: Ask, fault: Fault) -> dict[str, Any]:
    """A whole `CompletionResponse`."""
    return _response(_message(spoken), _STATUS[spoken.finish], ask, spoken, spoken.tokens, fault)


def wrapped(response: dict[str, Any]) -> bytes:
    """As a streaming method answers: in `result`, even where it is alone."""
    return msgspec.json.encode({"result": response})


def events(spoken: Spoken, ask: Ask, rng: Random, fault: Fault) -> delivery.Events:
    """Lines with the whole text so far."""
    content, text, tokens = [], "", speech.tokens(spoken.answer.reasoning)
    for piece, weight in pieces(spoken.begun or spoken.answer.text, rng):
        text, tokens = text + piece, tokens + weight
        line = _response({"role": "assistant", "text": text}, _PARTIAL, ask, spoken, tokens, fault)
        content.append((wrapped(line), weight))
    return delivery.Events([], content, [wrapped(completion(spoken, ask, fault))])


def tokens_of(text: str) -> list[dict[str, Any]]:
    """A text as the vendor's tokenizer shows it: the first token is a special one."""
    size = speech.TOKEN_CHARS
    parts = [text[at : at + size] for at in range(0, len(text), size)]
    return [
        {"id": "1", "text": "<s>", "special": True},
        *({"id": str(sum(part.encode())), "text": part, "special": False} for part in parts),
    ]


def prompt_text(messages: list[dict[str, Any]]) -> str:
    """The conversation as one text, for counting."""
    return "\n".join(_as_text(message) for message in messages)


def _response(
    message: dict[str, Any], status: str, ask: Ask, spoken: Spoken, tokens: int, fault: Fault
) -> dict[str, Any]:
    body: dict[str, Any] = {"alternatives": [{"message": message, "status": status}], "modelVersion": VERSION}
    if fault.name == "no-usage":
        return body
    given, made = ask.prompt_tokens, tokens
    if fault.name == "wrong-usage":
        given, made = -given, 10**18
    hidden = speech.tokens(spoken.answer.reasoning)
    usage = {
        "inputTextTokens": str(given),
        "completionTokens": str(made),
        "totalTokens": str(given + made),
        "completionTokensDetails": {"reasoningTokens": str(hidden)},
    }
    return {**body, "usage": usage}


def _message(spoken: Spoken) -> dict[str, Any]:
    if not spoken.answer.calls:
        return {"role": "assistant", "text": spoken.answer.text}
    calls = [
        {"functionCall": {"name": call.name, "arguments": _doubles(call.arguments)}} for call in spoken.answer.calls
    ]
    return {"role": "assistant", "toolCallList": {"toolCalls": calls}}


def _doubles(value: Any) -> Any:
    """A `Struct` has no other numbers than doubles."""
    if isinstance(value, dict):
        return {name: _doubles(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_doubles(item) for item in value]
    return float(value) if type(value) is int and abs(value) < 2**53 else value


def _known(place: str, data: dict[str, Any], names: set[str]) -> None:
    for name in data:
        if name not in names:
            raise Refusal(400, f'{place}: unknown field "{name}"')


def _object(place: str, value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(400, f"{place} must be an object")
    return value


def _int64(place: str, value: Any) -> int | None:
    """Text or a number."""
    if value is None or type(value) is int:
        return value
    if isinstance(value, str) and value.lstrip("-").isdigit() and len(value) < 20:
        return int(value)
    raise Refusal(400, f"{place}: invalid int64")


def _check_message(index: int, message: Any) -> None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise Refusal(400, f"messages[{index}].role must be one of {', '.join(_ROLES)}")
    _known(f"messages[{index}]", message, {"role", *_CONTENTS})
    given = _CONTENTS & message.keys()
    if len(given) != 1:
        raise Refusal(400, f"messages[{index}] needs one of text, tool_call_list, tool_result_list")
    if not isinstance(message.get("text", ""), str):
        raise Refusal(400, f"messages[{index}].text must be a string")
    for call in _object("toolCallList", message.get("toolCallList")).get("toolCalls") or ():
        function = _object("functionCall", _object("toolCalls", call).get("functionCall"))
        _known("functionCall", function, {"name", "arguments"})
        if not isinstance(function.get("name"), str) or not isinstance(function.get("arguments", {}), dict):
            raise Refusal(400, f"messages[{index}]: a function call needs a name and an object of arguments")
    for result in _object("toolResultList", message.get("toolResultList")).get("toolResults") or ():
        _result(result)


def _result(result: Any) -> tuple[str, str]:
    function = _object("functionResult", _object("toolResults", result).get("functionResult"))
    _known("functionResult", function, {"name", "content"})
    if not isinstance(function.get("name"), str) or not isinstance(function.get("content"), str):
        raise Refusal(400, "a function result needs a name and a content")
    return function["name"], function["content"]


def _as_text(message: dict[str, Any]) -> str:
    return message["text"] if "text" in message else msgspec.json.encode(message).decode()


def _message_tokens(message: dict[str, Any]) -> int:
    return speech.tokens(_as_text(message)) + 2


def _json_tokens(value: object) -> int:
    return speech.tokens(msgspec.json.encode(value).decode()) if value else 0


def _tool(tool: Any) -> Tool:
    function = _object("tools", tool).get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Refusal(400, "tools: a function with a name is required")
    _known("function", function, {"name", "description", "parameters", "strict"})
    return Tool(function["name"], function.get("parameters"))


def _choice(choice: Any, tools: list[Tool]) -> str:
    choice = _object("toolChoice", choice)
    _known("toolChoice", choice, {"mode", "functionName"})
    named = choice.get("functionName")
    if named is not None and named not in [tool.name for tool in tools]:
        raise Refusal(400, f"tool_choice.function_name {named} is not among the tools")
    mode = choice.get("mode", "AUTO")
    if mode not in _MODES:
        raise Refusal(400, "tool_choice.mode is unknown")
    if not tools:
        return "none"
    return str(named) if named is not None else _MODES[mode]


def _schema(data: dict[str, Any]) -> object:
    if data.get("jsonObject") is not None and data.get("jsonSchema") is not None:
        raise Refusal(400, "json_object and json_schema exclude each other")
    if data.get("jsonSchema") is not None:
        return _object("jsonSchema", data["jsonSchema"]).get("schema", True)
    return True if data.get("jsonObject") else None
