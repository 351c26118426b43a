"""The openai SDK against the gateway, for all vendors behind it, in strict validation."""

import asyncio
import json
import os
from collections.abc import Iterator
from typing import Any

import openai
import pydantic
import pytest

URL = f"{os.environ['XROUTER_ACCEPTANCE_URL']}/v1"
KEY = os.environ["XROUTER_ACCEPTANCE_KEY"]
GIGACHAT, TBANK, YANDEX, HOSTED = MODELS = (
    "gigachat/GigaChat-2",
    "tbank/t-pro-it-2.1",
    "yandex/yandexgpt",
    "yandex/qwen3-235b-a22b-fp8",
)
OTHER = {GIGACHAT: TBANK, TBANK: GIGACHAT, YANDEX: TBANK, HOSTED: GIGACHAT}
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER: Any = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
TIME: Any = {"type": "function", "function": {"name": "get_time"}}


class Person(pydantic.BaseModel):
    name: str
    age: int


@pytest.fixture
def client() -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=URL, api_key=KEY, max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_chat(client: openai.OpenAI, model: str) -> None:
    raw = client.chat.completions.with_raw_response.create(model=model, messages=ask("echo: Привет"), temperature=0)
    answer = raw.parse()
    assert answer.choices[0].message.content == "Привет"
    assert answer.model == model
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2
    assert raw.headers["x-generation-id"] == answer.id
    assert raw.headers["x-xrouter-provider"] == model.partition("/")[0]
    assert float(raw.headers["x-xrouter-cost-rub"]) > 0


def test_stream_with_usage(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(
        model=model, messages=ask("say 25 words"), stream=True, stream_options={"include_usage": True}
    )
    *chunks, last = list(stream)
    assert len("".join(chunk.choices[0].delta.content or "" for chunk in chunks).split()) == 25
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.choices == []
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_stream_helper(client: openai.OpenAI, model: str) -> None:
    with client.chat.completions.stream(model=model, messages=ask("Weather?"), tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    (call,) = message.tool_calls or []
    assert set(json.loads(call.function.arguments)) == {"city"}


def test_tool_round_trip(client: openai.OpenAI, model: str) -> None:
    messages = ask("What is the weather?")
    asked = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER, TIME]).choices[0]
    assert asked.finish_reason == "tool_calls"
    (call,) = asked.message.tool_calls or []
    messages += [
        asked.message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "plus 27"},
    ]
    last = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER, TIME])
    assert "plus 27" in (last.choices[0].message.content or "")


def test_parallel_tools(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=TBANK, messages=ask("call get_weather and get_time"), tools=[WEATHER, TIME]
    )
    assert [call.function.name for call in answer.choices[0].message.tool_calls or []] == ["get_weather", "get_time"]


def test_parsed_answer(client: openai.OpenAI, model: str) -> None:
    answer = client.chat.completions.parse(model=model, messages=ask("who?"), response_format=Person)
    assert isinstance(answer.choices[0].message.parsed, Person)


def test_models(client: openai.OpenAI, model: str) -> None:
    assert model in [found.id for found in client.models.list()]
    assert client.models.retrieve(model).id == model
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve(model + "x")
    assert model in caught.value.message


def test_failover(client: openai.OpenAI, model: str) -> None:
    wanted = {"models": [f"{model}+status-500", OTHER[model]]}
    answer = client.chat.completions.create(
        model=f"{model}+status-500", messages=ask("echo: served"), extra_body=wanted
    )
    assert answer.model == OTHER[model]
    assert answer.choices[0].message.content == "served"


@pytest.mark.parametrize(
    ("fault", "error", "status"),
    [
        ("status-400", openai.BadRequestError, 400),
        ("status-404", openai.NotFoundError, 404),
        ("status-401", openai.InternalServerError, 502),
        ("status-429", openai.InternalServerError, 503),
        ("status-500", openai.InternalServerError, 502),
        ("reset-0", openai.InternalServerError, 502),
        ("slow-headers", openai.InternalServerError, 504),
    ],
)
def test_vendor_errors(
    client: openai.OpenAI, model: str, fault: str, error: type[openai.APIStatusError], status: int
) -> None:
    with pytest.raises(error) as caught:
        client.chat.completions.create(
            model=f"{model}+{fault}",
            messages=ask("hi"),
            extra_headers={"x-xrouter-timeout-ms": "900" if fault == "slow-headers" else "1900"},
        )
    assert caught.value.status_code == status
    assert model.partition("/")[0] in caught.value.message


def test_own_errors(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=TBANK, messages=ask("hi"), temperature=3)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody/nothing", messages=ask("hi"))
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model=TBANK, messages=ask("hi"))


def test_error_inside_a_stream(client: openai.OpenAI, model: str) -> None:
    stream = client.chat.completions.create(model=f"{model}+reset-2", messages=ask("say 30 words"), stream=True)
    with pytest.raises(openai.APIError) as caught:
        list(stream)
    assert model.partition("/")[0] in caught.value.message


def test_async_client(model: str) -> None:
    async def asked() -> set[str | None]:
        async with openai.AsyncOpenAI(base_url=URL, api_key=KEY, max_retries=0) as client:
            answers = await asyncio.gather(
                *(client.chat.completions.create(model=model, messages=ask("echo: ok")) for _ in range(20))
            )
        return {answer.choices[0].message.content for answer in answers}

    assert asyncio.run(asked()) == {"ok"}
