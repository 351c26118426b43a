"""The openai SDK against the simulated vLLM itself. If it reads the simulator, the simulator is right."""

import asyncio
import json
import os
from collections.abc import Iterator

import openai
import pydantic
import pytest

MODEL = "t-lite-it-2.1"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


class Person(pydantic.BaseModel):
    name: str
    age: int
    friends: list["Person"] = []


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    url = f"{os.environ['XROUTER_ACCEPTANCE_SIMULATORS']}/openai/v1"
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, _strict_response_validation=True) as client:
        yield client


def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "echo: Привет"}])
    assert answer.choices[0].message.content == "Привет"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


def test_stream_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "say 25 words"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert len(text.split()) == 25
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == (len(text) + 3) // 4


def test_tool_round_trip_streamed(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": "What is the weather?"}]
    with client.chat.completions.stream(model=MODEL, messages=messages, tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls or []
    assert set(json.loads(call.function.arguments)) == {"city"}
    messages += [
        {"role": "assistant", "tool_calls": [call.model_dump(include={"id", "type", "function"})]},
        {"role": "tool", "tool_call_id": call.id, "content": "plus 27"},
    ]
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=[WEATHER])
    assert "plus 27" in (last.choices[0].message.content or "")


def test_parsed_answer(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=[{"role": "user", "content": "who?"}], response_format=Person
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_models_and_embeddings(client: openai.OpenAI) -> None:
    assert MODEL in [model.id for model in client.models.list()]
    vectors = client.embeddings.create(model="text-embedder", input="текст", encoding_format="float")
    assert len(vectors.data[0].embedding) == 1024


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status-400", openai.BadRequestError),
        ("status-404", openai.NotFoundError),
        ("status-429", openai.RateLimitError),
        ("status-503", openai.InternalServerError),
        ("reset-0", openai.APIConnectionError),
        ("eof-1", openai.APIConnectionError),
    ],
)
def test_errors(client: openai.OpenAI, fault: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        client.chat.completions.create(model=f"{MODEL}+{fault}", messages=[{"role": "user", "content": "hi"}])


def test_error_inside_a_stream(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=f"{MODEL}+error-3", messages=[{"role": "user", "content": "hi"}], stream=True
    )
    with pytest.raises(openai.APIError):
        list(stream)


def test_async_client() -> None:
    async def asked() -> str | None:
        url = f"{os.environ['XROUTER_ACCEPTANCE_SIMULATORS']}/openai/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="any", max_retries=0) as client:
            answers = await asyncio.gather(
                *(
                    client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "echo: ok"}])
                    for _ in range(10)
                )
            )
        (said,) = {answer.choices[0].message.content for answer in answers}
        return said

    assert asyncio.run(asked()) == "ok"
