"""The openai SDK against the gateway, for all vendors behind it, in strict validation."""

import asyncio
import base64
import json
import os
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pydantic
import pytest

URL = f"{os.environ['XROUTER_ACCEPTANCE_URL']}/v1"
KEY = os.environ["XROUTER_ACCEPTANCE_KEY"]
GIGACHAT, TBANK, YANDEX, HOSTED, MTS = MODELS = (
    "gigachat/GigaChat-2",
    "tbank/t-pro-it-2.1",
    "yandex/yandexgpt",
    "yandex/qwen3-235b-a22b-fp8",
    "mts/t-pro-it-2.1",
)
OTHER = {GIGACHAT: TBANK, TBANK: GIGACHAT, YANDEX: MTS, HOSTED: GIGACHAT, MTS: YANDEX}
EMBEDDERS = ("gigachat/Embeddings", "mts/bge-m3", "tbank/bge-m3", "yandex/text-search-doc")
PAINTERS = (GIGACHAT, "tbank/qwen-image", "yandex/yandex-art")
RERANKERS = ("mts/bge-reranker-v2-m3", "tbank/bge-reranker-v2-m3")
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


@pytest.mark.parametrize("parallel", [TBANK, YANDEX, HOSTED, MTS])  # a message of GigaChat holds one call
def test_parallel_tools(client: openai.OpenAI, parallel: str) -> None:
    asked: Any = {"model": parallel, "messages": ask("call get_weather and get_time"), "tools": [WEATHER, TIME]}
    whole = client.chat.completions.create(**asked)
    with client.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()
    for answer in (whole, streamed):
        calls = answer.choices[0].message.tool_calls or []
        assert [call.function.name for call in calls] == ["get_weather", "get_time"]
        assert len({call.id for call in calls}) == 2


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


def test_own_errors(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=model, messages=ask("hi"), temperature=3)
    assert caught.value.param == "temperature"
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="nobody/nothing", messages=ask("hi"))
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model=model, messages=ask("hi"))


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


def test_completion(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt="echo: and so on", max_tokens=20)
    assert answer.choices[0].text == "and so on"
    # The SDK's own type has no `finish_reason: null`, which OpenAI sends in a stream, too.
    plain = client.with_options(_extra_kwargs={"_strict_response_validation": False})
    chunks = list(plain.completions.create(model=model, prompt="echo: and so on", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == "and so on"


def test_several_prompts(client: openai.OpenAI, model: str) -> None:
    answer = client.completions.create(model=model, prompt=["echo: one", "echo: two"])
    assert [choice.text for choice in answer.choices] == ["one", "two"]


def test_completion_of_what_a_chat_cannot(client: openai.OpenAI, model: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model=model, prompt="x", suffix="y")
    assert (caught.value.param, caught.value.code) == ("suffix", "unsupported_parameter")


def test_a_model_for_something_else(client: openai.OpenAI, model: str) -> None:
    tries: list[Callable[[], object]] = [
        lambda: client.embeddings.create(model=model, input="x"),
        lambda: client.post("/rerank", body={"model": model, "query": "x", "documents": ["y"]}, cast_to=object),
    ]
    if model not in PAINTERS:
        tries.append(lambda: client.images.generate(model=model, prompt="x"))
    for attempt in tries:
        with pytest.raises(openai.BadRequestError, match="does chat") as caught:
            attempt()
        assert caught.value.code == "model_not_supported"


@pytest.mark.parametrize("other", sorted({*EMBEDDERS, *PAINTERS, *RERANKERS} - {*MODELS}))
def test_a_model_that_does_not_chat(client: openai.OpenAI, other: str) -> None:
    for attempt in (
        lambda: client.chat.completions.create(model=other, messages=ask("hi")),
        lambda: client.completions.create(model=other, prompt="hi"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            attempt()
        assert caught.value.code == "model_not_supported"


def test_strict_parameters(client: openai.OpenAI) -> None:
    strict = {"x-xrouter-strict-params": "true"}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=GIGACHAT, messages=ask("hi"), seed=1, extra_headers=strict)
    assert (caught.value.param, caught.value.code) == ("seed", "unsupported_parameter")
    served = client.chat.completions.create(
        model=GIGACHAT, messages=ask("echo: ok"), seed=1, extra_headers=strict, extra_body={"models": [TBANK]}
    )
    assert served.model == TBANK


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_embeddings(client: openai.OpenAI, embedder: str) -> None:
    plain = client.embeddings.create(model=embedder, input=["раз", "два"], encoding_format="float")
    # Without a wish the SDK asks for base64 and decodes it; its strict validation then wants what it has not got.
    packed = client.with_options(_extra_kwargs={"_strict_response_validation": False}).embeddings.create(
        model=embedder, input=["раз", "два"]
    )
    assert [one.index for one in packed.data] == [0, 1]
    assert plain.data[0].embedding != plain.data[1].embedding
    assert plain.usage.prompt_tokens > 0
    for one, other in zip(plain.data, packed.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, rel=1e-6)


@pytest.mark.parametrize("painter", PAINTERS)
def test_pictures(client: openai.OpenAI, painter: str) -> None:
    answer = client.images.generate(model=painter, prompt="рыжий кот")
    (picture,) = answer.data or []
    assert base64.b64decode(picture.b64_json or "").startswith((b"\xff\xd8\xff", b"\x89PNG"))


@pytest.mark.parametrize("reranker", RERANKERS)
def test_rerank(client: openai.OpenAI, reranker: str) -> None:
    body = {"model": reranker, "query": "кот", "documents": ["собака", "кот"], "top_n": 1}
    answer: Any = client.post("/rerank", body=body, cast_to=object)
    assert [set(result) for result in answer["results"]] == [{"index", "relevance_score"}]
    assert answer["results"][0]["index"] == 1


def work_of(client: openai.OpenAI, model: str) -> Callable[[str], object]:
    """The simplest call for what that model does."""
    if model in EMBEDDERS:
        return lambda name: client.embeddings.create(model=name, input="x")
    if model in PAINTERS:
        return lambda name: client.images.generate(model=name, prompt="x")
    return lambda name: client.post("/rerank", body={"model": name, "query": "x", "documents": ["y"]}, cast_to=object)


@pytest.mark.parametrize("other", sorted({*EMBEDDERS, *PAINTERS, *RERANKERS}))
@pytest.mark.parametrize(("fault", "status"), [("status-400", 400), ("status-401", 502), ("status-500", 502)])
def test_vendor_errors_elsewhere(client: openai.OpenAI, other: str, fault: str, status: int) -> None:
    broken = f"{other}+{fault}"
    with pytest.raises(openai.APIStatusError) as caught:
        work_of(client, other)(broken)
    assert caught.value.status_code == status
    assert other.partition("/")[0] in caught.value.message


def test_nothing_is_served_that_is_not_tried_here(client: openai.OpenAI) -> None:
    root = os.environ["XROUTER_ACCEPTANCE_URL"]
    listed: Any = client.get(f"{root}/api/v1/models", cast_to=object)
    served = {
        (model["id"], does)
        for model in listed["data"]
        for does in model["architecture"]["output_modalities"]
        if "/" in model["id"]  # what has none is an alias
    }
    tried = {"text": MODELS, "embeddings": EMBEDDERS, "image": PAINTERS, "rerank": RERANKERS}
    assert served == {(model, does) for does, models in tried.items() for model in models}
