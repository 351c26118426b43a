"""YandexGPT's native API: its recorded answers in every cut, what goes out, vectors, pictures and counts."""

import asyncio
import base64
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.scripted import (
    FIXTURES,
    Reply,
    ScriptedTransport,
    Sent,
    attempt_for,
    chat_request,
    collect,
    connect,
    cut,
    plain,
)

from xrouter.core.call import Attempt, Phase
from xrouter.core.chat import ChatRequest
from xrouter.core.clock import ManualClock
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import (
    Invalid,
    ProviderAuthFailed,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.core.images import ImagesRequest
from xrouter.core.ports import ModelLister, TokenCounter
from xrouter.providers.yandexgpt import YandexGPT
from xrouter.providers.yandexgpt.native_answer import (
    Reading,
    StreamReader,
    read_answer,
    read_embedding,
    read_model_ids,
    read_operation,
    read_picture,
    read_token_count,
)
from xrouter.transport import BrokenOff, TransportError

FOLDER = "b1gfolderoftests00000"
RECORDED = FIXTURES / "yandexgpt" / "native"
JSON = {"content-type": "application/json", "x-request-id": "up-1"}
URL = "https://upstream.test/foundationModels/v1"


def native(answer: Any, **settings: Any) -> tuple[YandexGPT, ScriptedTransport]:
    options = {"folder": FOLDER, "surface": "native", **settings.pop("options", {})}
    provider, transport = connect("yandexgpt", answer, options=options, **settings)
    return cast(YandexGPT, provider), transport


def attempt_of(request: Any, model: str, marks: list[str] | None = None) -> Attempt:
    """An attempt at a deployment of that model."""
    attempt = attempt_for(cast(ChatRequest, request), marks)
    attempt.deployment = Deployment(id=f"acme/{model}", provider="acme", kind="yandexgpt", upstream_model=model)
    return attempt


def cases(pattern: str) -> list[Any]:
    return [pytest.param(path, id=path.name) for path in sorted(RECORDED.glob(pattern))]


def recorded(path: Path) -> bytes:
    return path.read_bytes()


def request_of(path: Path) -> dict[str, Any]:
    asked = path.with_name(path.name + ".request")
    return json.loads(asked.read_bytes()) if asked.exists() else {}


async def outcome(path: Path, chunks: list[bytes]) -> list[dict[str, Any]]:
    """The events as plain values; a failure ends them as one more."""
    provider, transport = native(Reply(headers=JSON, chunks=chunks))
    got: list[dict[str, Any]] = []
    request = chat_request(stream=path.suffix == ".ndjson", **request_of(path))
    events = provider.chat(request, attempt_for(request))
    try:
        async for event in events:
            got += plain([event])
    except UpstreamError as error:
        got.append({"raises": type(error).__name__, "message": error.message, "code": error.code})
    finally:
        await events.aclose()
    assert all(sent.closed for sent in transport.sent)
    return got


@pytest.mark.parametrize("path", [*cases("*.ndjson"), *cases("*.json")])
async def test_recorded_answers_give_the_expected_events_in_every_cut(path: Path) -> None:
    body = recorded(path)
    whole = await outcome(path, [body])
    expected = json.loads(recorded(path.with_name(path.name + ".expected")))
    assert whole == expected
    assert path.name.startswith("bad_") == ("raises" in whole[-1])
    for size in range(1, 65):
        assert await outcome(path, cut(body, size)) == whole, size


@pytest.mark.parametrize("path", [case for case in cases("*.ndjson") if not case.id.startswith("bad_")])
async def test_a_stream_cut_at_any_line_never_looks_complete(path: Path) -> None:
    lines = recorded(path).splitlines(keepends=True)
    whole = await outcome(path, lines)
    for count in range(len(lines)):
        got = await outcome(path, lines[:count])
        if "raises" not in got[-1]:  # cut behind the end
            assert got == whole


async def test_a_vendor_that_does_not_hang_up_delays_nobody() -> None:
    provider, transport = native(Reply(headers=JSON, chunks=[recorded(RECORDED / "text.ndjson")], holds=True))
    async with asyncio.timeout(5):
        await collect(provider, chat_request())
    assert transport.sent[-1].closed


NAMES = ["result", "alternatives", "message", "text", "status", "toolCallList", "toolCalls", "functionCall", "name",
         "arguments", "usage", "inputTextTokens", "completionTokens", "completionTokensDetails", "reasoningTokens",
         "error", "tokens", "embedding", "numTokens", "id", "done", "response", "image", "data"]  # fmt: skip
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.sampled_from([*NAMES, "7", "ALTERNATIVE_STATUS_FINAL"])
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(ANYTHING, st.sampled_from(["", "result", "alternatives", "message", "toolCallList", "usage"]))
def test_no_shape_of_a_body_breaks_the_reading(value: Any, place: str) -> None:
    """Whatever comes is an answer, or an error of the kind that its caller expects."""
    shown: dict[str, Any] = {"message": {"text": "x"}, "status": "ALTERNATIVE_STATUS_FINAL"}
    whole: Any = {"result": {"alternatives": [shown]}}
    if place in ("result", ""):
        whole = {"result": value} if place else value
    elif place in ("alternatives", "usage"):
        whole["result"][place] = value
    elif place == "message":
        shown["message"] = value
    else:
        shown["message"] = {place: value}
    body = msgspec.json.encode(whole)
    reading = Reading("acme", lambda _: ProviderUnavailable("in band", provider="acme"), "call")
    for read in (lambda: read_answer(body, reading), lambda: StreamReader(reading).read(body)):
        with suppress(ProviderUnavailable):
            read()
    for parse in (
        read_embedding,
        read_token_count,
        read_model_ids,
        read_operation,
        lambda body: read_picture(read_operation(body)),
    ):
        with suppress(ValueError):
            parse(body)


# ── what goes out ────────────────────────────────────────────────────────────────────────────────────────


async def sent_for(*, model: str = "yandexgpt", stream: bool = False, **fields: Any) -> dict[str, Any]:
    provider, transport = native(Reply(headers=JSON, chunks=[(RECORDED / "text.json").read_bytes()]))
    request = chat_request(stream=stream, **fields)
    attempt = attempt_of(request, model)
    await collect(provider, request, attempt)
    (sent,) = transport.sent
    assert sent.url == f"{URL}/completion"
    return {**sent.json(), "dropped": attempt.dropped}


WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object"}, "strict": True},
}
CLOCK = {"type": "function", "function": {"name": "now"}}


async def test_a_conversation_with_tools_in_the_vendors_form() -> None:
    sent = await sent_for(
        messages=[
            {"role": "developer", "content": "Ты помощник"},
            {"role": "user", "content": [{"type": "text", "text": "Погода"}, {"type": "text", "text": "и час?"}]},
            {
                "role": "assistant",
                "content": "Узнаю.",
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": '{"city":"M"}'}},
                    {"id": "c2", "type": "function", "function": {"name": "now", "arguments": ""}},
                ],
            },
            {"role": "tool", "tool_call_id": "c2", "content": "12:00"},
            {"role": "tool", "tool_call_id": "c1", "content": '{"t": 3}'},
        ],
        tools=[WEATHER, CLOCK],
        tool_choice="required",
        parallel_tool_calls=False,
    )
    assert sent["modelUri"] == f"gpt://{FOLDER}/yandexgpt/latest"
    assert sent["messages"] == [
        {"role": "system", "text": "Ты помощник"},
        {"role": "user", "text": "Погода\nи час?"},
        {"role": "assistant", "text": "Узнаю."},
        {
            "role": "assistant",
            "toolCallList": {
                "toolCalls": [
                    {"functionCall": {"name": "get_weather", "arguments": {"city": "M"}}},
                    {"functionCall": {"name": "now", "arguments": {}}},
                ]
            },
        },
        {
            "role": "user",
            "toolResultList": {
                "toolResults": [
                    {"functionResult": {"name": "now", "content": "12:00"}},
                    {"functionResult": {"name": "get_weather", "content": '{"t": 3}'}},
                ]
            },
        },
    ]
    assert sent["tools"] == [{"function": WEATHER["function"]}, {"function": {"name": "now"}}]
    assert (sent["toolChoice"], sent["parallelToolCalls"], sent["dropped"]) == ({"mode": "REQUIRED"}, False, ())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 1.7}, {"temperature": 1.0}),
        ({"temperature": 0}, {"temperature": 0}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, {"maxTokens": "7"}),
        ({"reasoning_effort": "none"}, {"reasoningOptions": {"mode": "DISABLED"}}),
        ({"reasoning_effort": "low"}, {"reasoningOptions": {"mode": "ENABLED_HIDDEN"}}),
    ],
)
async def test_options(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert (await sent_for(**fields))["completionOptions"] == {"stream": False, **expected}
    assert (await sent_for(stream=True, **fields))["completionOptions"] == {"stream": True, **expected}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"response_format": {"type": "json_object"}}, {"jsonObject": True}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "array"}}}},
            {"jsonSchema": {"schema": {"type": "array"}}},
        ),
        ({"tools": [CLOCK], "tool_choice": "none"}, {"toolChoice": {"mode": "NONE"}}),
        ({"tools": [CLOCK]}, {"toolChoice": {"mode": "AUTO"}}),
        (
            {"tools": [WEATHER, CLOCK], "tool_choice": {"type": "function", "function": {"name": "now"}}},
            {"toolChoice": {"functionName": "now"}},
        ),
        (
            {
                "tools": [WEATHER, CLOCK],
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [CLOCK]},
                },
            },
            {"toolChoice": {"mode": "REQUIRED"}, "tools": [{"function": {"name": "now"}}]},
        ),
        ({"stop": "END"}, {}),
    ],
)
async def test_fields(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    sent = await sent_for(**fields)
    assert {name: sent.get(name) for name in expected} == expected
    assert sent["dropped"] == ()
    assert "stop" not in sent


async def test_what_the_vendor_lacks_is_left_out_and_told() -> None:
    fields = {"top_p": 0.5, "seed": 1, "logit_bias": {"1": 1}, "user": "u", "top_k": 3, "unheard_of": True}
    fields |= {"metadata": {"a": "b"}, "store": True}
    neutral = {"top_p": 1, "logprobs": False, "presence_penalty": 0, "store": False, "service_tier": "auto"}
    assert (await sent_for(**fields))["dropped"] == tuple(fields)
    assert (await sent_for(**neutral))["dropped"] == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]}, "messages[0]"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "tools[0].type"),
        ({"tools": [CLOCK], "tool_choice": {"type": "function", "function": {"name": "x"}}}, "tool_choice"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
async def test_what_cannot_be_said_is_refused_before_anything_is_sent(fields: dict[str, Any], param: str) -> None:
    provider, transport = native(Reply())
    with pytest.raises(Invalid) as caught:
        await collect(provider, chat_request(**fields))
    assert caught.value.param == param
    assert transport.sent == []


async def test_a_strict_call_refuses_what_would_be_dropped() -> None:
    provider, transport = native(Reply())
    request = chat_request(seed=1)
    attempt = attempt_for(request)
    attempt.call.strict = True
    with pytest.raises(Invalid, match="seed"):
        await collect(provider, request, attempt)
    assert transport.sent == []


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────


def refusal(status: int, message: str, grpc: int) -> list[Reply]:
    """The same refusal in the envelope of a streaming method and in that of a unary one."""
    streaming = {"error": {"grpcCode": grpc, "httpCode": status, "message": message, "details": []}}
    unary = {"code": grpc, "message": message, "details": []}
    doubled = {"error": message, **unary}
    return [Reply(status, JSON, [msgspec.json.encode(body)]) for body in (streaming, unary, doubled)]


@pytest.mark.parametrize(
    ("status", "grpc", "message", "expected", "code"),
    [
        (400, 3, "number of input tokens must be no more than 32768, got 40000", ProviderRefused,
         "context_length_exceeded"),
        (400, 3, "invalid model_uri", ProviderRefused, "model_not_found"),
        (400, 3, "Failed to get model", ProviderRefused, "model_not_found"),
        (400, 3, "temperature is wrong", ProviderRefused, "provider_refused"),
        (400, 3, "Specified folder ID 'x' does not match with service account folder ID 'y'", ProviderAuthFailed,
         "provider_auth_error"),
        (401, 16, "Unknown api key 'AQVN****'", ProviderAuthFailed, "provider_auth_error"),
        (403, 7, "Permission denied", ProviderAuthFailed, "provider_auth_error"),
        (429, 8, "quota limit exceed", ProviderRateLimited, "provider_rate_limited"),
        (500, 13, "internal", ProviderUnavailable, "provider_unavailable"),
        (501, 12, "unimplemented", ProviderUnavailable, "provider_unavailable"),
        (503, 14, "unavailable", ProviderUnavailable, "provider_unavailable"),
        (504, 4, "deadline", ProviderUnavailable, "provider_unavailable"),
    ],
)  # fmt: skip
async def test_refusals(status: int, grpc: int, message: str, expected: type, code: str) -> None:
    for reply in refusal(status, message, grpc):
        provider, _ = native(reply)
        with pytest.raises(UpstreamError) as caught:
            await collect(provider, chat_request())
        assert (type(caught.value), caught.value.code) == (expected, code)
        assert caught.value.message.startswith(f"acme answered {status}: ")
        if expected is not ProviderRefused:
            assert caught.value.http_status >= 500  # never shown as the client's mistake


# ── vectors ──────────────────────────────────────────────────────────────────────────────────────────────


def embeddings_request(*inputs: str, **more: Any) -> EmbeddingsRequest:
    return EmbeddingsRequest("acme/text-search-doc", inputs, {}, **more)


async def test_a_vector() -> None:
    provider, transport = native(
        Reply(headers=JSON, chunks=[b'{"embedding":[0.5,-1,2e-3],"numTokens":"7","modelVersion":"06.12.2023"}'])
    )
    request, marks = embeddings_request("текст", dimensions=256), list[str]()
    attempt = attempt_of(request, "text-search-doc", marks)
    found = await provider.embed(request, attempt)
    assert found.vectors == ((0.5, -1.0, 0.002),)
    assert found.usage is not None
    assert (found.usage.input_tokens, found.usage.output_tokens) == (7, 0)
    (sent,) = transport.sent
    assert sent.url == f"{URL}/textEmbedding"
    assert sent.json() == {"modelUri": f"emb://{FOLDER}/text-search-doc/latest", "text": "текст", "dim": "256"}
    assert (marks, attempt.phase, attempt.upstream_status) == (["intent"], Phase.BODY, 200)


@pytest.mark.parametrize(
    "body",
    [b"{}", b"[]", b'{"embedding":[]}', b'{"embedding":["x"]}', b'{"embedding":[1', b'{"embedding":[1e999]}'],
)
async def test_a_body_without_a_vector_is_the_vendors_fault(body: bytes) -> None:
    provider, _ = native(Reply(headers=JSON, chunks=[body]))
    request = embeddings_request("x")
    with pytest.raises(ProviderUnavailable):
        await provider.embed(request, attempt_of(request, "text-search-doc"))


async def test_absurd_counts_of_a_vector_are_left_out() -> None:
    provider, _ = native(Reply(headers=JSON, chunks=[b'{"embedding":[1],"numTokens":"-7"}']))
    request = embeddings_request("x")
    assert (await provider.embed(request, attempt_of(request, "text-search-doc"))).usage is None


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────


PICTURE = base64.b64encode(b"\xff\xd8\xff\xe0 a picture").decode()
RUNNING = b'{"id":"op1","description":"","createdAt":"2026-11-20T12:45:48Z","done":false}'
DONE = b'{"id":"op1","done":true,"response":{"@type":"x","image":"%s","modelVersion":""}}' % PICTURE.encode()


class Painter:
    """Answers the order with `RUNNING`, then with `looks` one after another."""

    def __init__(self, *looks: Reply | TransportError) -> None:
        self.clock = ManualClock()
        self.looks = list(looks)
        self.orders: list[Sent] = []
        self.polls: list[Sent] = []

    def __call__(self, sent: Sent) -> Reply | TransportError:
        if sent.body:
            self.orders.append(sent)
            return Reply(headers=JSON, chunks=[RUNNING])
        self.polls.append(sent)
        self.clock.advance(1.0)
        return self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]

    async def draw(self, marks: list[str] | None = None, deadline_s: float = 60.0, **more: Any) -> Any:
        provider, _ = native(self, clock=self.clock)
        request = ImagesRequest("acme/yandex-art", more.pop("prompt", "кот"), more.pop("fields", {}), **more)
        attempt = attempt_of(request, "yandex-art", marks)
        attempt.call.deadline = self.clock.monotonic() + deadline_s
        self.attempt = attempt
        return await provider.draw(request, attempt)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xrouter.providers.yandexgpt._POLL_S", 0.0)


def said(body: bytes) -> Reply:
    return Reply(headers=JSON, chunks=[body])


@pytest.mark.usefixtures("quick")
async def test_a_picture_is_ordered_once_and_asked_for_until_it_is_there() -> None:
    painter, marks = Painter(said(RUNNING), said(RUNNING), said(DONE)), list[str]()
    fields = {"seed": msgspec.Raw(b"1863"), "quality": msgspec.Raw(b'"auto"'), "style": msgspec.Raw(b'"vivid"')}
    found = await painter.draw(marks, size="1792x1024", fields=fields)
    (image,) = found.images
    assert (image.b64, image.mime, found.usage) == (PICTURE, "image/jpeg", None)
    (order,) = painter.orders
    assert order.url == f"{URL}/imageGenerationAsync"
    assert order.json() == {
        "modelUri": f"art://{FOLDER}/yandex-art/latest",
        "messages": [{"text": "кот", "weight": "1"}],
        "generationOptions": {
            "mimeType": "image/jpeg",
            "seed": "1863",
            "aspectRatio": {"widthRatio": "7", "heightRatio": "4"},
        },
    }
    assert [poll.url for poll in painter.polls] == ["https://upstream.test/operations/op1"] * 3
    assert (marks, painter.attempt.phase, painter.attempt.dropped) == (["intent"], Phase.BODY, ("style",))


@pytest.mark.usefixtures("quick")
async def test_a_picture_that_takes_too_long() -> None:
    painter = Painter(said(RUNNING))
    with pytest.raises(ProviderTimeout, match="deadline"):
        await painter.draw(deadline_s=5.0)
    assert len(painter.polls) == 5


@pytest.mark.usefixtures("quick")
async def test_a_poll_that_fails_does_not_lose_the_picture() -> None:
    busy = Reply(429, JSON, [b'{"code":8,"message":"busy"}'])
    painter = Painter(busy, BrokenOff("reset", "reset"), said(RUNNING), busy, busy, said(DONE))
    assert (await painter.draw()).images
    assert len(painter.orders) == 1
    painter = Painter(busy)
    with pytest.raises(ProviderRateLimited):
        await painter.draw()
    assert len(painter.polls) == 3


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("body", "expected", "code"),
    [
        (b'{"id":"op1","done":true,"error":{"code":3,"message":"it is not possible to generate an image from this '
         b'request because it may violate the terms of use"}}', ProviderRefused, "content_policy_violation"),
        (b'{"id":"op1","done":true,"error":{"code":13,"message":"internal"}}', ProviderUnavailable,
         "provider_unavailable"),
        (b'{"id":"op1","done":true,"response":{}}', ProviderUnavailable, "provider_unavailable"),
        (b'{"id":"op1","done":true,"response":{"image":"\xd0\xb9"}}', ProviderUnavailable, "provider_unavailable"),
    ],
)  # fmt: skip
async def test_an_operation_that_failed(body: bytes, expected: type, code: str) -> None:
    painter = Painter(said(body))
    with pytest.raises(UpstreamError) as caught:
        await painter.draw(deadline_s=10.0)
    assert (type(caught.value), caught.value.code, len(painter.polls)) == (expected, code, 1)


@pytest.mark.parametrize("number", ["../v1/models", "a b", "", "x" * 65])
async def test_an_operations_id_leads_nowhere_else(number: str) -> None:
    body = json.dumps({"id": number, "done": False}).encode()
    provider, transport = native(said(body))
    request = ImagesRequest("acme/yandex-art", "кот", {})
    with pytest.raises(ProviderUnavailable):
        await provider.draw(request, attempt_of(request, "yandex-art"))
    assert len(transport.sent) == 1


async def test_a_picture_that_is_refused_or_there_at_once() -> None:
    request = ImagesRequest("acme/yandex-art", "кот", {})
    provider, _ = native(said(b'{"id":"op1","done":true,"error":{"code":8,"message":"quota"}}'))
    with pytest.raises(ProviderRateLimited, match="quota"):
        await provider.draw(request, attempt_of(request, "yandex-art"))
    provider, transport = native(said(DONE))
    assert (await provider.draw(request, attempt_of(request, "yandex-art"))).images
    assert len(transport.sent) == 1


@pytest.mark.usefixtures("quick")
async def test_a_look_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xrouter.providers.yandexgpt._LOOK_S", 0.01)
    painter = Painter(Reply(headers=JSON, chunks=[], holds=True), said(DONE))
    assert (await painter.draw()).images
    painter = Painter(Reply(headers=JSON, chunks=[], holds=True))
    with pytest.raises(ProviderTimeout, match="how the picture stands"):
        await painter.draw()
    assert (len(painter.polls), all(poll.closed for poll in painter.polls)) == (3, True)


@pytest.mark.usefixtures("quick")
async def test_leaving_while_a_picture_is_drawn_ends_the_asking() -> None:
    painter = Painter(said(RUNNING))
    drawing = asyncio.create_task(painter.draw(deadline_s=1e6))
    async with asyncio.timeout(10):
        while len(painter.polls) < 3:
            await asyncio.sleep(0)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    asked = len(painter.polls)
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(painter.polls) == asked
    assert all(sent.closed for sent in [*painter.orders, *painter.polls[:-1]])


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"prompt": "я" * 501}, "prompt"),
        ({"size": "big"}, "size"),
        ({"fields": {"seed": msgspec.Raw(b'"x"')}}, "seed"),
    ],
)
async def test_a_picture_that_cannot_be_asked_for(more: dict[str, Any], param: str) -> None:
    painter = Painter(said(DONE))
    with pytest.raises(Invalid) as caught:
        await painter.draw(**more)
    assert caught.value.param == param
    assert painter.orders == []


# ── counting ─────────────────────────────────────────────────────────────────────────────────────────────


TOKENS = b'{"tokens":[{"id":"1","text":"<s>","special":true},{"id":"7","text":"x"}],"modelVersion":""}'


async def test_tokens_are_counted_by_the_vendor() -> None:
    provider, transport = native(Reply(headers=JSON, chunks=[TOKENS]))
    assert isinstance(provider, TokenCounter)
    assert await provider.count_tokens("yandexgpt-lite:rc", ["a", "b"]) == [2, 2]
    assert await provider.count_tokens("yandexgpt-lite:rc", []) == []
    assert await provider.count_chat_tokens("yandexgpt", chat_request(stream=False)) == 2
    one, other, chat = transport.sent
    assert (one.url, one.json()) == (f"{URL}/tokenize", {"modelUri": f"gpt://{FOLDER}/yandexgpt-lite/rc", "text": "a"})
    assert other.json()["text"] == "b"
    assert chat.url == f"{URL}/tokenizeCompletion"
    assert chat.json()["messages"] == [{"role": "user", "text": "Привет"}]
    provider, _ = native(Reply(headers=JSON, chunks=[b'{"tokens":5}']))
    with pytest.raises(ProviderUnavailable):
        await provider.count_tokens("yandexgpt", ["a"])


async def test_the_models_of_the_account() -> None:
    body = b'{"object":"list","data":[{"id":"gpt://F/yandexgpt/latest","object":"model","created":0}]}'
    provider, transport = native(Reply(headers=JSON, chunks=[body]))
    assert isinstance(provider, ModelLister)
    assert await provider.list_models() == ["gpt://F/yandexgpt/latest"]
    (sent,) = transport.sent
    assert (sent.method, sent.url) == ("GET", "https://upstream.test/v1/models")
    assert sent.headers["OpenAI-Project"] == FOLDER
    provider, _ = native(Reply(headers=JSON, chunks=[b'{"data":{}}']))
    with pytest.raises(ProviderUnavailable):
        await provider.list_models()


# ── what the vendor's own message types are held against: acceptance/yandex ──────────────────────────────

SENT = FIXTURES / "yandexgpt" / "sent"


@pytest.mark.usefixtures("quick")
async def test_the_requests_that_are_checked_by_the_vendors_messages_are_those_that_go_out() -> None:
    plain_chat = {**(await sent_for(temperature=1.2, max_tokens=9, reasoning_effort="low", stream=True))}
    tools = await sent_for(
        messages=[
            {"role": "user", "content": "погода?"},
            {
                "role": "assistant",
                "tool_calls": [
                    {"id": "c", "type": "function", "function": {"name": "get_weather", "arguments": '{"days":5}'}}
                ],
            },
            {"role": "tool", "tool_call_id": "c", "content": "27"},
        ],
        tools=[WEATHER],
        tool_choice={"type": "function", "function": {"name": "get_weather"}},
        parallel_tool_calls=False,
        response_format={"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object"}}},
    )
    painter = Painter(said(DONE))
    fields = {"seed": msgspec.Raw(b"7")}
    await painter.draw(size="1024x512", fields=fields)
    provider, transport = native(Reply(headers=JSON, chunks=[b'{"embedding":[1]}']))
    request = embeddings_request("текст", dimensions=256)
    await provider.embed(request, attempt_of(request, "text-search-doc"))
    sent = {
        "completion": {name: value for name, value in plain_chat.items() if name != "dropped"},
        "completion_with_tools": {name: value for name, value in tools.items() if name != "dropped"},
        "embedding": transport.sent[0].json(),
        "picture": painter.orders[0].json(),
    }
    assert sent == {path.stem: json.loads(recorded(path)) for path in SENT.glob("*.json")}
