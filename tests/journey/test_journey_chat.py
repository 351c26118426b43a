"""Plain chats through the whole product, as the official SDK in strict validation expects them."""

import json
from typing import Any

import pytest
from campaigns.stage import Gateway
from pydantic import BaseModel
from tests.journey.conftest import FORMS, GIGACHAT, TBANK, Sdk


@pytest.fixture(params=FORMS)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class Person(BaseModel):
    name: str
    age: int
    nickname: str | None
    friends: list["Person"]


PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


def finishes(chunks: list[Any]) -> list[str]:
    return [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]


async def test_a_chat_is_answered(sdk: Sdk, model: str) -> None:
    answer = await sdk.chat(model, "echo: Привет, мир", temperature=0)

    (choice,) = answer.choices
    assert choice.message.content == "Привет, мир"
    assert choice.message.role == "assistant"
    assert choice.finish_reason == "stop"
    assert answer.model == model
    assert answer.id.startswith("chatcmpl-")
    assert answer.usage.prompt_tokens > 0
    assert answer.usage.completion_tokens == 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 3
    assert answer.usage.cost > 0


async def test_a_stream_says_what_the_whole_answer_says(sdk: Sdk, model: str) -> None:
    chunks = await sdk.stream(model, "say 60 words", temperature=0)
    whole = await sdk.chat(model, "say 60 words", temperature=0)

    assert text_of(chunks) == whole.choices[0].message.content
    assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) > 10
    assert finishes(chunks) == ["stop"]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert {chunk.model for chunk in chunks} == {model}
    assert len({chunk.id for chunk in chunks}) == 1
    assert [chunk.usage for chunk in chunks if chunk.usage] == []


async def test_usage_comes_in_a_last_chunk_of_its_own_when_asked_for(sdk: Sdk, model: str) -> None:
    chunks = await sdk.stream(model, "say 12 words", stream_options={"include_usage": True})

    *others, last = chunks
    assert last.choices == []
    assert last.usage.completion_tokens > 0
    assert last.usage.total_tokens == last.usage.prompt_tokens + last.usage.completion_tokens
    assert last.usage.cost > 0
    assert all(chunk.choices and chunk.usage is None for chunk in others)


async def test_a_stream_ends_with_done(place: Gateway, model: str, sdk: Sdk) -> None:
    raw = await sdk.raw(model, "echo: end", stream=True)
    # The SDK hides the last event, so it is read from the HTTP answer below it.
    lines = [line async for line in lines_of(raw)]
    assert [line for line in lines if line][-1] == "data: [DONE]"
    assert lines.count("data: [DONE]") == 1


async def lines_of(raw: Any) -> Any:
    response = raw.http_response
    if hasattr(response, "aiter_lines") and type(response.stream).__name__.startswith(("Async", "BoundAsync")):
        async for line in response.aiter_lines():
            yield line
    else:
        for line in response.iter_lines():
            yield line


@pytest.mark.parametrize("stream", [False, True])
async def test_max_tokens_cuts_with_finish_length(sdk: Sdk, model: str, stream: bool) -> None:
    for name in ("max_tokens", "max_completion_tokens"):
        asked: dict[str, Any] = {name: 3}
        if stream:
            chunks = await sdk.stream(model, "say 50 words", **asked)
            said, ends = text_of(chunks), finishes(chunks)
        else:
            answer = await sdk.chat(model, "say 50 words", **asked)
            said, ends = answer.choices[0].message.content, [answer.choices[0].finish_reason]
        assert ends == ["length"], name
        assert 0 < len(said) <= 12


@pytest.mark.parametrize("stream", [False, True])
async def test_stop_sequences_end_the_answer_and_are_not_shown(sdk: Sdk, model: str, stream: bool) -> None:
    if stream:
        chunks = await sdk.stream(model, "echo: one, two STOP three", stop=["STOP"])
        said, ends = text_of(chunks), finishes(chunks)
    else:
        answer = await sdk.chat(model, "echo: one, two STOP three", stop="STOP")
        said, ends = answer.choices[0].message.content, [answer.choices[0].finish_reason]
    assert said == "one, two "
    assert ends == ["stop"]


async def test_system_and_developer_messages_may_stand_anywhere(sdk: Sdk, model: str) -> None:
    answer = await sdk.chat(
        model,
        messages=[
            {"role": "user", "content": "Hello"},
            {"role": "developer", "content": "Be brief."},
            {"role": "assistant", "content": "Hello."},
            {"role": "system", "content": [{"type": "text", "text": "Be polite."}]},
            {"role": "user", "content": [{"type": "text", "text": "echo: still here"}]},
        ],
    )
    assert answer.choices[0].message.content == "still here"

    first = await sdk.chat(
        model,
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "system", "content": "Be polite."},
            {"role": "user", "content": "echo: both first"},
        ],
    )
    assert first.choices[0].message.content == "both first"


async def test_several_choices_from_a_vendor_that_can(sdk: Sdk) -> None:
    answer = await sdk.chat(TBANK, "Tell me something", n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)

    chunks = await sdk.stream(TBANK, "Tell me something", n=2)
    ended = {choice.index: choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason}
    assert ended == {0: "stop", 1: "stop"}
    for index in (0, 1):
        pieces = [c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index]
        assert "".join(pieces) == answer.choices[index].message.content


async def test_several_choices_from_a_vendor_that_gives_one_at_a_time(sdk: Sdk) -> None:
    answer = await sdk.chat(GIGACHAT, "Tell me something", n=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert all(choice.message.content for choice in answer.choices)
    assert answer.usage is not None
    alone = (await sdk.chat(GIGACHAT, "Tell me something")).usage
    assert alone is not None
    assert answer.usage.total_tokens == 2 * alone.total_tokens


async def test_a_parsed_answer_is_the_callers_own_type(sdk: Sdk, model: str) -> None:
    answer = await sdk.parse(model, "Who?", response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_json_schema_is_kept(sdk: Sdk, model: str, stream: bool) -> None:
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
    if stream:
        said = text_of(await sdk.stream(model, "Who?", response_format=wanted))
    else:
        said = (await sdk.chat(model, "Who?", response_format=wanted)).choices[0].message.content
    found = json.loads(said)
    assert set(found) == {"name", "age"}
    assert isinstance(found["age"], int)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_json_object_is_one(sdk: Sdk, model: str, stream: bool) -> None:
    """GigaChat has no such mode: it is asked in words, and does it."""
    wanted: Any = {"type": "json_object"}
    if stream:
        said = text_of(await sdk.stream(model, "Who are you?", response_format=wanted))
    else:
        said = (await sdk.chat(model, "Who are you?", response_format=wanted)).choices[0].message.content
    assert isinstance(json.loads(said), dict)


async def test_a_vendor_without_json_mode_is_asked_in_words(sdk: Sdk) -> None:
    """The instruction goes along as text, which costs prompt tokens."""
    plain = await sdk.chat(GIGACHAT, "echo: {}")
    asked = await sdk.chat(GIGACHAT, "echo: {}", response_format={"type": "json_object"})
    assert asked.choices[0].message.content == "{}"
    assert asked.usage.prompt_tokens > plain.usage.prompt_tokens
