"""What GigaChat's chat endpoint accepts (contract v1), and its words for what it does not."""

import re
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from xrouter.simulators import continuing, speech
from xrouter.simulators.answers import Question, Tool
from xrouter.simulators.desk import Refusal

_ROLES: Final = ("system", "user", "assistant", "function")
_DRAW: Final = re.compile(r"\bнарису|\bизобрази|\bdraw\b|\bpaint\b", re.IGNORECASE)
WITHOUT_SCHEMAS: Final = frozenset({"GigaChat-Plus"})
"""Models that refuse structured output: it is a beta, and not for all."""

_JSON_PLEASE: Final = re.compile(r"\bобъект\w* JSON\b|\bJSON[- ]объект|\bJSON object\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that passed. `texts` is what counts as prompt, message by message; `attachments` are the ids of files,
    message by message, `states` those of states of functions; `draws` and `searches`: a built-in function does that.
    """

    question: Question
    texts: list[str]
    stream: bool
    max_tokens: int | None
    update_interval_s: float
    attachments: list[list[str]] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    draws: bool = False
    searches: bool = False
    top_logprobs: int = 0
    likeness: dict[str, Any] = field(default_factory=dict)

    @property
    def prompt_tokens(self) -> int:
        return sum(map(message_tokens, self.texts))


def message_tokens(text: str) -> int:
    """Tokens of one message: its text and two for its frame."""
    return speech.tokens(text) + 2


def read(data: dict[str, Any], model: str) -> ChatRequest:
    """Check a request body. Raises `Refusal` 422 with the vendor's kind of message."""
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("messages must be a non-empty array")
    for index, message in enumerate(messages):
        _check_message(index, message)
    _check_numbers(data)
    functions = data.get("functions") or []
    if not isinstance(functions, list):
        raise invalid("functions must be an array")
    tools = [_tool(function) for function in functions]
    call, given = _function_call(data, tools, model)
    if data.get("response_format") and model in WITHOUT_SCHEMAS:
        raise invalid(f"response_format is not supported by the model {model}")
    texts = [_prompt_text(message) for message in messages]
    messages, said, _ = continuing.part(messages, _content, exact=False)
    attachments = [message["attachments"] for message in messages if message.get("attachments")]
    question = Question(
        user_text=next((message["content"] for message in reversed(messages) if message["role"] == "user"), ""),
        results=[(messages[-1]["name"], messages[-1]["content"])] if messages[-1]["role"] == "function" else [],
        ends_with_user=messages[-1]["role"] in ("user", "system"),
        tools=tools,
        call=call,
        parallel=False,
        json_schema=_schema(data.get("response_format")),
        json_please=messages[0]["role"] == "system" and bool(_JSON_PLEASE.search(messages[0]["content"])),
        thinking=_effort(data.get("reasoning_effort")),
        given=given,
        said=said,
    )
    if functions:
        texts[0] += msgspec.json.encode(functions).decode()
    keys = ("messages", "functions", "function_call", "response_format", "reasoning_effort")
    return ChatRequest(
        question,
        texts,
        stream=_flag(data, "stream"),
        max_tokens=data.get("max_tokens"),
        update_interval_s=data.get("update_interval") or 0,
        attachments=attachments,
        states=[message["functions_state_id"] for message in messages if message.get("functions_state_id")],
        draws=call == "auto" and not tools and wants_picture(question.user_text),
        likeness={"model": model, **{key: data[key] for key in keys if key in data}, "messages": messages},
    )


def _content(message: dict[str, Any]) -> str:
    return str(message.get("content") or "")


def wants_picture(text: str) -> bool:
    """Does a user ask for a picture?"""
    return bool(_DRAW.search(text))


def invalid(message: str) -> Refusal:
    """422 in the vendor's words."""
    return Refusal(422, f"Invalid params: {message}")


def _check_message(index: int, message: object) -> None:
    if not isinstance(message, dict):
        raise invalid(f"messages[{index}] must be an object")
    role = message.get("role")
    if role not in _ROLES:
        raise invalid(f"messages[{index}].role must be one of {', '.join(_ROLES)}")
    if role == "system" and index:
        raise invalid("system message must be the first message")
    if role == "assistant" and message.get("content") is None and "function_call" in message:
        message["content"] = ""
    if not isinstance(message.get("content"), str):
        raise invalid(f"messages[{index}].content must be a string")
    attachments = message.get("attachments", [])
    if not isinstance(attachments, list) or not all(isinstance(file, str) for file in attachments):
        raise invalid(f"messages[{index}].attachments must be an array of strings")
    if attachments and role != "user":
        raise invalid(f"messages[{index}].attachments belong to the role user")
    state = message.get("functions_state_id")
    if state is not None and not isinstance(state, str):
        raise invalid(f"messages[{index}].functions_state_id must be a string")
    if role == "function":
        _check_result(index, message)
    if role == "assistant" and "function_call" in message:
        call = message["function_call"]
        if not isinstance(call, dict) or not isinstance(call.get("name"), str):
            raise invalid(f"messages[{index}].function_call.name must be a string")
        if not isinstance(call.get("arguments", {}), dict):
            raise invalid(f"messages[{index}].function_call.arguments must be an object")


def _check_result(index: int, message: dict[str, Any]) -> None:
    if not isinstance(message.get("name"), str) or not message["name"]:
        raise invalid(f"messages[{index}].name is required for the role function")
    try:
        result = msgspec.json.decode(message["content"])
    except msgspec.DecodeError:
        result = None
    if not isinstance(result, dict):
        raise invalid(f"messages[{index}].content of the role function must be a valid JSON object")


def _check_numbers(data: dict[str, Any]) -> None:
    for name in ("temperature", "repetition_penalty"):
        if (value := data.get(name)) is not None and not (_is_number(value) and value > 0):
            raise invalid(f"{name} must be in range (0, +inf)")
    if (value := data.get("top_p")) is not None and not (_is_number(value) and 0 <= value <= 1):
        raise invalid("top_p must be in range [0, 1]")
    if (value := data.get("max_tokens")) is not None and not (_is_whole(value) and 0 < value < 2**31):
        raise invalid("max_tokens must be in range (0, 2147483647]")
    if (value := data.get("update_interval")) is not None and not (_is_number(value) and value >= 0):
        raise invalid("update_interval must be in range [0, +inf)")
    flags = data.get("flags")
    if flags is not None and not (isinstance(flags, list) and all(isinstance(flag, str) for flag in flags)):
        raise invalid("flags must be an array of strings")
    _flag(data, "profanity_check")
    if (value := data.get("n")) is not None and not (_is_whole(value) and value > 0):
        raise invalid("n must be in range (0, +inf)")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _flag(data: dict[str, Any], name: str) -> bool:
    value = data.get(name)
    if value is not None and not isinstance(value, bool):
        raise invalid(f"{name} must be a boolean")
    return bool(value)


def _tool(function: object) -> Tool:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
        raise invalid("functions[].name must be a non-empty string")
    name, schema = function["name"], function.get("parameters")
    if schema is not None:
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise invalid(f"functions[{name}].parameters.type must be object")
        _check_schema(name, schema, 0)
    return Tool(name, schema)


def _check_schema(name: str, schema: object, depth: int) -> None:
    """The part of JSON Schema that functions may use is small; the rest is turned down here, not ignored."""
    if not isinstance(schema, dict) or depth > 32:
        raise invalid(f"functions[{name}].parameters: a schema must be an object")
    for word in ("$ref", "allOf"):
        if word in schema:
            raise invalid(f"functions[{name}].parameters: {word} is not supported")
    for word in ("anyOf", "oneOf"):
        options = schema.get(word)
        if word in schema and (not isinstance(options, list) or len(options) < 2):
            raise invalid(f"functions[{name}].parameters: {word} needs alternatives")
        for option in options or ():
            _check_schema(name, option, depth + 1)
    if "type" in schema and not isinstance(schema["type"], str):
        raise invalid(f"functions[{name}].parameters: type must be a string")
    if schema.get("type") == "null":
        raise invalid(f"functions[{name}].parameters: null is not supported")
    if schema.get("format", "date") not in ("date", "date-time", "time"):
        raise invalid(f"functions[{name}].parameters: the format {schema['format']} is not supported")
    if schema.get("type") == "object" and not isinstance(schema.get("properties"), dict):
        raise invalid(f"functions[{name}].parameters: an object needs properties")
    if not all(isinstance(option, str) for option in schema.get("enum", ())):
        raise invalid(f"functions[{name}].parameters: enum values must be strings")
    for part in schema.get("properties", {}).values():
        _check_schema(name, part, depth + 1)
    if "items" in schema:
        _check_schema(name, schema["items"], depth + 1)


def _function_call(data: dict[str, Any], tools: list[Tool], model: str) -> tuple[str, dict[str, Any]]:
    """The mode and the arguments already decided.

    The second generation calls functions only when told so; the third also when nothing is said.
    """
    call = data.get("function_call")
    if call is None:
        return ("auto" if model.startswith("GigaChat-3") else "none"), {}
    if isinstance(call, str) and call in ("none", "auto"):
        return call, {}
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        raise invalid("function_call must be none, auto or an object with a name")
    if call["name"] not in [tool.name for tool in tools]:
        raise invalid(f"function_call.name {call['name']} is not in functions")
    given = call.get("partial_arguments") or {}
    if not isinstance(given, dict):
        raise invalid("function_call.partial_arguments must be an object")
    return call["name"], given


def _schema(response_format: object) -> object:
    if response_format is None:
        return None
    kind = response_format.get("type") if isinstance(response_format, dict) else None
    if kind == "text":
        return None
    if not isinstance(response_format, dict) or kind != "json_schema":
        raise invalid("response_format.type must be text or json_schema")
    if not isinstance(response_format.get("schema"), dict):
        raise invalid("response_format.schema must be an object")
    return response_format["schema"]


def _effort(effort: object) -> bool:
    if effort not in (None, "low", "medium", "high"):
        raise invalid("reasoning_effort must be low, medium or high")
    return effort is not None


def _prompt_text(message: dict[str, Any]) -> str:
    call = message.get("function_call")
    return str(message["content"]) + (msgspec.json.encode(call).decode() if call else "")
