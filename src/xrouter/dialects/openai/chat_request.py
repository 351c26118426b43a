"""`POST /v1/chat/completions`: the body as it is checked on the way in.

One pass over the top level; each known field is checked by its own decoder, so that an error names the
field (`messages[2].role`). Values stay JSON text: what no step changes is passed on as it came.
Field list: OpenAI's API reference of 2026-11 plus the documented extras of vLLM and OpenRouter.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from xrouter.core.chat import TEXT, ChatRequest, Fields, Role
from xrouter.core.errors import Invalid
from xrouter.core.preferences import Preferences
from xrouter.dialects.openai import legacy_functions
from xrouter.dialects.openai.fields import (
    NAME,
    Checks,
    Count,
    ModelId,
    ModelIds,
    Penalty,
    Stops,
    StreamOptions,
    Temperature,
    Text,
    TopP,
    include_usage,
    invalid,
    require,
)

MAX_MESSAGES = 2048
MAX_TOOLS = 128

_Name = Annotated[str, Meta(pattern=NAME)]


class _CalledFunction(Struct):
    name: Annotated[str, Meta(min_length=1)]
    arguments: str


class _ToolCall(Struct):
    id: str
    type: Literal["function", "custom"] = "function"
    function: _CalledFunction | None = None


class _Message(Struct):
    role: Role
    content: Raw = Raw(b"null")
    tool_calls: list[_ToolCall] | None = None
    function_call: _CalledFunction | None = None
    tool_call_id: str | None = None
    name: str | None = None


class _Function(Struct):
    name: _Name
    description: str | None = None
    parameters: dict[str, Raw] | None = None
    strict: bool | None = None


class _Tool(Struct):
    type: Annotated[str, Meta(min_length=1)]
    function: _Function | None = None


class _Named(Struct):
    name: _Name


class _ToolChoice(Struct):
    type: Literal["function", "custom", "allowed_tools"]
    function: _Named | None = None


class _Schema(Struct):
    name: _Name
    schema: dict[str, Raw] | None = None
    description: str | None = None
    strict: bool | None = None


class _ResponseFormat(Struct):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: _Schema | None = None


TYPES: dict[str, Any] = {
    "audio": dict[str, Raw],
    "chat_template_kwargs": dict[str, Raw],
    "frequency_penalty": Penalty,
    "function_call": Literal["none", "auto"] | _Named,
    "functions": Annotated[list[_Function], Meta(max_length=MAX_TOOLS)],
    "logit_bias": dict[str, float],
    "logprobs": bool,
    "max_completion_tokens": Count,
    "max_tokens": Count,
    "messages": Annotated[list[_Message], Meta(min_length=1, max_length=MAX_MESSAGES)],
    "metadata": Annotated[dict[str, Text], Meta(max_length=16)],
    "min_p": Annotated[float, Meta(ge=0, le=1)],
    "modalities": list[str],
    "model": ModelId,
    "models": ModelIds,
    "n": Annotated[int, Meta(ge=1, le=128)],
    "parallel_tool_calls": bool,
    "prediction": dict[str, Raw],
    "presence_penalty": Penalty,
    "prompt_cache_key": str,
    "provider": Preferences,
    "reasoning_effort": Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    "repetition_penalty": Annotated[float, Meta(gt=0, le=100)],
    "response_format": _ResponseFormat,
    "safety_identifier": Text,
    "seed": int,
    "service_tier": str,
    "stop": Stops,
    "store": bool,
    "stream": bool,
    "stream_options": StreamOptions,
    "temperature": Temperature,
    "tool_choice": Literal["none", "auto", "required"] | _ToolChoice,
    "tools": Annotated[list[_Tool], Meta(max_length=MAX_TOOLS)],
    "top_k": int,
    "top_logprobs": Annotated[int, Meta(ge=0, le=20)],
    "top_p": TopP,
    "user": Text,
    "verbosity": Literal["low", "medium", "high"],
    "web_search_options": dict[str, Raw],
}
_CHECKS = Checks(TYPES)
_TAKEN = ("model", "models", "stream", "stream_options")


def parse(body: bytes) -> ChatRequest:
    """The request in our words. Raises `Invalid` that names the field; the body's size, UTF-8 and depth were
    checked before."""
    return made(*_CHECKS.read(body))


def made(fields: Fields, values: Mapping[str, Any]) -> ChatRequest:
    """The request out of its fields as text and as checked `values`. Raises `Invalid` for what contradicts itself."""
    require(values, "model", "messages")
    looks_legacy, inputs = _check_messages(values["messages"])
    _check_tools(values)
    rest = fields.copy()
    for name in _TAKEN:
        rest.pop(name, None)
    legacy = legacy_functions.offered(rest, values)
    if looks_legacy:
        rest["messages"] = legacy_functions.modernised(rest["messages"])
    return ChatRequest(
        model=values["model"],
        stream=values.get("stream", False),
        fields=rest,
        models=tuple(values.get("models") or ()),
        include_usage=include_usage(values),
        legacy_functions=legacy,
        inputs=inputs,
    )


def _check_messages(messages: list[_Message]) -> tuple[bool, frozenset[str]]:
    """Content has a form that its role may have, and each tool message answers an earlier call. Gives whether the form
    before tools stands among them, and the kinds of content."""
    calls: set[str] = set()
    kinds: set[str] = set()
    legacy = False
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        first = bytes(memoryview(message.content)[:1])
        if first == b"[":
            kinds |= _check_parts(message.content, place)
        elif first != b'"' and not (first == b"n" and message.role in ("assistant", "function")):
            raise Invalid(
                f"{place}.content: must be a string or an array of parts"
                + (" (null is allowed for an assistant and a function only)." if first == b"n" else "."),
                param=f"{place}.content",
            )
        if message.function_call is not None or message.role == "function":
            legacy = True
        if message.tool_calls:
            if message.role != "assistant":
                raise Invalid(f"{place}.tool_calls: only an assistant calls tools.", param=f"{place}.tool_calls")
            calls.update(call.id for call in message.tool_calls)
        if message.role == "tool":
            if message.tool_call_id is None:
                raise Invalid(
                    f"{place}.tool_call_id: is missing.",
                    param=f"{place}.tool_call_id",
                    code="missing_required_parameter",
                )
            if message.tool_call_id not in calls:
                raise Invalid(
                    f"{place}.tool_call_id: '{message.tool_call_id[:100]}' answers no tool call before it.",
                    param=f"{place}.tool_call_id",
                )
    return legacy, TEXT if kinds <= TEXT else TEXT | kinds


class _Part(Struct):
    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: Raw = Raw(b"null")
    image_url: Raw = Raw(b"null")


_PARTS = msgspec.json.Decoder(list[_Part])


_INPUTS = {"image_url": "image", "input_audio": "audio", "file": "file"}
"""The kinds of content by the types of parts; all others are text."""


def _check_parts(content: Raw, place: str) -> set[str]:
    try:
        parts = _PARTS.decode(content)
    except msgspec.DecodeError as error:
        raise invalid(f"{place}.content", error, list[_Part]) from None
    for index, part in enumerate(parts):
        if part.type == "text" and bytes(memoryview(part.text)[:1]) != b'"':
            param = f"{place}.content[{index}].text"
            raise Invalid(f"{param}: must be a string.", param=param)
        if part.type == "image_url" and bytes(memoryview(part.image_url)[:1]) != b"{":
            param = f"{place}.content[{index}].image_url"
            raise Invalid(f"{param}: must be an object with 'url'.", param=param)
    return {_INPUTS.get(part.type, "text") for part in parts}


def _check_tools(values: Mapping[str, Any]) -> None:
    """Function tools have a function, and a forced tool is on offer."""
    tools: list[_Tool] = values.get("tools") or []
    for index, tool in enumerate(tools):
        if tool.type == "function" and tool.function is None:
            param = f"tools[{index}].function"
            raise Invalid(f"{param}: is missing.", param=param, code="missing_required_parameter")
    choice = values.get("tool_choice")
    if choice is not None and choice not in ("none", "auto") and not tools:
        raise Invalid("'tool_choice' is only allowed when 'tools' are given.", param="tool_choice")
    if isinstance(choice, _ToolChoice) and choice.function is not None:
        names = {tool.function.name for tool in tools if tool.function is not None}
        if choice.function.name not in names:
            raise Invalid(f"tool_choice: no tool is called '{choice.function.name}'.", param="tool_choice")
    response_format = values.get("response_format")
    if response_format is not None and response_format.type == "json_schema" and response_format.json_schema is None:
        raise Invalid(
            "response_format.json_schema: is missing.",
            param="response_format.json_schema",
            code="missing_required_parameter",
        )
