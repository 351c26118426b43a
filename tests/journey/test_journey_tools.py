"""Tool calls through the whole product, for every provider: parallel, streamed, forced, without arguments, over
several turns."""

import json
from typing import Any

import pytest
from campaigns.stage import Gateway
from tests.journey.conftest import AT_ONCE, EVERYBODY, Sdk


@pytest.fixture
def place(everybody: Gateway) -> Gateway:
    return everybody


@pytest.fixture(params=EVERYBODY)
def model(request: pytest.FixtureRequest) -> str:
    return EVERYBODY[request.param]


@pytest.fixture(params=AT_ONCE)
def parallel(request: pytest.FixtureRequest) -> str:
    """A model that may call several tools at once."""
    return AT_ONCE[request.param]


def tool(name: str, **properties: str) -> Any:
    schema = {
        "type": "object",
        "properties": {field: {"type": kind} for field, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": schema}}


WEATHER = tool("get_weather", city="string")
RATE = tool("get_rate", currency="string")
PING: Any = {"type": "function", "function": {"name": "ping"}}
QUESTION = "Please call get weather and get rate"


def collected(chunks: list[Any]) -> dict[int, dict[str, str]]:
    """The calls of a stream put together as a client does it."""
    calls: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        for choice in chunk.choices:
            for piece in choice.delta.tool_calls or ():
                call = calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
                call["id"] += piece.id or ""
                call["name"] += piece.function.name or ""
                call["arguments"] += piece.function.arguments or ""
    return calls


async def test_a_tool_is_called(sdk: Sdk, model: str) -> None:
    answer = await sdk.chat(model, "What is the weather?", tools=[WEATHER])

    (choice,) = answer.choices
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    assert call.id
    assert call.function.name == "get_weather"
    assert set(json.loads(call.function.arguments)) == {"city"}


async def test_tools_are_called_in_parallel(sdk: Sdk, parallel: str) -> None:
    answer = await sdk.chat(parallel, QUESTION, tools=[WEATHER, RATE])
    calls = answer.choices[0].message.tool_calls
    assert [call.function.name for call in calls] == ["get_weather", "get_rate"]
    assert len({call.id for call in calls}) == 2

    one = await sdk.chat(parallel, QUESTION, tools=[WEATHER, RATE], parallel_tool_calls=False)
    assert len(one.choices[0].message.tool_calls) == 1


@pytest.mark.parametrize("way", [way for way in EVERYBODY if way not in AT_ONCE])
async def test_a_vendor_with_one_call_at_a_time_makes_one(sdk: Sdk, way: str) -> None:
    answer = await sdk.chat(EVERYBODY[way], QUESTION, tools=[WEATHER, RATE], parallel_tool_calls=True)
    assert len(answer.choices[0].message.tool_calls) == 1


async def test_parallel_calls_are_streamed(sdk: Sdk, parallel: str) -> None:
    whole = await sdk.chat(parallel, QUESTION, tools=[WEATHER, RATE])
    chunks = await sdk.stream(parallel, QUESTION, tools=[WEATHER, RATE])

    calls = collected(chunks)
    assert [calls[index]["name"] for index in sorted(calls)] == ["get_weather", "get_rate"]
    assert [calls[index]["arguments"] for index in sorted(calls)] == [
        call.function.arguments for call in whole.choices[0].message.tool_calls
    ]
    assert len({calls[index]["id"] for index in calls}) == 2
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_call_is_streamed(sdk: Sdk, model: str) -> None:
    chunks = await sdk.stream(model, "What is the weather?", tools=[WEATHER])
    (call,) = collected(chunks).values()
    assert call["id"]
    assert call["name"] == "get_weather"
    assert set(json.loads(call["arguments"])) == {"city"}
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_without_arguments_gets_an_empty_object(sdk: Sdk, model: str, stream: bool) -> None:
    if stream:
        (call,) = collected(await sdk.stream(model, "Do it", tools=[PING])).values()
        name, arguments = call["name"], call["arguments"]
    else:
        (made,) = (await sdk.chat(model, "Do it", tools=[PING])).choices[0].message.tool_calls
        name, arguments = made.function.name, made.function.arguments
    assert name == "ping"
    assert json.loads(arguments) == {}


# The OpenAI surface of this vendor knows no force: the tool is offered alone, and the client is told.
UNFORCED = (EVERYBODY["yandexgpt"], EVERYBODY["yandexgpt hosted"])
FORCED: Any = {"type": "function", "function": {"name": "get_rate"}}


async def test_a_forced_tool_is_called_and_no_other(sdk: Sdk, model: str) -> None:
    order = "What is the weather?" if model in UNFORCED else "echo: no tools please"
    answer = await sdk.chat(model, order, tools=[WEATHER, RATE], tool_choice=FORCED)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_rate"

    chunks = await sdk.stream(model, order, tools=[WEATHER, RATE], tool_choice=FORCED)
    (streamed,) = collected(chunks).values()
    assert (streamed["name"], streamed["arguments"]) == ("get_rate", call.function.arguments)

    raw = await sdk.raw(model, order, tools=[WEATHER], tool_choice="required")
    assert raw.parse().choices[0].message.tool_calls[0].function.name == "get_weather"
    assert raw.headers.get("x-xrouter-dropped-params") == ("tool_choice" if model in UNFORCED else None)

    none = await sdk.chat(model, "What is the weather?", tools=[WEATHER], tool_choice="none")
    assert none.choices[0].message.content
    assert not none.choices[0].message.tool_calls


def history() -> list[Any]:
    """Two turns with tools behind us; the last one brought several results."""

    def call(name: str, number: int) -> Any:
        return {"id": f"call_{number}", "type": "function", "function": {"name": name, "arguments": '{"a": 1}'}}

    return [
        {"role": "system", "content": "Use the tools."},
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call("get_weather", 1)]},
        {"role": "tool", "tool_call_id": "call_1", "content": "plus 11"},
        {"role": "assistant", "content": "It is plus 11."},
        {"role": "user", "content": "And now both?"},
        {"role": "assistant", "tool_calls": [call("get_weather", 2), call("get_rate", 3)]},
        # Results may come in another order than the calls.
        {"role": "tool", "tool_call_id": "call_3", "content": '{"rate": 98.7}'},
        {"role": "tool", "tool_call_id": "call_2", "content": "plus 27"},
    ]


@pytest.mark.parametrize("stream", [False, True])
async def test_several_results_over_several_turns_reach_the_model(sdk: Sdk, model: str, stream: bool) -> None:
    asked: Any = {"messages": history(), "tools": [WEATHER, RATE]}
    if stream:
        chunks = await sdk.stream(model, **asked)
        said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    else:
        said = (await sdk.chat(model, **asked)).choices[0].message.content
    assert "98.7" in said
    if model in AT_ONCE.values():  # GigaChat's form ends with one result; both stand in the conversation
        assert "plus 27" in said


async def test_a_round_trip_with_the_ids_that_the_gateway_gave(sdk: Sdk, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather?"}]
    asked = (await sdk.chat(model, messages=messages, tools=[WEATHER])).choices[0].message
    messages += [
        asked.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": asked.tool_calls[0].id, "content": "plus 27"},
    ]
    answer = await sdk.chat(model, messages=messages, tools=[WEATHER])
    assert "plus 27" in answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "stop"
