"""YandexGPT's adapter before the simulated vendor, over real sockets: both surfaces, every kind of work."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any, cast

import aiohttp
import pytest
from tests.providers.scripted import attempt_for, chat_request, collect

from xrouter.core.chat import Answer, ChatRequest, Delta, Event, Finish, Reasoning, ToolDelta, Usage
from xrouter.core.clock import SystemClock
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.core.images import ImagesRequest
from xrouter.providers.yandexgpt import YandexGPT, connect
from xrouter.settings import ProviderSettings
from xrouter.simulators import server
from xrouter.simulators.yandex_login import FOLDER
from xrouter.simulators.yandex_speech import REFUSAL
from xrouter.transport import Transport
from xrouter.transport.client import open_transport

SURFACES = ("openai", "native")
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"],
        },
    },
}
NOW = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}


class Place:
    """The simulators at `url`, and an account there."""

    provider: YandexGPT

    def __init__(self, url: str, session: aiohttp.ClientSession, transport: Transport) -> None:
        self.url = url
        self.session = session
        self._transport = transport

    def connect(self, **settings: Any) -> None:
        filled = {"base_url": f"{self.url}/yandex/v1", "api_key": "AQVNtest", "models": ["yandexgpt"], **settings}
        made = connect("acme", ProviderSettings.model_validate(filled), self._transport, SystemClock())
        self.provider = cast(YandexGPT, made)

    async def control(self, what: str, **values: Any) -> Any:
        async with self.session.post(f"{self.url}/control/{what}", json=values) as response:
            assert response.status == 200
            return await response.json()

    async def rows(self) -> list[dict[str, Any]]:
        async with self.session.get(f"{self.url}/control/requests") as response:
            return cast(list[dict[str, Any]], (await response.json())["data"])

    async def chat(
        self, text: str = "", model: str = "yandexgpt", *, stream: bool = True, **fields: Any
    ) -> list[Event]:
        if text:
            fields["messages"] = [{"role": "user", "content": text}]
        request = chat_request(stream=stream, **fields)
        return await collect(self.provider, request, attempt_of(request, model))


def attempt_of(request: Any, model: str) -> Any:
    attempt = attempt_for(cast(ChatRequest, request))
    attempt.deployment = Deployment(id=f"acme/{model}", provider="acme", kind="yandexgpt", upstream_model=model)
    return attempt


@asynccontextmanager
async def place(surface: str = "openai", **settings: Any) -> AsyncIterator[Place]:
    async with server.running(server.build(7)) as port, aiohttp.ClientSession() as session:
        transport = open_transport(
            provider="acme",
            connect_timeout_s=2.0,
            ca_bundle=None,
            proxy=None,
            allow_private=[],
            trusted_hosts=frozenset({"127.0.0.1"}),
        )
        try:
            here = Place(f"http://127.0.0.1:{port}", session, transport)
            here.connect(options={"folder": FOLDER, "surface": surface}, **settings)
            yield here
        finally:
            await transport.close()


def text_of(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def finish_of(events: list[Event]) -> str:
    (finish,) = [event for event in events if isinstance(event, Finish)]
    return finish.reason


def calls_of(events: list[Event]) -> list[tuple[str, str, Any]]:
    """(id, name, arguments) of the calls of a stream."""
    found: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolDelta):
            call = found.setdefault(event.index, ["", "", ""])
            for place, piece in enumerate((event.id, event.name, event.arguments)):
                call[place] += piece
    return [(call_id, name, json.loads(arguments)) for call_id, name, arguments in found.values()]


@pytest.mark.parametrize("surface", SURFACES)
async def test_streamed_and_whole_answers_say_the_same(surface: str) -> None:
    async with place(surface) as here:
        for text in ("скажи 40 слов", "say 3 words", "echo: Привет, мир! 🙂"):
            streamed = await here.chat(text)
            (answer,) = await here.chat(text, stream=False)
            assert isinstance(answer, Answer)
            assert text_of(streamed) == answer.choices[0].message.content
            assert finish_of(streamed) == answer.choices[0].finish_reason == "stop"
        assert answer.usage is not None
        assert answer.usage.output_tokens == -(-len("Привет, мир! 🙂") // 4)
        assert any(isinstance(event, Usage) for event in streamed) == (surface == "native")


async def test_open_models_think_and_count() -> None:
    async with place() as here:
        events = await here.chat("echo: 42", "gpt-oss-120b")
        assert any(isinstance(event, Reasoning) for event in events)
        assert isinstance(events[-1], Usage)
        assert text_of(events) == "42"


@pytest.mark.parametrize(
    ("surface", "model"), [("openai", "yandexgpt"), ("openai", "qwen3-235b-a22b-fp8"), ("native", "yandexgpt-lite:rc")]
)
async def test_tools(surface: str, model: str) -> None:
    async with place(surface) as here:
        for fields, names in (
            ({"tools": [WEATHER, NOW]}, ["get_weather", "now"]),  # in parallel
            ({"tools": [WEATHER, NOW], "parallel_tool_calls": False}, ["get_weather"]),
            ({"tools": [NOW]}, ["now"]),  # without arguments
            ({"tools": [WEATHER, NOW], "tool_choice": {"type": "function", "function": {"name": "now"}}}, ["now"]),
            ({"tools": [WEATHER], "tool_choice": "required"}, ["get_weather"]),
        ):
            streamed = await here.chat("get weather now", model, **fields)
            (answer,) = await here.chat("get weather now", model, stream=False, **fields)
            assert isinstance(answer, Answer)
            calls = calls_of(streamed)
            whole = answer.choices[0].message.tool_calls
            assert [name for _, name, _ in calls] == [call.name for call in whole] == names
            assert [arguments for _, _, arguments in calls] == [json.loads(call.arguments) for call in whole]
            assert len({call_id for call_id, _, _ in calls}) == len(calls)
            assert all(call_id.startswith("call_") for call_id, _, _ in calls)
            assert finish_of(streamed) == answer.choices[0].finish_reason == "tool_calls"
            assert all(isinstance(found.get("days", 1), int) for _, _, found in calls)
        assert text_of(await here.chat("echo: no", model, tools=[NOW], tool_choice="none")) == "no"


@pytest.mark.parametrize(
    ("surface", "model"), [("openai", "yandexgpt"), ("openai", "gpt-oss-20b"), ("native", "yandexgpt")]
)
async def test_several_results_of_one_function_over_several_turns(surface: str, model: str) -> None:
    async with place(surface) as here:
        asked: list[dict[str, Any]] = [{"role": "user", "content": "get weather"}]
        calls = calls_of(await here.chat(model=model, messages=asked, tools=[WEATHER]))
        made = [
            {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
            for call_id, name, arguments in calls
        ]
        made.append({**made[0], "id": "call_of_the_client"})
        asked += [
            {"role": "assistant", "content": None, "tool_calls": made},
            {"role": "tool", "tool_call_id": made[0]["id"], "content": "27 градусов"},
            {"role": "tool", "tool_call_id": "call_of_the_client", "content": "ветрено"},
        ]
        said = text_of(await here.chat(model=model, messages=asked, tools=[WEATHER]))
        assert said.index("27 градусов") < said.index("ветрено")
        asked += [{"role": "assistant", "content": said}, {"role": "user", "content": "echo: спасибо"}]
        assert text_of(await here.chat(model=model, messages=asked, tools=[WEATHER])) == "спасибо"


@pytest.mark.parametrize("surface", SURFACES)
async def test_limits_filters_and_stops(surface: str) -> None:
    async with place(surface) as here:
        assert finish_of(await here.chat("say 50 words", max_tokens=5)) == "length"
        at_once = await here.chat("запретная тема")
        assert (text_of(at_once), finish_of(at_once)) == (REFUSAL, "content_filter")
        turned = await here.chat("опасный поворот")
        assert finish_of(turned) == "content_filter"
        assert REFUSAL not in text_of(turned)
        stopped = await here.chat("echo: one two three four five six seven", stop=["five", "seven"])
        assert (text_of(stopped), finish_of(stopped)) == ("one two three four ", "stop")
        (whole,) = await here.chat("echo: one two three", stop="two", stream=False)
        assert isinstance(whole, Answer)
        assert whole.choices[0].message.content == "one "


@pytest.mark.parametrize("surface", SURFACES)
async def test_json(surface: str) -> None:
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
    async with place(surface) as here:
        asked = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
        assert isinstance(json.loads(text_of(await here.chat("who?", response_format=asked)))["age"], int)
        assert json.loads(text_of(await here.chat("who?", response_format={"type": "json_object"})))


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ("status-400", ProviderRefused),
        ("status-401", ProviderAuthFailed),
        ("status-403", ProviderAuthFailed),
        ("status-429", ProviderRateLimited),
        ("status-503", ProviderUnavailable),
        ("html-502", ProviderUnavailable),
        ("redirect", ProviderUnavailable),
        ("reset-1", ProviderUnavailable),
        ("chunked-cut-1", ProviderUnavailable),
        ("clean-end-1", ProviderUnavailable),
        ("error-1", ProviderUnavailable),
        ("broken-json-0", ProviderUnavailable),
        ("bad-utf8", ProviderUnavailable),
        ("huge-line", ProviderUnavailable),
        ("empty", ProviderUnavailable),
    ],
)
async def test_a_broken_vendor(surface: str, fault: str, expected: type) -> None:
    async with place(surface) as here, asyncio.timeout(30):
        with pytest.raises(UpstreamError) as caught:
            await here.chat("say 30 words", f"yandexgpt+{fault}")
        assert type(caught.value) is expected


async def test_a_vendor_without_farewell_or_count() -> None:
    async with place() as here:
        assert finish_of(await here.chat("say 9 words", "yandexgpt+no-done")) == "stop"
    async with place("native") as here:
        for fault in ("no-usage", "wrong-usage"):
            events = await here.chat("say 9 words", f"yandexgpt+{fault}")
            assert finish_of(events) == "stop"
            assert not any(isinstance(event, Usage) for event in events)


@pytest.mark.parametrize("surface", SURFACES)
async def test_closing_the_stream_cuts_the_vendor_off(surface: str) -> None:
    async with place(surface) as here, asyncio.timeout(30):
        await here.control("settings", pace_ms=50)
        request = chat_request(messages=[{"role": "user", "content": "say 500 words"}])
        async with aclosing(here.provider.chat(request, attempt_of(request, "yandexgpt"))) as events:
            async for event in events:
                if isinstance(event, Delta):
                    break
        while not (rows := [row for row in await here.rows() if row["gone_ms"] is not None]):
            await asyncio.sleep(0.01)
        assert rows[0]["path"].startswith("/yandex/")


async def test_a_service_account_logs_in_by_its_key() -> None:
    async with place() as here:
        issued = {"serviceAccountId": "sa-of-tests"}
        async with here.session.post(f"{here.url}/yandex/iam/v1/keys", json=issued) as response:
            made = await response.json()
        key = {"id": made["key"]["id"], "service_account_id": "sa-of-tests", "private_key": made["privateKey"]}
        own = {"folder": FOLDER, "service_account_key": json.dumps(key)}
        here.connect(api_key=None, auth_url=f"{here.url}/yandex/iam/v1/tokens", options=own)
        answers = await asyncio.gather(*(here.chat("echo: да") for _ in range(5)))
        assert {text_of(events) for events in answers} == {"да"}
        assert (await here.control("expire-tokens"))["expired"] == 1
        assert text_of(await here.chat("echo: нет")) == "нет"
        assert sum(row["path"].endswith("/iam/v1/tokens") for row in await here.rows()) == 2


async def test_vectors() -> None:
    async with place() as here:
        request = EmbeddingsRequest("acme/text-search-doc", ("текст",), {})
        found = await here.provider.embed(request, attempt_of(request, "text-search-doc"))
        assert len(found.vectors[0]) == 256
        assert found.usage is not None
        assert found.usage.input_tokens == 2
        shorter = EmbeddingsRequest("acme/text-search-doc", ("текст",), {}, dimensions=16)
        found = await here.provider.embed(shorter, attempt_of(shorter, "text-search-doc"))
        assert len(found.vectors[0]) == 16
        long = EmbeddingsRequest("acme/text-search-doc", ("x" * 9000,), {})
        with pytest.raises(ProviderRefused) as caught:
            await here.provider.embed(long, attempt_of(long, "text-search-doc"))
        assert caught.value.code == "context_length_exceeded"


async def test_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xrouter.providers.yandexgpt._POLL_S", 0.01)
    async with place() as here:
        request = ImagesRequest("acme/yandex-art", "рыжий кот", {}, size="1024x512")
        found = await here.provider.draw(request, attempt_of(request, "yandex-art"))
        assert "рыжий кот||2:1".encode() in base64.b64decode(found.images[0].b64)
        await here.control("faults", model="operation", fault="status-503", times=2)
        assert (await here.provider.draw(request, attempt_of(request, "yandex-art"))).images
        forbidden = ImagesRequest("acme/yandex-art", "запретная тема", {})
        with pytest.raises(ProviderRefused) as caught:
            await here.provider.draw(forbidden, attempt_of(forbidden, "yandex-art"))
        assert caught.value.code == "content_policy_violation"
        with pytest.raises(ProviderUnavailable):
            await here.provider.draw(request, attempt_of(request, "yandex-art+error-0"))


async def test_counting() -> None:
    async with place() as here:
        assert await here.provider.count_tokens("yandexgpt", ["восемь б", "x"]) == [3, 2]
        request = chat_request(messages=[{"role": "user", "content": "восемь б"}])
        assert await here.provider.count_chat_tokens("yandexgpt", request) == 3
        with pytest.raises(ProviderRefused):
            await here.provider.count_tokens("gpt-oss-20b", ["x"])
        assert f"emb://{FOLDER}/text-search-doc/latest" in await here.provider.list_models()


@pytest.mark.parametrize("surface", SURFACES)
async def test_a_wrong_folder_is_our_mistake_and_not_the_clients(surface: str) -> None:
    async with place(surface, api_key="b1gother.key") as here:
        with pytest.raises(ProviderAuthFailed, match="does not match"):
            await here.chat("x")
    async with place(surface) as here:
        with pytest.raises(ProviderRefused) as caught:
            await here.chat("x" * 140_000)
        assert caught.value.code == "context_length_exceeded"
