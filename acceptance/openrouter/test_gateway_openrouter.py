"""OpenRouter's own SDK (1.3.84) against `/api/v1` of the gateway: it validates whatever comes back."""

import os
import time
from collections.abc import Iterator
from typing import Any

import openrouter
import pytest
from openrouter import OpenRouter, errors

URL = f"{os.environ['XROUTER_ACCEPTANCE_URL']}/api/v1"
KEY = os.environ["XROUTER_ACCEPTANCE_KEY"]
GIGACHAT, TBANK = MODELS = ("gigachat/GigaChat-2", "tbank/t-pro-it-2.1")


@pytest.fixture
def client() -> Iterator[OpenRouter]:
    with OpenRouter(api_key=KEY, server_url=URL, timeout_ms=30_000, retry_config=None) as client:
        yield client


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def serving(client: OpenRouter, output: str) -> str:
    """A model whose answers are of that kind; the test is skipped where the gateway has none."""
    for found in client.models.list().result.data:
        if output in found.architecture.output_modalities:
            return found.id
    pytest.skip(f"the simulators behind this gateway serve no model for {output}")


def test_the_sdk_is_the_one_that_was_measured() -> None:
    assert openrouter.__version__ == "1.3.84"


def test_chat(client: OpenRouter, model: str) -> None:
    answer = client.chat.send(model=model, messages=ask("echo: Привет"), temperature=0)
    assert answer.choices[0].message.content == "Привет"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == model
    assert answer.usage is not None
    assert answer.usage.cost is not None
    assert answer.usage.cost > 0 or model == GIGACHAT


def test_stream(client: OpenRouter, model: str) -> None:
    stream = client.chat.send(
        model=model, messages=ask("say 25 words"), stream=True, stream_options={"include_usage": True}
    )
    with stream as events:
        *chunks, last = list(events)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert len(text.split()) == 25
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert last.usage is not None
    assert last.usage.completion_tokens > 0


def test_several_models(client: OpenRouter) -> None:
    answer = client.chat.send(models=[f"{TBANK}+status-500", GIGACHAT], messages=ask("echo: served"))
    assert answer.model == GIGACHAT
    assert answer.choices[0].message.content == "served"


def test_an_error_inside_a_stream(client: OpenRouter, model: str) -> None:
    with client.chat.send(model=f"{model}+reset-2", messages=ask("say 30 words"), stream=True) as events:
        chunks = list(events)
    assert chunks[-1].error is not None
    assert chunks[-1].error.code == 502
    assert model.partition("/")[0] in chunks[-1].error.message
    assert chunks[-1].choices[0].finish_reason == "error"


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status-400", errors.BadRequestResponseError),
        ("status-404", errors.NotFoundResponseError),
        ("status-401", errors.BadGatewayResponseError),
        ("status-429", errors.ServiceUnavailableResponseError),
        ("status-500", errors.BadGatewayResponseError),
    ],
)
def test_vendor_errors(client: OpenRouter, model: str, fault: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        client.chat.send(model=f"{model}+{fault}", messages=ask("hi"), timeout_ms=20_000)
    assert model.partition("/")[0] in str(caught.value)


def test_own_errors(client: OpenRouter) -> None:
    with pytest.raises(errors.NotFoundResponseError, match="does not exist"):
        client.chat.send(model="nobody/nothing", messages=ask("hi"))
    with (
        OpenRouter(api_key="sk-wrong", server_url=URL, retry_config=None) as stranger,
        pytest.raises(errors.UnauthorizedResponseError, match="not valid"),
    ):
        stranger.chat.send(model=TBANK, messages=ask("hi"))


def test_strict_parameters(client: OpenRouter) -> None:
    with pytest.raises(errors.BadRequestResponseError, match="seed"):
        client.chat.send(
            model=GIGACHAT, messages=ask("hi"), seed=1, provider={"require_parameters": True}, timeout_ms=20_000
        )


def test_models(client: OpenRouter, model: str) -> None:
    listed = client.models.list().result
    assert listed.total_count == len(listed.data)
    found = {one.id: one for one in listed.data}[model]
    assert float(found.pricing.prompt) > 0 or model == GIGACHAT
    author, slug = model.split("/")
    assert client.models.get(author=author, slug=slug).data == found


@pytest.mark.filterwarnings("ignore:warning. .. DEPRECATED:DeprecationWarning")  # the SDK warns of its own fields
def test_the_key_and_what_it_spent(client: OpenRouter) -> None:
    before = client.api_keys.get_current_key_metadata().data
    answer = client.chat.send(model=TBANK, messages=ask("say 500 words"))
    assert answer.usage is not None
    assert answer.usage.cost
    until = time.monotonic() + 10
    while (now := client.api_keys.get_current_key_metadata().data).usage == before.usage:
        assert time.monotonic() < until, "the books were not written"
        time.sleep(0.05)
    assert now.usage - before.usage == pytest.approx(answer.usage.cost)
    assert now.usage_daily <= now.usage_monthly <= now.usage


def test_embeddings(client: OpenRouter) -> None:
    model = serving(client, "embeddings")
    found: Any = client.embeddings.generate(model=model, input=["раз", "два"], encoding_format="float")
    assert [one.index for one in found.data] == [0, 1]
    assert len(found.data[0].embedding) == len(found.data[1].embedding) > 0


def test_rerank(client: OpenRouter) -> None:
    model = serving(client, "rerank")
    found: Any = client.rerank.rerank(model=model, query="кот", documents=["собака", "кот"], top_n=1)
    (best,) = found.results
    assert best.document.text == ["собака", "кот"][best.index]


def test_pictures(client: OpenRouter) -> None:
    model = serving(client, "image")
    found: Any = client.images.generate(model=model, prompt="рыжий кот", n=1)
    assert found.data[0].b64_json
