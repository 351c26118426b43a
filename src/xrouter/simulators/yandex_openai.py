"""Yandex AI Studio's OpenAI-compatible chat, in the dialects of the two servers behind it.

https://yandex.cloud/docs/ai-studio/concepts/openai-compatibility; the differences are those of recorded traffic in
https://github.com/yandex-cloud/yandex-ai-studio-sdk. Parameters that it does not know do not fail.
"""

import uuid
from collections.abc import Iterator
from random import Random
from typing import Any, Final

import msgspec

from xrouter.simulators import continuing, delivery, speech
from xrouter.simulators.answers import Call, Question, Tool
from xrouter.simulators.desk import Refusal
from xrouter.simulators.faults import Fault
from xrouter.simulators.yandex_models import Found
from xrouter.simulators.yandex_speech import Ask, Spoken, pieces

CALL_PIECE_CHARS: Final = 8
IMAGE_TOKENS: Final = 256
_ROLES: Final = ("system", "user", "assistant", "tool")
_LIKE: Final = ("messages", "tools", "tool_choice", "response_format", "reasoning_effort")


def read(data: dict[str, Any], found: Found) -> Ask:
    """Check a request body. Raises `Refusal` 400."""
    messages = data.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "messages must not be empty")
    ids: dict[str, str] = {}
    for index, message in enumerate(messages):
        _check_message(index, message, found, ids)
    temperature, cap = data.get("temperature"), data.get("max_tokens")
    if temperature is not None and not (isinstance(temperature, int | float) and 0 <= temperature <= 1):
        raise Refusal(400, "temperature must be in range [0, 1]")
    if cap is not None and not (type(cap) is int and cap > 0):
        raise Refusal(400, "max_tokens must be a positive integer")
    tools = [_tool(tool) for tool in data.get("tools") or ()]
    prompt = sum(_message_tokens(message) for message in messages) + _json_tokens(data.get("tools"))
    if prompt > found.model.context_tokens:
        raise Refusal(400, f"number of input tokens must be no more than {found.model.context_tokens}, got {prompt}")
    messages, said, _ = continuing.part(messages, _text, exact=False)
    stop = data.get("stop") or ()
    question = Question(
        user_text=next((_text(message) for message in reversed(messages) if message["role"] == "user"), ""),
        results=_results(messages, ids),
        ends_with_user=messages[-1]["role"] == "user",
        tools=tools,
        call=_choice(data.get("tool_choice"), tools),
        json_schema=_schema(data.get("response_format")),
        thinking=not found.model.own and (found.model.thinks or data.get("reasoning_effort") is not None),
        said=said,
    )
    return Ask(
        question,
        prompt,
        stream=data.get("stream") is True,
        max_tokens=cap,
        # The vendor's own models have no word for an end; the server of the open ones has.
        stops=() if found.model.own else [stop] if isinstance(stop, str) else list(stop),
        likeness={"model": found.tail, **{name: data[name] for name in _LIKE if name in data}, "messages": messages},
    )


def completion(spoken: Spoken, ask: Ask, found: Found, uri: str, created: int, rng: Random, fault: Fault) -> bytes:
    """The body of a whole answer."""
    message: dict[str, Any] = {"role": "assistant", "content": spoken.answer.text}
    if spoken.answer.reasoning:
        message["reasoning_content"] = spoken.answer.reasoning
    calls = [_call(index, call, found, rng) for index, call in enumerate(spoken.answer.calls)]
    if calls:
        message["tool_calls"] = calls
    frame = _frame(found, uri, created, rng)
    choice = {"index": 0, "message": message, "finish_reason": spoken.finish}
    body = {**frame, "object": "chat.completion", "choices": [choice]}
    usage = _usage(spoken, ask, fault)
    return msgspec.json.encode({**body, "usage": usage} if usage else body)


def events(
    spoken: Spoken, ask: Ask, found: Found, uri: str, created: int, rng: Random, fault: Fault
) -> delivery.Events:
    """The chunks of a stream."""
    frame = {**_frame(found, uri, created, rng), "object": "chat.completion.chunk"}

    def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "delta": delta}
        return msgspec.json.encode({**frame, "choices": [{**choice, "finish_reason": finish} if finish else choice]})

    if found.model.own:
        return _own_events(spoken, found, rng, chunk)
    content = [(chunk(delta), weight) for delta, weight in _deltas(spoken, found, rng)]
    closing = [chunk({}, spoken.finish)]
    usage = _usage(spoken, ask, fault)
    if usage is not None:
        closing.append(msgspec.json.encode({**frame, "choices": [], "usage": usage}))
    return delivery.Events([chunk({"role": "assistant"})], content, closing)


def _own_events(spoken: Spoken, found: Found, rng: Random, chunk: Any) -> delivery.Events:
    """The vendor's own models: the first chunk has a text already, the last one text and finish, and no usage."""
    if spoken.answer.calls:
        calls = [_call(index, call, found, rng) for index, call in enumerate(spoken.answer.calls)]
        last = chunk({"role": "assistant", "content": "", "tool_calls": calls}, spoken.finish)
        return delivery.Events([], [], [last])
    if spoken.finish == "content_filter":  # the filter's text is whole, and stands where the next piece would
        begun = {"role": "assistant", "content": spoken.begun}
        content = [(chunk(begun), spoken.tokens)] if spoken.begun else []
        return delivery.Events([], content, [chunk({"content": spoken.answer.text}, spoken.finish)])
    parts = pieces(spoken.answer.text, rng) or [("", 0)]
    text, weight = parts.pop()
    if not parts:
        parts, text, weight = [(text[: len(text) // 2], weight)], text[len(text) // 2 :], 0
    parts[-1] = (parts[-1][0], parts[-1][1] + weight)
    deltas = [({"content": piece}, tokens) for piece, tokens in parts]
    deltas[0] = ({"role": "assistant", **deltas[0][0]}, deltas[0][1])
    return delivery.Events(
        [], [(chunk(delta), tokens) for delta, tokens in deltas], [chunk({"content": text}, spoken.finish)]
    )


def _deltas(spoken: Spoken, found: Found, rng: Random) -> Iterator[tuple[dict[str, Any], int]]:
    """Open models: token by token, arguments in pieces whose other fields are empty texts."""
    if spoken.begun:
        yield {"content": spoken.begun}, speech.tokens(spoken.begun)
    for key, text in (("reasoning_content", spoken.answer.reasoning), ("content", spoken.answer.text)):
        for piece, weight in pieces(text, rng):
            yield {key: piece}, weight
    for index, call in enumerate(spoken.answer.calls):
        head = _call(index, call, found, rng)
        head["function"] = {"name": call.name, "arguments": ""}
        yield {"tool_calls": [head]}, speech.tokens(call.name)
        arguments = call.arguments_json
        for at in range(0, len(arguments), CALL_PIECE_CHARS):
            piece = arguments[at : at + CALL_PIECE_CHARS]
            function = {"name": "", "arguments": piece}
            yield {"tool_calls": [{"index": index, "id": "", "type": "", "function": function}]}, speech.tokens(piece)


def _frame(found: Found, uri: str, created: int, rng: Random) -> dict[str, Any]:
    number = str(uuid.UUID(int=rng.getrandbits(128), version=4))
    if found.model.own:
        return {"id": number, "created": created, "model": uri}
    return {"id": f"chatcmpl-{number}", "created": created, "model": f"gpt://{found.tail}"}


def _call(index: int, call: Call, found: Found, rng: Random) -> dict[str, Any]:
    """With its place even where nothing is streamed; the vendor's own models call it by its function's name."""
    call_id = call.name if found.model.own else f"chatcmpl-tool-{rng.getrandbits(128):032x}"
    return {
        "index": index,
        "id": call_id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }


def _usage(spoken: Spoken, ask: Ask, fault: Fault) -> dict[str, int] | None:
    if fault.name == "no-usage":
        return None
    prompt, completion = ask.prompt_tokens, spoken.tokens
    if fault.name == "wrong-usage":
        prompt, completion = -prompt, 10**18
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}


def _check_message(index: int, message: Any, found: Found, ids: dict[str, str]) -> None:
    if not isinstance(message, dict) or message.get("role") not in _ROLES:
        raise Refusal(400, f"messages[{index}].role must be one of {', '.join(_ROLES)}")
    content, role = message.get("content"), message["role"]
    for part in content if isinstance(content, list) else ():
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "image_url" and not found.model.sees:
            raise Refusal(400, f"messages[{index}]: the model does not support images")
        if kind not in ("text", "image_url"):
            raise Refusal(400, f"messages[{index}]: unknown content part {kind}")
    if content is not None and not isinstance(content, str | list):
        raise Refusal(400, f"messages[{index}].content must be a string or parts")
    for call in message.get("tool_calls") or ():
        function = call.get("function") if isinstance(call, dict) else None
        if role != "assistant" or not isinstance(function, dict) or not isinstance(function.get("arguments"), str):
            raise Refusal(400, f"messages[{index}].tool_calls is invalid")
        if found.model.own and call.get("id") != function.get("name"):
            raise Refusal(400, f"messages[{index}].tool_calls: unknown call id {call.get('id')}")
        ids[str(call.get("id"))] = str(function.get("name"))
    if role == "tool" and message.get("tool_call_id") not in ids:
        raise Refusal(400, f"messages[{index}].tool_call_id is unknown")


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(part["text"] for part in content if part["type"] == "text")
    return content or ""


def _message_tokens(message: dict[str, Any]) -> int:
    content = message.get("content")
    pictures = [part for part in content if part["type"] == "image_url"] if isinstance(content, list) else []
    calls = _json_tokens(message.get("tool_calls"))
    return speech.tokens(_text(message)) + len(pictures) * IMAGE_TOKENS + calls + 3


def _json_tokens(value: object) -> int:
    return speech.tokens(msgspec.json.encode(value).decode()) if value else 0


def _tool(tool: Any) -> Tool:
    function = tool.get("function") if isinstance(tool, dict) and tool.get("type") == "function" else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise Refusal(400, "tools: only functions with a name are supported")
    return Tool(function["name"], function.get("parameters"))


def _choice(choice: object, tools: list[Tool]) -> str:
    """`auto` and `none` are documented; nothing else has an effect."""
    return "none" if not tools or choice == "none" else "auto"


def _schema(wanted: Any) -> object:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        return True
    if kind != "json_schema":
        return None
    described = wanted.get("json_schema")
    if not isinstance(described, dict) or not described.get("name"):
        raise Refusal(400, "response_format.json_schema.name is required")
    return described.get("schema", True)


def _results(messages: list[dict[str, Any]], ids: dict[str, str]) -> list[tuple[str, str]]:
    results: list[tuple[str, str]] = []
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        results.insert(0, (ids[message["tool_call_id"]], _text(message)))
    return results
