"""What vLLM's chat endpoint accepts, and its words for what it does not."""

from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec

from xrouter.simulators import continuing, speech
from xrouter.simulators.answers import Question, Tool
from xrouter.simulators.desk import Refusal

_ROLES: Final = ("system", "user", "assistant", "tool")
MAX_CHOICES: Final = 128
DEFAULT_COMPLETION: Final = 16  # tokens, when nobody says how many


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A request that passed."""

    question: Question
    prompt_tokens: int
    stream: bool
    include_usage: bool
    choices: int
    max_tokens: int | None
    stops: list[str]
    top_logprobs: int | None
    likeness: dict[str, Any] = field(default_factory=dict)


def bad_request(message: str) -> Refusal:
    """400 in vLLM's words."""
    return Refusal(400, message)


def read(data: dict[str, Any], model: str, *, thinks: bool) -> ChatRequest:
    """Check a request body; `thinks`: the model reasons when nobody says otherwise. Raises `Refusal` 400."""
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise bad_request("1 validation error: ('body', 'messages'): Field required")
    for index, message in enumerate(messages):
        _check_message(index, message)
    _check_numbers(data)
    prompt_tokens = sum(map(_message_tokens, messages)) + _json_tokens(data.get("tools"))
    messages, said, exact = continuing.part(messages, text_of, exact=_goes_on(data, messages))
    tools = _tools(data)
    user_text = next((text_of(message) for message in reversed(messages) if message["role"] == "user"), "")
    user_text, thinking = _thinking(data, user_text, thinks=thinks)
    options = data.get("stream_options") or {}
    if options and not data.get("stream"):
        raise bad_request("Stream options can only be defined when `stream=True`.")
    question = Question(
        user_text=user_text,
        results=_results(messages),
        ends_with_user=messages[-1]["role"] == "user",
        tools=tools,
        call=_tool_choice(data.get("tool_choice"), tools),
        parallel=data.get("parallel_tool_calls") is not False,
        json_schema=_schema(data),
        thinking=thinking,
        said=said,
        exact=exact,
    )
    keys = ("messages", "tools", "tool_choice", "response_format", "structured_outputs", "guided_json", "seed")
    return ChatRequest(
        question,
        prompt_tokens=prompt_tokens,
        stream=bool(data.get("stream")),
        include_usage=bool(options.get("include_usage")),
        choices=data.get("n") or 1,
        max_tokens=data.get("max_completion_tokens") or data.get("max_tokens"),
        stops=_stops(data.get("stop")),
        top_logprobs=(data.get("top_logprobs") or 0) if data.get("logprobs") else None,
        likeness={
            "model": model,
            "thinking": thinking,
            **{key: data[key] for key in keys if key in data},
            "messages": messages,
        },
    )


def read_completion(data: dict[str, Any], model: str) -> ChatRequest:
    """The same for `/v1/completions`: a prompt instead of messages. Raises `Refusal` 400."""
    prompt = data.get("prompt")
    if not isinstance(prompt, str) or not prompt:
        raise bad_request("('body', 'prompt'): Input should be a valid string")
    for name in ("tools", "messages", "response_format"):
        if data.get(name) is not None:
            raise bad_request(f"('body', '{name}'): Extra inputs are not permitted")
    found = read({**data, "messages": [{"role": "user", "content": prompt}]}, model, thinks=False)
    return replace(found, prompt_tokens=speech.tokens(prompt), max_tokens=found.max_tokens or DEFAULT_COMPLETION)


def _goes_on(data: dict[str, Any], messages: list[dict[str, Any]]) -> bool:
    """Is the last message the beginning of the answer?"""
    if not data.get("continue_final_message"):
        return False
    if data.get("add_generation_prompt") is not False:
        raise bad_request("Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    if messages[-1]["role"] != "assistant" or not text_of(messages[-1]):
        raise bad_request("continue_final_message is set but the final message is not one of the assistant.")
    return True


def text_of(message: dict[str, Any]) -> str:
    """The text of a message whose content is a string or a list of parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part.get("text", "") for part in content)
    return content or ""


def _message_tokens(message: dict[str, Any]) -> int:
    return speech.tokens(text_of(message)) + _json_tokens(message.get("tool_calls")) + 3


def _json_tokens(value: object) -> int:
    return speech.tokens(msgspec.json.encode(value).decode()) if value else 0


def _check_message(index: int, message: object) -> None:
    if not isinstance(message, dict):
        raise bad_request(f"('body', 'messages', {index}): Input should be a valid dictionary")
    role = message.get("role")
    if role not in _ROLES:
        raise bad_request("Unexpected message role.")
    if role == "system" and index:
        raise bad_request("System message must be at the beginning.")
    content = message.get("content")
    if isinstance(content, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text", ""), str) for part in content):
            raise bad_request(f"('body', 'messages', {index}, 'content'): Input should be a valid content part")
        if any(part.get("type") != "text" for part in content):
            raise bad_request("At most 0 image(s) may be provided in one request.")
    elif content is not None and not isinstance(content, str):
        raise bad_request(f"('body', 'messages', {index}, 'content'): Input should be a valid string")
    elif content is None and role != "assistant":
        raise bad_request(f"('body', 'messages', {index}, 'content'): Field required")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise bad_request(f"('body', 'messages', {index}, 'tool_call_id'): Field required")
    for call in message.get("tool_calls") or ():
        _check_call(index, call)


def _check_call(index: int, call: object) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise bad_request(f"('body', 'messages', {index}, 'tool_calls'): Field required: function.name")
    try:
        arguments = msgspec.json.decode(function["arguments"])
    except (KeyError, TypeError, msgspec.DecodeError):
        raise bad_request("Tool call arguments must be a string that holds JSON") from None
    if not isinstance(arguments, dict):
        raise bad_request("Tool call arguments must be a JSON object")


def _check_numbers(data: dict[str, Any]) -> None:
    temperature, top_p = data.get("temperature"), data.get("top_p")
    if temperature is not None and not (_is_number(temperature) and temperature >= 0):
        raise bad_request(f"temperature must be non-negative, got {temperature}.")
    if top_p is not None and not (_is_number(top_p) and 0 < top_p <= 1):
        raise bad_request(f"top_p must be in (0, 1], got {top_p}.")
    for name in ("presence_penalty", "frequency_penalty"):
        value = data.get(name)
        if value is not None and not (_is_number(value) and -2 <= value <= 2):
            raise bad_request(f"{name} must be in [-2, 2], got {value}.")
    for name, most in (("max_tokens", 2**31), ("max_completion_tokens", 2**31), ("n", MAX_CHOICES)):
        value = data.get(name)
        if value is not None and not (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most):
            raise bad_request(f"{name} must be at least 1 and at most {most}, got {value}.")
    for name in ("stream", "logprobs"):
        if not isinstance(data.get(name), bool | None):
            raise bad_request(f"('body', '{name}'): Input should be a valid boolean")
    top_logprobs = data.get("top_logprobs")
    if top_logprobs is not None:
        if not isinstance(top_logprobs, int) or not 0 <= top_logprobs <= 20:
            raise bad_request(f"top_logprobs must be between 0 and 20, got {top_logprobs}.")
        if top_logprobs and not data.get("logprobs"):
            raise bad_request("when using `top_logprobs`, `logprobs` must be set to true.")
    if not isinstance(data.get("stream_options"), dict | None):
        raise bad_request("('body', 'stream_options'): Input should be a valid dictionary")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _tools(data: dict[str, Any]) -> list[Tool]:
    tools = data.get("tools")
    if tools is None:
        return []
    if not isinstance(tools, list):
        raise bad_request("('body', 'tools'): Input should be a valid list")
    read_tools = []
    for tool in tools:
        function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise bad_request("('body', 'tools'): Input should be a function with a name")
        if not isinstance(function.get("parameters"), dict | None):
            raise bad_request("('body', 'tools'): function.parameters should be a valid dictionary")
        read_tools.append(Tool(function["name"], function.get("parameters")))
    return read_tools


def _tool_choice(choice: object, tools: list[Tool]) -> str:
    if choice is None:
        return "auto" if tools else "none"
    if isinstance(choice, str) and choice in ("none", "auto", "required"):
        if choice == "required" and not tools:
            raise bad_request("When using `tool_choice`, `tools` must be set.")
        return choice
    function = choice.get("function") if isinstance(choice, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise bad_request('Currently only named tools, "none", "auto" or "required" are supported for `tool_choice`.')
    if function["name"] not in [tool.name for tool in tools]:
        raise bad_request("The tool specified in `tool_choice` does not match any of the specified `tools`")
    return str(function["name"])


def _results(messages: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """The tool results that end the conversation, each with the name of the function that was called."""
    names = {
        call.get("id"): call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()
    }
    results: list[tuple[str, str]] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.insert(0, (names.get(message["tool_call_id"], "tool"), text_of(message)))
    return results


def _schema(data: dict[str, Any]) -> object:
    structured = data.get("structured_outputs")
    guided = data.get("guided_json") or (structured.get("json") if isinstance(structured, dict) else None)
    if guided is not None:
        return guided
    wanted = data.get("response_format")
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or kind == "text":
        return None
    if kind == "json_object":
        return True
    described = wanted.get("json_schema")
    if kind != "json_schema" or not isinstance(described, dict):
        raise bad_request("('body', 'response_format'): Input should be 'text', 'json_object' or 'json_schema'")
    return described.get("schema", True)


def _stops(stop: object) -> list[str]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or not all(isinstance(item, str) and item for item in stops):
        raise bad_request("stop cannot contain an empty string.")
    return stops


def _thinking(data: dict[str, Any], user_text: str, *, thinks: bool) -> tuple[str, bool]:
    """The user's words without Qwen's soft switches, and whether the model thinks."""
    for switch, on in (("/no_think", False), ("/think", True)):
        if user_text.rstrip().endswith(switch):
            return user_text.rstrip().removesuffix(switch).rstrip(), on
    template = data.get("chat_template_kwargs")
    told = template.get("enable_thinking") if isinstance(template, dict) else None
    return user_text, thinks if told is None else bool(told)
