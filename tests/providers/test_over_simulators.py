"""Adapters and simulated vendors against each other over real sockets: what one says, the other must understand."""

import base64
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.providers.scripted import attempt_for, chat_request, collect

from xrouter.core.chat import Answer, ChatRequest, Delta, Finish, Reasoning, ToolDelta, Usage
from xrouter.core.clock import SystemClock
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import (
    Invalid,
    ProviderAuthFailed,
    ProviderRefused,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.core.images import ImagesRequest
from xrouter.core.rerank import RerankRequest
from xrouter.providers import load
from xrouter.settings import ProviderSettings
from xrouter.simulators import server
from xrouter.transport.client import open_transport

TOOLS = [
    {"type": "function", "function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
    for name, properties in (("get_weather", {"city": {"type": "string"}}), ("get_time", {}))
]
BASES = {"vllm": "/openai/v1", "tbank": "/openai/v1", "mts": "/mts/projects/demo/openai/v1", "anthropic": "/anthropic"}


class Stand:
    """The simulators and ways to them."""

    def __init__(self, port: int, transport: Any) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.transport = transport

    def account(self, kind: str, base: str | None = None, **settings: Any) -> Any:
        filled = {
            "kind": kind,
            "base_url": self.url + (base or BASES[kind]),
            "api_key": "k",
            "models": ["m"],
            **settings,
        }
        return load(kind).connect("acme", ProviderSettings.model_validate(filled), self.transport, SystemClock())

    async def set(self, **switches: Any) -> None:
        body = msgspec.json.encode(switches)
        async with self.transport.request("POST", f"{self.url}/control/settings", headers={}, body=body) as response:
            assert response.status == 200


@asynccontextmanager
async def _stand() -> AsyncIterator[Stand]:
    transport = open_transport(
        provider="acme", connect_timeout_s=2.0, ca_bundle=None, proxy=None, allow_private=[],
        trusted_hosts=frozenset({"127.0.0.1"}),
    )  # fmt: skip
    async with server.running(server.build(7)) as port:
        try:
            yield Stand(port, transport)
        finally:
            await transport.close()


@pytest.fixture
async def stand() -> AsyncIterator[Stand]:
    async with _stand() as found:
        yield found


def attempt(model: str) -> Any:
    found = attempt_for(chat_request())
    found.deployment = replace(found.deployment, upstream_model=model)
    return found


def say(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


async def whole(account: Any, model: str, request: ChatRequest) -> Answer:
    (answer,) = await collect(account, request, attempt(model))
    assert isinstance(answer, Answer)
    return answer


CHATS = [
    ("tbank", "t-pro-it-2.1"),
    ("vllm", "t-lite-it-2.1"),
    ("mts", "t-pro-it-2.1"),
    ("anthropic", "claude-sonnet-5-5"),
]


@pytest.mark.parametrize(("kind", "model"), CHATS)
async def test_a_chat_whole_and_streamed(stand: Stand, kind: str, model: str) -> None:
    account = stand.account(kind)
    answer = await whole(account, model, chat_request(stream=False, messages=say("say 30 words"), max_tokens=500))
    events = await collect(account, chat_request(messages=say("say 30 words"), max_tokens=500), attempt(model))
    said = "".join(event.text for event in events if isinstance(event, Delta))
    assert said == answer.choices[0].message.content
    assert len(said.split()) == 30
    (usage,) = (event for event in events if isinstance(event, Usage))
    assert answer.usage is not None
    assert (usage.input_tokens, usage.output_tokens) == (answer.usage.input_tokens, answer.usage.output_tokens)
    assert usage.output_tokens == (len(said) + 3) // 4


@pytest.mark.parametrize(("kind", "model"), CHATS)
async def test_tools_in_parallel_and_their_results(stand: Stand, kind: str, model: str) -> None:
    account = stand.account(kind)
    asked = say("Use get_weather and get_time")
    events = await collect(account, chat_request(messages=asked, tools=TOOLS), attempt(model))
    calls: dict[int, dict[str, str]] = {}
    for event in events:
        if isinstance(event, ToolDelta):
            call = calls.setdefault(event.index, {"id": event.id, "name": event.name, "arguments": ""})
            call["arguments"] += event.arguments
    assert [call["name"] for call in calls.values()] == ["get_weather", "get_time"]
    assert all(isinstance(msgspec.json.decode(call["arguments"]), dict) for call in calls.values())
    assert [event.reason for event in events if isinstance(event, Finish)] == ["tool_calls"]
    shown = [
        {"id": call["id"], "type": "function", "function": {"name": call["name"], "arguments": call["arguments"]}}
        for call in calls.values()
    ]
    results = [
        {"role": "tool", "tool_call_id": call["id"], "content": f"result of {call['name']}"} for call in calls.values()
    ]
    turns = [*asked, {"role": "assistant", "content": None, "tool_calls": shown}, *results]
    said = (await whole(account, model, chat_request(stream=False, messages=turns, tools=TOOLS))).choices[0].message
    assert "result of get_weather" in (said.content or "")
    assert "result of get_time" in (said.content or "")


@pytest.mark.parametrize(("kind", "model"), CHATS)
@pytest.mark.parametrize(
    ("more", "names"),
    [
        ({"tool_choice": "none"}, []),
        ({"tool_choice": {"type": "function", "function": {"name": "get_time"}}}, ["get_time"]),
        ({"tool_choice": "required", "parallel_tool_calls": False}, ["get_weather"]),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "get_time"}}],
                    },
                }
            },
            ["get_time"],
        ),
    ],
    ids=["none", "named", "one", "allowed"],
)
async def test_the_choice_of_tools(stand: Stand, kind: str, model: str, more: dict[str, Any], names: list[str]) -> None:
    request = chat_request(stream=False, messages=say("get_weather and get_time"), tools=TOOLS, **more)
    message = (await whole(stand.account(kind), model, request)).choices[0].message
    assert [call.name for call in message.tool_calls] == names


@pytest.mark.parametrize("dialect", ["inline", "prefilled", "reasoning_content", "reasoning"])
@pytest.mark.parametrize("stream", [False, True])
async def test_every_dialect_of_thinking(stand: Stand, dialect: str, stream: bool) -> None:
    await stand.set(reasoning=dialect)
    account = stand.account("vllm_think_prefilled" if dialect == "prefilled" else "vllm", BASES["vllm"])
    for effort, thinks in (("high", True), ("none", False)):
        request = chat_request(stream=stream, messages=say("echo: forty-two"), reasoning_effort=effort)
        events = await collect(account, request, attempt("t-pro-it-2.1"))
        if stream:
            said = "".join(event.text for event in events if isinstance(event, Delta))
            thought = "".join(event.text for event in events if isinstance(event, Reasoning))
        else:
            assert isinstance(events[0], Answer)
            message = events[0].choices[0].message
            said, thought = message.content or "", message.reasoning or ""
        assert said == "forty-two"
        assert bool(thought) is thinks


@pytest.mark.parametrize("stream", [False, True])
async def test_signed_thinking_makes_the_whole_round(stand: Stand, stream: bool) -> None:
    account = stand.account("anthropic")
    asked = say("get_weather please")
    fields: dict[str, Any] = {"tools": TOOLS[:1], "reasoning_effort": "low"}
    events = await collect(account, chat_request(stream=stream, messages=asked, **fields), attempt("claude-sonnet-5-5"))
    if stream:
        details = [
            msgspec.json.decode(event.extra["reasoning_details"])[0]
            for event in events
            if isinstance(event, Reasoning) and event.extra
        ]
        deltas = [event for event in events if isinstance(event, ToolDelta)]
        call = {"id": deltas[0].id, "name": deltas[0].name, "arguments": "".join(one.arguments for one in deltas)}
        assert [event.signature for event in events if isinstance(event, Reasoning) and event.signature]
    else:
        assert isinstance(events[0], Answer)
        message = events[0].choices[0].message
        assert message.extra is not None
        details = msgspec.json.decode(message.extra["reasoning_details"])
        found = message.tool_calls[0]
        call = {"id": found.id, "name": found.name, "arguments": found.arguments}
    function = {"name": call["name"], "arguments": call["arguments"]}
    turn = {"role": "assistant", "tool_calls": [{"id": call["id"], "type": "function", "function": function}]}
    result = {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}
    for more, kept in (({"reasoning_details": details}, True), ({}, False)):
        back = attempt("claude-sonnet-5-5")
        request = chat_request(stream=False, messages=[*asked, turn | more, result], **fields)
        (answer,) = await collect(account, request, back)
        assert isinstance(answer, Answer)
        assert "sunny" in (answer.choices[0].message.content or "")
        assert (answer.choices[0].message.reasoning is not None) is kept
        assert back.dropped == (() if kept else ("reasoning_effort",))


async def test_what_only_anthropic_has(stand: Stand) -> None:
    account, model = stand.account("anthropic"), "claude-sonnet-5-5"
    cached = chat_request(stream=False, messages=say("echo: ok"), prompt_cache_retention="24h")
    first, second = [(await whole(account, model, cached)).usage for _ in range(2)]
    assert first is not None
    assert second is not None
    assert first.input_tokens == second.input_tokens == first.cache_write_tokens == second.cached_tokens > 0
    assert (first.cached_tokens, second.cache_write_tokens) == (0, 0)
    stopped = await whole(account, model, chat_request(stream=False, messages=say("echo: a END b"), stop="END"))
    assert (stopped.choices[0].message.content, stopped.choices[0].finish_reason) == ("a ", "stop")
    cut = await whole(account, model, chat_request(stream=False, messages=say("say 90 words"), max_tokens=3))
    assert cut.choices[0].finish_reason == "length"
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    parts = [{"role": "user", "content": [picture, {"type": "text", "text": "echo: seen"}]}]
    assert (await whole(account, model, chat_request(stream=False, messages=parts))).choices[
        0
    ].message.content == "seen"
    jsons: list[dict[str, Any]] = [
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": {}}}},
    ]
    for wanted in jsons:
        answer = await whole(account, model, chat_request(stream=False, messages=say("tell"), response_format=wanted))
        assert isinstance(msgspec.json.decode(answer.choices[0].message.content or ""), dict)
    (count,) = await account.count_tokens(model, ["Привет, мир"])
    assert count == 3 + 3
    assert model in await account.list_models()
    newer = stand.account("anthropic", options={"version": "2026-10-21"})
    asked = chat_request(stream=False, messages=say("echo: new"), temperature=0.1, reasoning_effort="high")
    assert (await whole(newer, model, asked)).choices[0].message.content == "new"


@pytest.mark.parametrize(
    ("model", "expected", "code"),
    [
        ("claude-0", ProviderRefused, "model_not_found"),
        ("claude-sonnet-5-5+status-529", ProviderUnavailable, "provider_unavailable"),
        ("claude-sonnet-5-5+error-3", ProviderUnavailable, "provider_unavailable"),
        ("claude-sonnet-5-5+clean-end-3", ProviderUnavailable, "provider_unavailable"),
        ("claude-sonnet-5-5+eof-3", ProviderUnavailable, "provider_unavailable"),
        ("claude-sonnet-5-5+bad-utf8", ProviderUnavailable, "provider_unavailable"),
        ("claude-sonnet-5-5+status-401", ProviderAuthFailed, "provider_auth_error"),
    ],
)
async def test_how_anthropic_fails(stand: Stand, model: str, expected: type, code: str) -> None:
    with pytest.raises(expected) as caught:
        await collect(stand.account("anthropic"), chat_request(messages=say("say 30 words")), attempt(model))
    assert isinstance(caught.value, UpstreamError)
    assert caught.value.code == code


async def test_anthropics_usage_may_be_missing_or_absurd_and_a_stream_without_farewell_is_whole(stand: Stand) -> None:
    for fault, has_usage in (("no-usage", False), ("wrong-usage", False), ("no-done", True)):
        events = await collect(stand.account("anthropic"), chat_request(), attempt(f"claude-sonnet-5-5+{fault}"))
        assert any(isinstance(event, Finish) for event in events)
        assert any(isinstance(event, Usage) for event in events) is has_usage
    await stand.set(max_model_len=5)
    with pytest.raises(ProviderRefused) as caught:
        await collect(stand.account("anthropic"), chat_request(messages=say("x" * 99)), attempt("claude-sonnet-5-5"))
    assert caught.value.code == "context_length_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_text_is_continued(stand: Stand, stream: bool) -> None:
    request = msgspec.structs.replace(
        chat_request(stream=stream, max_tokens=9, stop=["END"]), prompt="Go on. echo: and so END it ends"
    )
    events = await collect(stand.account("tbank"), request, attempt("t-pro-it-2.1"))
    if stream:
        assert "".join(event.text for event in events if isinstance(event, Delta)) == "and so "
        assert [event.reason for event in events if isinstance(event, Finish)] == ["stop"]
        assert any(isinstance(event, Usage) for event in events)
    else:
        assert isinstance(events[0], Answer)
        assert events[0].choices[0].message.content == "and so "


@pytest.mark.parametrize(("kind", "model"), [("vllm", "text-embedder"), ("mts", "bge-m3")])
async def test_vectors(stand: Stand, kind: str, model: str) -> None:
    account = stand.account(kind)
    found = await account.embed(EmbeddingsRequest("m", ("one", "два", "one"), {}), attempt(model))
    assert [len(vector) for vector in found.vectors] == [1024] * 3
    assert found.vectors[0] == found.vectors[2] != found.vectors[1]
    assert found.usage.input_tokens == 3
    for fault in ("no-usage", "wrong-usage"):
        assert (await account.embed(EmbeddingsRequest("m", ("a",), {}), attempt(f"{model}+{fault}"))).usage is None
    with pytest.raises(ProviderUnavailable):
        await account.embed(EmbeddingsRequest("m", ("a",), {}), attempt(f"{model}+broken-json-0"))
    with pytest.raises(ProviderRefused):
        await account.embed(EmbeddingsRequest("m", ("a",), {}), attempt("t-pro-it-2.1"))


async def test_vectors_cannot_be_made_shorter_by_a_model_that_was_not_trained_for_it(stand: Stand) -> None:
    for kind, error in (("vllm", ProviderRefused), ("mts", Invalid)):
        with pytest.raises(error) as caught:
            await stand.account(kind).embed(EmbeddingsRequest("m", ("one",), {}, 100), attempt("bge-m3"))
        assert caught.value.http_status == 400  # type: ignore[attr-defined]  # of either class
    own = await stand.account("mts").embed(EmbeddingsRequest("m", ("one",), {}, 1024), attempt("bge-m3"))
    assert len(own.vectors[0]) == 1024


@pytest.mark.parametrize("kind", ["vllm", "mts"])
async def test_ranking(stand: Stand, kind: str) -> None:
    documents = ("про погоду", "the deepest lake on Earth is Baikal", "a lake")
    account, asked = stand.account(kind), RerankRequest("m", "Which lake is deepest?", documents, {}, 2)
    found = await account.rerank(asked, attempt("bge-reranker-v2-m3"))
    assert [one.index for one in found.results] == [1, 2]
    assert found.usage.input_tokens > 0
    for fault in ("no-usage", "wrong-usage"):
        assert (await account.rerank(asked, attempt(f"bge-reranker-v2-m3+{fault}"))).usage is None
    with pytest.raises(ProviderRefused):
        await account.rerank(asked, attempt("t-pro-it-2.1"))


async def test_pictures(stand: Stand) -> None:
    account = stand.account("vllm")
    found = await account.draw(
        ImagesRequest("m", "кот", {"quality": Raw(b'"high"')}, 2, "320x200"), attempt("qwen-image")
    )
    assert [one.mime for one in found.images] == ["image/png"] * 2
    for one in found.images:
        assert struct.unpack(">II", base64.b64decode(one.b64)[16:24]) == (320, 200)
    assert found.images[0] != found.images[1]
    with pytest.raises(ProviderRefused):
        await account.draw(ImagesRequest("m", "кот", {}, 99), attempt("qwen-image"))


async def test_counting_and_listing(stand: Stand) -> None:
    account = stand.account("tbank")
    assert await account.count_tokens("t-pro-it-2.1", ["four" * 5, ""]) == [5, 0]
    assert "t-pro-it-2.1" in await account.list_models()
    assert "bge-m3" in await stand.account("mts").list_models()


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize(
    ("model", "fields", "expected", "code"),
    [
        ("no-such", {}, ProviderRefused, "model_not_found"),
        ("llama-3.1-8b-instruct", {}, ProviderUnavailable, "provider_unavailable"),
        ("qwen2.5-72b-instruct", {}, ProviderUnavailable, "provider_unavailable"),
        ("bge-m3", {}, ProviderRefused, "unsupported_action"),
        ("t-lite-it-2.1-short", {"tools": TOOLS}, ProviderRefused, "tool_calling_unsupported"),
        ("t-lite-it-2.1", {"reasoning_effort": "high"}, ProviderRefused, "reasoning_unsupported"),
        ("t-lite-it-2.1-short", {"max_tokens": 5000}, ProviderRefused, "context_length_exceeded"),
    ],
)
async def test_the_codes_of_mws(
    stand: Stand, flat: bool, model: str, fields: dict[str, Any], expected: type, code: str
) -> None:
    await stand.set(flat_errors=flat)
    with pytest.raises(expected) as caught:
        await collect(stand.account("mts"), chat_request(**fields), attempt(model))
    assert isinstance(caught.value, UpstreamError)
    assert caught.value.code == code


@pytest.mark.parametrize("flat", [False, True])
async def test_what_the_caller_did_wrong_at_mws_is_the_callers_error(stand: Stand, flat: bool) -> None:
    await stand.set(flat_errors=flat)
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    for wrong in ({"messages": [{"role": "user", "content": [picture]}]}, {"max_tokens": -1}):
        back = attempt("t-pro-it-2.1")
        with pytest.raises(ProviderRefused) as caught:
            await collect(stand.account("mts"), chat_request(**wrong), back)
        assert (caught.value.http_status, back.upstream_status) == (400, 400)


async def test_a_system_message_later_on_is_moved_to_the_front(stand: Stand) -> None:
    messages = [*say("echo: hi"), {"role": "system", "content": "be brief"}]
    for kind in ("mts", "vllm", "tbank"):
        answer = await whole(stand.account(kind), "t-pro-it-2.1", chat_request(stream=False, messages=messages))
        assert answer.choices[0].message.content == "hi", kind


async def test_the_project_of_mws(stand: Stand) -> None:
    with pytest.raises(ProviderUnavailable):
        await collect(stand.account("mts", "/mts/projects/other/openai/v1"), chat_request(), attempt("t-lite-it-2.1"))
    await stand.set(api_key="another")
    with pytest.raises(ProviderAuthFailed):
        await collect(stand.account("mts"), chat_request(), attempt("t-lite-it-2.1"))


async def test_combinations_that_mws_refuses_never_reach_it(stand: Stand) -> None:
    request = chat_request(stream=False, top_logprobs=3, stream_options={"include_usage": True})
    back = attempt("t-lite-it-2.1")
    await collect(stand.account("mts"), request, back)
    assert back.dropped == ("top_logprobs",)


async def test_a_model_of_mws_may_ignore_the_cap_when_it_thinks(stand: Stand) -> None:
    await stand.set(ignores_max_tokens=True)
    request = chat_request(stream=False, messages=say("say 90 words"), max_tokens=3, reasoning_effort="high")
    answer = await whole(stand.account("mts"), "t-pro-it-2.1", request)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.output_tokens > 90


async def test_strict_calls_refuse_what_would_be_dropped(stand: Stand) -> None:
    for kind, model in CHATS:
        back = attempt(model)
        back.call.strict = True
        with pytest.raises(Invalid) as caught:
            await collect(stand.account(kind), chat_request(store=True), back)
        assert caught.value.param == "store"
