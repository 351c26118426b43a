"""`functions` and `function_call`, the form before tools: tools on the way in, the client's own form on the way out."""

import json
from typing import Any

import msgspec
import openai
import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.dialects.door import KEY, door
from tests.gateway.script import Script, World, world

from xrouter.core.chat import (
    Answer,
    AnswerMessage,
    ChatRequest,
    Choice,
    Delta,
    Event,
    Finish,
    FinishReason,
    Start,
    ToolCall,
    ToolDelta,
    Usage,
)
from xrouter.core.errors import Invalid
from xrouter.dialects.openai import chat_request

BASES = ("/v1", "/api/v1")
FUNCTIONS: list[Any] = [{"name": "f", "parameters": {"type": "object", "properties": {}}}, {"name": "g"}]
TOOLS = [{"type": "function", "function": function} for function in FUNCTIONS]
GO = {"role": "user", "content": "go"}
CALLS = (ToolCall("call_a", "f", '{"a":1}'), ToolCall("call_b", "g", "{}"))
STREAM: list[Event] = [
    Start(), Delta("Well"), ToolDelta(0, "call_a", "f"), ToolDelta(0, arguments='{"a":'),
    ToolDelta(1, "call_b", "g", "{}"), ToolDelta(0, arguments="1}"), Finish("tool_calls"), Usage(7, 2),
]  # fmt: skip


def called(name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"role": "assistant", "content": None, "function_call": {"name": name, "arguments": arguments}}


def parse(**fields: Any) -> ChatRequest:
    return chat_request.parse(json.dumps({"model": "a/m", "messages": [GO], **fields}).encode())


def kept(request: ChatRequest) -> dict[str, Any]:
    return {name: msgspec.json.decode(raw) for name, raw in request.fields.items() if name != "messages"}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (None, {}),
        ("auto", {"tool_choice": "auto"}),
        ("none", {"tool_choice": "none"}),
        ({"name": "g"}, {"tool_choice": {"type": "function", "function": {"name": "g"}}}),
    ],
)
def test_functions_become_tools(choice: Any, expected: dict[str, Any]) -> None:
    request = parse(functions=FUNCTIONS, function_call=choice)
    assert kept(request) == {"tools": TOOLS, **expected}
    assert request.legacy_functions


@pytest.mark.parametrize(
    "fields", [{"functions": []}, {"function_call": "auto"}, {"functions": [], "function_call": "none"}]
)
def test_no_functions_are_no_tools(fields: dict[str, Any]) -> None:
    request = parse(**fields)
    assert kept(request) == {}
    assert not request.legacy_functions


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"functions": FUNCTIONS, "tools": TOOLS}, "functions"),
        ({"functions": FUNCTIONS, "function_call": {"name": "h"}}, "function_call"),
        ({"function_call": {"name": "f"}}, "function_call"),
        ({"messages": [GO, {"role": "function", "name": "f", "content": "x"}]}, "messages[1]"),
        ({"messages": [GO, called(), GO, {"role": "function", "name": "f", "content": "x"}]}, "messages[3]"),
        ({"messages": [GO, called(), {"role": "function", "name": "g", "content": "x"}]}, "messages[2]"),
    ],
)
def test_what_contradicts_itself(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(**fields)
    assert caught.value.param == param


def test_a_conversation_becomes_one_with_tools() -> None:
    messages = [
        GO,
        called("f", '{"a":1}'),
        {"role": "function", "name": "f", "content": "done"},
        {"role": "assistant", "content": "so", "name": "Ann"},
        called("g"),
        {"role": "function", "content": None},
    ]
    request = parse(messages=messages, tools=TOOLS)

    def call(place: int, name: str, arguments: str) -> Any:
        function = {"name": name, "arguments": arguments}
        return [{"id": f"call_{place}", "type": "function", "function": function}]

    assert msgspec.json.decode(request.fields["messages"]) == [
        GO,
        {"role": "assistant", "content": None, "tool_calls": call(1, "f", '{"a":1}')},
        {"role": "tool", "content": "done", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "so", "name": "Ann"},
        {"role": "assistant", "content": None, "tool_calls": call(4, "g", "{}")},
        {"role": "tool", "content": "", "tool_call_id": "call_4"},
    ]
    assert not request.legacy_functions  # it offers tools, so it reads them


async def ask(place: World, base: str, *, stream: bool, **more: Any) -> Any:
    async with (
        door(place) as url,
        openai.AsyncOpenAI(
            base_url=url + base, api_key=KEY, max_retries=0, timeout=20, _strict_response_validation=True
        ) as sdk,
    ):
        messages: Any = [GO]
        found: Any = await sdk.chat.completions.create(model="a/m", messages=messages, stream=stream, **more)
        return [chunk async for chunk in found] if stream else found


@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize(("reason", "shown"), [("tool_calls", "function_call"), ("length", "length")])
async def test_a_whole_answer(base: str, reason: FinishReason, shown: str) -> None:
    said = Answer((Choice(0, AnswerMessage(None, CALLS), reason),), Usage(7, 2))
    answer: ChatCompletion = await ask(world(a=Script([said])), base, stream=False, functions=FUNCTIONS)
    (choice,) = answer.choices
    assert choice.finish_reason == shown
    assert choice.message.function_call is not None
    assert choice.message.function_call.model_dump() == {"name": "f", "arguments": '{"a":1}'}
    assert choice.message.tool_calls is None


@pytest.mark.parametrize("base", BASES)
async def test_a_streamed_answer(base: str) -> None:
    chunks: list[ChatCompletionChunk] = await ask(
        world(a=Script(STREAM)), base, stream=True, functions=FUNCTIONS, function_call="auto"
    )
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Well"
    pieces = [delta.function_call for delta in deltas if delta.function_call is not None]
    assert [(piece.name, piece.arguments) for piece in pieces] == [("f", ""), (None, '{"a":'), (None, "1}")]
    assert all(delta.tool_calls is None for delta in deltas)
    assert [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason] == [
        "function_call"
    ]


async def test_a_call_at_once_begins_with_a_role_and_no_content() -> None:
    play: list[Event] = [Start(), ToolDelta(0, "call_a", "f", "{}"), Finish("tool_calls")]
    first, last = await ask(world(a=Script(play)), "/v1", stream=True, functions=FUNCTIONS)
    assert first.choices[0].delta.model_dump(exclude_unset=True) == {
        "role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"},
    }  # fmt: skip
    assert last.choices[0].finish_reason == "function_call"


@pytest.mark.parametrize("stream", [False, True])
async def test_who_offers_tools_reads_tools(stream: bool) -> None:
    play: Any = STREAM if stream else [Answer((Choice(0, AnswerMessage(None, CALLS), "tool_calls"),), Usage(7, 2))]
    found = await ask(world(a=Script(play)), "/v1", stream=stream, tools=TOOLS)
    if stream:
        assert len([chunk for chunk in found if chunk.choices[0].delta.tool_calls]) == 4
        assert all(chunk.choices[0].delta.function_call is None for chunk in found)
        assert found[-1].choices[0].finish_reason == "tool_calls"
    else:
        assert [call.id for call in found.choices[0].message.tool_calls] == ["call_a", "call_b"]
        assert found.choices[0].message.function_call is None
