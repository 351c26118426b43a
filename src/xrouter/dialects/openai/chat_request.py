"""`POST /v1/chat/completions`: the body as it is checked on the way in.

One pass over the top level; each known field is checked by its own decoder, so that an error names the
field (`messages[2].role`). Values stay JSON text: what no step changes is passed on as it came.
Field list: OpenAI's API reference of 2026-11 plus the documented extras of vLLM and OpenRouter.
"""

import re
from collections.abc import Callable
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Raw, Struct

from xrouter.core.chat import ChatRequest, Fields, Role
from xrouter.core.errors import Invalid

MAX_MESSAGES = 2048
MAX_TOOLS = 128
MAX_MODELS = 16

_Text = Annotated[str, Meta(max_length=512)]
_Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Penalty = Annotated[float, Meta(ge=-2, le=2)]


class _StreamOptions(Struct):
    include_usage: bool | None = None
    include_obfuscation: bool | None = None


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


_TYPES: dict[str, Any] = {
    "audio": dict[str, Raw],
    "chat_template_kwargs": dict[str, Raw],
    "frequency_penalty": _Penalty,
    "function_call": Literal["none", "auto"] | _Named,
    "functions": Annotated[list[_Function], Meta(max_length=MAX_TOOLS)],
    "logit_bias": dict[str, float],
    "logprobs": bool,
    "max_completion_tokens": _Count,
    "max_tokens": _Count,
    "messages": Annotated[list[_Message], Meta(min_length=1, max_length=MAX_MESSAGES)],
    "metadata": Annotated[dict[str, _Text], Meta(max_length=16)],
    "min_p": Annotated[float, Meta(ge=0, le=1)],
    "modalities": list[str],
    "model": Annotated[str, Meta(min_length=1, max_length=512)],
    "models": Annotated[list[Annotated[str, Meta(min_length=1, max_length=512)]], Meta(max_length=MAX_MODELS)],
    "n": Annotated[int, Meta(ge=1, le=128)],
    "parallel_tool_calls": bool,
    "prediction": dict[str, Raw],
    "presence_penalty": _Penalty,
    "prompt_cache_key": str,
    "reasoning_effort": Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"],
    "repetition_penalty": Annotated[float, Meta(gt=0, le=100)],
    "response_format": _ResponseFormat,
    "safety_identifier": _Text,
    "seed": int,
    "service_tier": str,
    "stop": Annotated[list[str], Meta(max_length=4)] | str,
    "store": bool,
    "stream": bool,
    "stream_options": _StreamOptions,
    "temperature": Annotated[float, Meta(ge=0, le=2)],
    "tool_choice": Literal["none", "auto", "required"] | _ToolChoice,
    "tools": Annotated[list[_Tool], Meta(max_length=MAX_TOOLS)],
    "top_k": int,
    "top_logprobs": Annotated[int, Meta(ge=0, le=20)],
    "top_p": Annotated[float, Meta(ge=0, le=1)],
    "user": _Text,
    "verbosity": Literal["low", "medium", "high"],
    "web_search_options": dict[str, Raw],
}
_CHECKS: dict[str, Callable[[Raw], Any]] = {name: msgspec.json.Decoder(kind).decode for name, kind in _TYPES.items()}
_TOP_LEVEL = msgspec.json.Decoder(dict[str, Raw])
_NULL = Raw(b"null")
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")


def parse(body: bytes) -> ChatRequest:
    """The request in our words. Raises `Invalid` that names the field; the body's size, UTF-8 and depth were
    checked before."""
    fields = _top_level(body)
    values = {name: _check(name, raw) for name, raw in fields.items() if name in _CHECKS}
    for name in ("model", "messages"):
        if name not in values:
            raise Invalid(f"The field '{name}' is missing.", param=name, code="missing_required_parameter")
    _check_messages(values["messages"])
    _check_tools(values)
    stream = values.get("stream", False)
    options = values.get("stream_options")
    if options is not None and not stream:
        raise Invalid("'stream_options' is only allowed when 'stream' is true.", param="stream_options")
    rest: Fields = {
        name: raw for name, raw in fields.items() if name not in ("model", "models", "stream", "stream_options")
    }
    return ChatRequest(
        model=values["model"],
        stream=stream,
        fields=rest,
        models=tuple(values.get("models") or ()),
        include_usage=bool(options is not None and options.include_usage),
    )


def _top_level(body: bytes) -> Fields:
    """The JSON object, one level deep; fields that are null count as not sent."""
    try:
        fields = _TOP_LEVEL.decode(body)
    except msgspec.ValidationError:
        raise Invalid("The body must be a JSON object.", code="invalid_json") from None
    except msgspec.DecodeError as error:
        raise Invalid(f"The body is not valid JSON: {error}", code="invalid_json") from None
    except RecursionError:
        raise Invalid("The body is nested too deeply.", code="invalid_json") from None
    return {name: raw for name, raw in fields.items() if raw != _NULL}


def _check(name: str, raw: Raw) -> Any:
    try:
        return _CHECKS[name](raw)
    except msgspec.DecodeError as error:
        raise _invalid(name, error, _TYPES[name]) from None


_MISSING = re.compile(r"missing required field `(?P<field>[^`]+)`")
_WRONG_WORD = re.compile(r"Invalid enum value (?P<value>.+)$", re.DOTALL)
_STEP = re.compile(r"\[[^]]*\]|[^.\[\]]+")


def _words_at(kind: Any, path: list[str]) -> list[str]:
    """The words that the type `kind` allows at `path`, whose steps are field names and `[...]`."""
    origin, inside = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words_at(inside[0], path)
    if origin is Union or origin is UnionType:
        return [word for one in inside for word in _words_at(one, path)]
    if origin is Literal:
        return [] if path else list(inside)
    if origin is list or origin is dict:
        return _words_at(inside[-1], path[1:]) if path else []
    if isinstance(kind, type) and issubclass(kind, Struct):
        if not path:
            return ["an object"]
        return _words_at(get_type_hints(kind, include_extras=True).get(path[0]), path[1:])
    return []


def _invalid(name: str, error: msgspec.DecodeError, kind: Any) -> Invalid:
    """msgspec's complaint about the field `name` of type `kind` with the place in our spelling and the words it
    may be."""
    text, param, code = str(error), name, None
    path: list[str] = []
    place = _PLACE.search(text)
    if place:
        path = _STEP.findall(place["path"])
        # msgspec writes `[...]` for a value of an object whose keys are the client's own.
        text, param = text[: place.start()], name + place["path"].replace("[...]", "")
    missing = _MISSING.search(text)
    if missing:
        param, text, code = f"{param}.{missing['field']}", "is missing", "missing_required_parameter"
    wrong = _WRONG_WORD.match(text)
    if wrong:
        allowed = _words_at(kind, path)
        text = f"{wrong['value'][:100]} is not allowed" + (f"; allowed: {', '.join(allowed)}" if allowed else "")
    return Invalid(f"{param}: {text}.", param=param, code=code)


def _check_messages(messages: list[_Message]) -> None:
    """Content has a form that its role may have, and each tool message answers an earlier call."""
    calls: set[str] = set()
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        first = bytes(memoryview(message.content)[:1])
        if first == b"[":
            _check_parts(message.content, place)
        elif first != b'"' and not (first == b"n" and message.role in ("assistant", "function")):
            raise Invalid(
                f"{place}.content: must be a string or an array of parts"
                + (" (null is allowed for an assistant and a function only)." if first == b"n" else "."),
                param=f"{place}.content",
            )
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


class _Part(Struct):
    type: Literal["text", "image_url", "input_audio", "file", "refusal"]
    text: Raw = Raw(b"null")
    image_url: Raw = Raw(b"null")


_PARTS = msgspec.json.Decoder(list[_Part])


def _check_parts(content: Raw, place: str) -> None:
    try:
        parts = _PARTS.decode(content)
    except msgspec.DecodeError as error:
        raise _invalid(f"{place}.content", error, list[_Part]) from None
    for index, part in enumerate(parts):
        if part.type == "text" and bytes(memoryview(part.text)[:1]) != b'"':
            param = f"{place}.content[{index}].text"
            raise Invalid(f"{param}: must be a string.", param=param)
        if part.type == "image_url" and bytes(memoryview(part.image_url)[:1]) != b"{":
            param = f"{place}.content[{index}].image_url"
            raise Invalid(f"{param}: must be an object with 'url'.", param=param)


def _check_tools(values: dict[str, Any]) -> None:
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
