"""OpenRouter's own SDK (1.3.84) against `/api/v1` of the gateway: it validates whatever comes back."""

import base64
import json
import os
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import openrouter
import pytest
from openrouter import OpenRouter, errors

URL = f"{os.environ['XROUTER_ACCEPTANCE_URL']}/api/v1"
KEY = os.environ["XROUTER_ACCEPTANCE_KEY"]
GIGACHAT, TBANK, YANDEX, HOSTED, MTS = MODELS = (
    "gigachat/GigaChat-2",
    "tbank/t-pro-it-2.1",
    "yandex/yandexgpt",
    "yandex/qwen3-235b-a22b-fp8",
    "mts/t-pro-it-2.1",
)
EMBEDDERS = ("gigachat/Embeddings", "mts/bge-m3", "tbank/bge-m3", "yandex/text-search-doc")
PAINTERS = (GIGACHAT, "tbank/qwen-image", "yandex/yandex-art")
RERANKERS = ("mts/bge-reranker-v2-m3", "tbank/bge-reranker-v2-m3")


@pytest.fixture
def client() -> Iterator[OpenRouter]:
    with OpenRouter(api_key=KEY, server_url=URL, timeout_ms=30_000, retry_config=None) as client:
        yield client


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> str:
    return request.param


def ask(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


def test_the_sdk_is_the_one_that_was_measured() -> None:
    assert openrouter.__version__ == "1.3.84"


def test_chat(client: OpenRouter, model: str) -> None:
    answer = client.chat.send(model=model, messages=ask("echo: Привет"), temperature=0)
    assert answer.choices[0].message.content == "Привет"
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == model
    assert answer.usage is not None
    assert answer.usage.cost is not None
    assert answer.usage.cost > 0


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


@pytest.mark.parametrize(
    ("wishes", "served"),
    [
        ({}, "gigachat"),
        ({"order": ["mts"]}, "mts"),
        ({"order": ["openai", "tbank"], "allow_fallbacks": False}, "tbank"),
        ({"only": ["tbank", "mts"]}, "tbank"),
        ({"ignore": ["gigachat", "tbank"]}, "mts"),
        ({"only": ["tbank", "mts"], "sort": "price"}, "tbank"),
        ({"sort": {"by": "price", "partition": "none"}, "ignore": ["tbank", "mts"]}, "gigachat"),
        ({"max_price": {"prompt": "40", "completion": "80"}}, "tbank"),
        ({"zdr": True}, "gigachat"),
        ({"order": ["tbank"], "preferred_max_latency": 60, "preferred_min_throughput": {"p90": 0.001}}, "tbank"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_preferences(client: OpenRouter, wishes: Any, served: str, stream: bool) -> None:
    answer = client.chat.send(model="routed", messages=ask("echo: hi"), provider=wishes, stream=stream)
    if stream:
        with answer as events:
            first, *_ = list(events)
        assert generation(first.id)["provider_name"] == served
        return
    assert answer.model == "routed"
    assert generation(answer.id)["provider_name"] == served


def generation(call_id: str) -> Any:
    """What the gateway tells of a call, once its record is in the books."""
    asked = urllib.request.Request(f"{URL}/generation?id={call_id}", headers={"Authorization": f"Bearer {KEY}"})
    until = time.monotonic() + 10
    while True:
        try:
            with urllib.request.urlopen(asked, timeout=10) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            if error.code != 404 or time.monotonic() > until:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("wishes", [{"only": ["openai"]}, {"max_price": {"prompt": "0"}}, {"data_collection": "deny"}])
def test_nobody_meets_the_preferences(client: OpenRouter, wishes: Any) -> None:
    """A 400: after a 503 this SDK would ask the same for minutes."""
    with pytest.raises(errors.BadRequestResponseError, match="No deployment of 'routed' meets"):
        client.chat.send(model="routed", messages=ask("hi"), provider=wishes)


@pytest.mark.parametrize("variant", ["floor", "nitro"])
def test_variants(client: OpenRouter, variant: str) -> None:
    answer = client.chat.send(model=f"routed:{variant}", messages=ask("echo: hi"))
    assert answer.model == f"routed:{variant}"
    assert answer.choices[0].message.content == "hi"


def test_models(client: OpenRouter, model: str) -> None:
    listed = client.models.list().result
    assert listed.total_count == len(listed.data)
    found = {one.id: one for one in listed.data}[model]
    assert float(found.pricing.prompt) > 0
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


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_embeddings(client: OpenRouter, embedder: str) -> None:
    found: Any = client.embeddings.generate(model=embedder, input=["раз", "два"], encoding_format="float")
    assert [one.index for one in found.data] == [0, 1]
    assert len(found.data[0].embedding) == len(found.data[1].embedding) > 0


@pytest.mark.parametrize("reranker", RERANKERS)
def test_rerank(client: OpenRouter, reranker: str) -> None:
    found: Any = client.rerank.rerank(model=reranker, query="кот", documents=["собака", "кот"], top_n=1)
    (best,) = found.results
    assert best.index == 1
    assert best.document.text == "кот"


@pytest.mark.parametrize("painter", PAINTERS)
def test_pictures(client: OpenRouter, painter: str) -> None:
    found: Any = client.images.generate(model=painter, prompt="рыжий кот", n=1)
    assert base64.b64decode(found.data[0].b64_json).startswith((b"\xff\xd8\xff", b"\x89PNG"))


@pytest.mark.parametrize("model", [*EMBEDDERS, *PAINTERS[1:], *RERANKERS])
def test_models_for_something_else(client: OpenRouter, model: str) -> None:
    author, slug = model.split("/")
    assert client.models.get(author=author, slug=slug).data.id == model
    with pytest.raises(errors.BadRequestResponseError, match="does"):
        client.chat.send(model=model, messages=ask("hi"))


def test_completions(model: str) -> None:
    # The SDK has no words for them: its endpoint is asked as it is.
    body = json.dumps({"model": model, "prompt": "echo: and so on"}).encode()
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with urllib.request.urlopen(urllib.request.Request(f"{URL}/completions", body, headers), timeout=30) as reply:
        answer = json.load(reply)
    assert answer["choices"][0]["text"] == "and so on"
    assert answer["model"] == model


def test_a_tool_call(client: OpenRouter, model: str) -> None:
    parameters = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": parameters}}]
    answer = client.chat.send(model=model, messages=ask("Weather?"), tools=tools)
    assert answer.choices[0].finish_reason == "tool_calls"
    (call,) = answer.choices[0].message.tool_calls or []
    assert set(json.loads(call.function.arguments)) == {"city"}


@pytest.mark.filterwarnings("ignore:warning. .. DEPRECATED:DeprecationWarning")  # the SDK warns of its own fields
def test_keys_are_made_listed_changed_and_deleted(client: OpenRouter) -> None:
    made = client.api_keys.create(name="by the SDK", expires_at=datetime.now(UTC) + timedelta(days=1))
    assert made.key.startswith("sk-xr-v1-")
    assert made.data.name == "by the SDK"
    assert made.data.usage == 0
    found = client.api_keys.get(hash=made.data.hash)
    assert found.data.label == made.data.label
    assert made.data.hash in {one.hash for one in client.api_keys.list().data}

    with OpenRouter(api_key=made.key, server_url=URL, timeout_ms=30_000, retry_config=None) as own:
        own.chat.send(model=TBANK, messages=ask("hi"))
        mine = own.api_keys.get_current_key_metadata()
        assert mine.data.is_management_key is False
        with pytest.raises(errors.OpenRouterError, match="lacks the scope"):
            own.api_keys.list()

    changed = client.api_keys.update(hash=made.data.hash, name="renamed", disabled=True)
    assert (changed.data.name, changed.data.disabled) == ("renamed", True)
    assert made.data.hash not in {one.hash for one in client.api_keys.list().data}
    assert made.data.hash in {one.hash for one in client.api_keys.list(include_disabled=True).data}
    assert client.api_keys.delete(hash=made.data.hash).DELETED is True
    with pytest.raises(errors.OpenRouterError, match="No key has the id"):
        client.api_keys.get(hash="nobody")
    with pytest.raises(errors.OpenRouterError, match="limit"):
        client.api_keys.create(name="with a limit in money", limit=5.0)


def test_the_endpoints_of_a_model(client: OpenRouter, model: str) -> None:
    assert client.chat.send(model=model, messages=ask("echo: hi")).choices
    author, _, slug = model.partition("/")
    listed = client.endpoints.list(author=author, slug=slug).data
    assert (listed.id, [one.tag for one in listed.endpoints]) == (model, [model])
    (one,) = listed.endpoints
    assert one.provider_name == author
    assert one.status == 0
    assert float(one.pricing.prompt) > 0
    assert one.uptime_last_5m is None or 0 <= one.uptime_last_5m <= 100
    if one.latency_last_30m is not None:
        assert 0 < one.latency_last_30m.p50 <= one.latency_last_30m.p99
