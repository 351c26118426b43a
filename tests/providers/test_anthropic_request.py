"""OpenAI's request in the words of the Messages API: every parameter is said, made up for, dropped or refused."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.scripted import OUR_KEY, Reply, attempt_for, chat_request, collect, connect

from xrouter.core.chat import Answer
from xrouter.core.errors import Invalid, ProviderAuthFailed, ProviderQuotaExhausted, ProviderRefused, UpstreamError
from xrouter.core.ports import ModelLister, TokenCounter
from xrouter.providers import load
from xrouter.providers.anthropic.options import Options
from xrouter.providers.anthropic.request import VendorRequest, vendor_request
from xrouter.providers.anthropic.unfence import Unfencer
from xrouter.settings import ConfigError, ProviderSettings

OLD, NEW = Options(), Options(version="2026-10-21")
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "g"}}
PDF = "data:application/pdf;base64,JVBERi0="


def asked(options: Options = OLD, *, stream: bool = False, **fields: Any) -> tuple[Any, VendorRequest]:
    upstream = vendor_request(chat_request(stream=stream, **fields), "claude", options)
    return msgspec.json.decode(upstream.body), upstream


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def call(call_id: str, name: str = "f", arguments: str = '{"a":1}') -> dict[str, Any]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def text(said: str) -> dict[str, Any]:
    return {"type": "text", "text": said}


def test_a_plain_request() -> None:
    body, upstream = asked(stream=True, stream_options={"include_usage": True}, temperature=1.7, top_p=0.5, top_k=4)
    assert body == {
        "model": "claude", "max_tokens": 8192, "stream": True, "temperature": 1, "top_p": 0.5, "top_k": 4,
        "messages": [user([text("Привет")])],
    }  # fmt: skip
    assert upstream.dropped == ()


def test_roles_alternate_and_the_system_stands_apart() -> None:
    body, _ = asked(
        messages=[
            {"role": "system", "content": "one"},
            user("hi"),
            {"role": "developer", "content": [text("two")]},
            user([text("there"), text("")]),
            {"role": "assistant", "content": "", "tool_calls": [call("c/1"), call("c2", "g", "")]},
            {"role": "tool", "tool_call_id": "c/1", "content": "r1"},
            {"role": "tool", "tool_call_id": "c2", "content": [text("r2")]},
            user("and?"),
            {"role": "assistant", "content": "so "},
        ],
        tools=[FUNCTION, OTHER],
    )
    assert body["system"] == [text("one"), text("two")]
    assert body["messages"] == [
        user([text("hi"), text("there")]),
        {"role": "assistant", "content": [
            {"type": "tool_use", "id": "c_1", "name": "f", "input": {"a": 1}},
            {"type": "tool_use", "id": "c2", "name": "g", "input": {}},
        ]},
        user([
            {"type": "tool_result", "tool_use_id": "c_1", "content": [text("r1")]},
            {"type": "tool_result", "tool_use_id": "c2", "content": [text("r2")]},
            text("and?"),
        ]),
        {"role": "assistant", "content": [text("so")]},
    ]  # fmt: skip


def test_odd_beginnings() -> None:
    assert asked(messages=[{"role": "system", "content": "do it"}])[0]["messages"] == [user([text("do it")])]
    body, _ = asked(messages=[{"role": "assistant", "content": "hello"}, user("hi")])
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    with pytest.raises(Invalid):
        asked(messages=[user("")])


def test_a_file_of_text_is_a_document() -> None:
    for kind in ("text/plain", "text/markdown; charset=utf-8".replace(" ", "")):
        part = {"type": "file", "file": {"file_data": f"data:{kind};base64,0L/RgNC40LLQtdGC", "filename": "a.txt"}}
        (block,) = asked(messages=[user([part])])[0]["messages"][0]["content"]
        source = {"type": "text", "media_type": "text/plain", "data": "привет"}
        assert block == {"type": "document", "source": source, "title": "a.txt"}
    with pytest.raises(Invalid, match="UTF-8 in base64"):
        asked(messages=[user([{"type": "file", "file": {"file_data": "data:text/plain;base64,/w=="}}])])


@pytest.mark.parametrize("kind", ["anthropic", "tbank", "mts"])
async def test_a_refusal_names_the_model(kind: str) -> None:
    provider, _ = connect(kind, Reply())
    request = chat_request(messages=[user([{"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}])])
    attempt = attempt_for(request)
    with pytest.raises(Invalid) as caught:
        await collect(provider, request, attempt)
    assert caught.value.message.startswith(f"{attempt.deployment.id} reads no content of the type 'input_audio'")
    assert caught.value.param == "messages[0].content[0]" + (".type" if kind != "anthropic" else "")


def test_pictures_and_files() -> None:
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://e.test/x.png"}, "cache_control": {"type": "ephemeral"}},
        {"type": "file", "file": {"file_data": PDF, "filename": "a.pdf"}},
        {"type": "text", "text": "x", "prompt_cache_breakpoint": True},
    ]
    assert asked(messages=[user(parts)])[0]["messages"][0]["content"] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}},
        {"type": "image", "source": {"type": "url", "url": "https://e.test/x.png"},
         "cache_control": {"type": "ephemeral"}},
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
         "title": "a.pdf"},
        {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [user([{"type": "input_audio", "input_audio": {}}])]}, "messages[0].content[0]"),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}])]},
         "messages[0].content[0]"),
        ({"messages": [user([{"type": "image_url", "image_url": {"url": "data:image/tiff;base64,AA"}}])]},
         "messages[0].content[0]"),
        ({"messages": [user([{"type": "file", "file": {"file_id": "file-1"}}])]}, "messages[0].content[0]"),
        ({"messages": [{"role": "assistant", "tool_calls": [call("c", arguments="[1]")]}]},
         "messages[0].tool_calls[0].function.arguments"),
        ({"tools": [{"type": "custom", "custom": {"name": "c"}}]}, "tools[0].type"),
        ({"tools": [{"type": "code_interpreter"}]}, "tools[0].type"),
        ({"tools": [FUNCTION, {"type": "web_search_20250305"}]}, "tools[1].type"),
        ({"tools": [{"type": "web_search", "filters": "x"}]}, "tools[0].filters"),
        ({"tools": [{"type": "web_search", "filters": {"allowed_domains": ["a.test"], "blocked_domains": ["b.test"]}}]},
         "tools[0].filters"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"stop": ["\n"]}, "stop"),
        ({"thinking": {"type": "often"}}, "thinking"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"tools": []}}},
         "tool_choice"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_the_clients_error(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        asked(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, None),
        ({"tool_choice": "auto"}, {"type": "auto"}),
        ({"tool_choice": "none"}, {"type": "none"}),
        ({"tool_choice": "none", "parallel_tool_calls": False}, {"type": "none"}),
        ({"tool_choice": "required"}, {"type": "any"}),
        ({"tool_choice": {"type": "function", "function": {"name": "g"}}}, {"type": "tool", "name": "g"}),
        ({"parallel_tool_calls": False}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"parallel_tool_calls": True}, None),
        ({"tool_choice": "required", "parallel_tool_calls": False}, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_the_choice_of_tools(fields: dict[str, Any], choice: Any) -> None:
    body, _ = asked(tools=[FUNCTION, OTHER], **fields)
    assert body["tools"] == [
        {"name": "f", "description": "d", "input_schema": {"type": "object"}},
        {"name": "g", "input_schema": {"type": "object", "properties": {}}},
    ]
    assert body.get("tool_choice") == choice


SEARCH = {"type": "web_search_20250305", "name": "web_search"}
NEAR = {"city": "Тверь", "country": "RU", "timezone": "Europe/Moscow"}


@pytest.mark.parametrize(
    ("given", "expected", "dropped"),
    [
        ({"type": "web_search"}, {}, ()),
        ({"type": "web_search_2025_08_26", "filters": {"allowed_domains": ["a.test"]}},
         {"allowed_domains": ["a.test"]}, ()),
        ({"type": "web_search", "filters": {"allowed_domains": [], "blocked_domains": ["b.test"]}},
         {"blocked_domains": ["b.test"]}, ()),
        ({"type": "web_search_preview", "search_context_size": "high"}, {}, ("tools[0].search_context_size",)),
        ({"type": "web_search_preview_2025_03_11", "user_location": {"type": "approximate", **NEAR, "region": None}},
         {"user_location": {"type": "approximate", **NEAR}}, ()),
        ({"type": "web_search_preview", "user_location": {"type": "approximate", "approximate": NEAR}},
         {"user_location": {"type": "approximate", **NEAR}}, ()),
    ],
)  # fmt: skip
def test_a_search_of_openais_becomes_the_vendors(given: Any, expected: Any, dropped: Any) -> None:
    body, upstream = asked(tools=[given])
    assert body["tools"] == [SEARCH | expected]
    assert upstream.dropped == dropped


def test_a_search_may_be_the_tool_that_is_allowed() -> None:
    allowed = {"mode": "auto", "tools": [{"type": "web_search"}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    assert asked(tools=[FUNCTION, {"type": "web_search_preview"}], tool_choice=choice)[0]["tools"] == [SEARCH]


def test_allowed_and_own_and_forgotten_tools() -> None:
    allowed = {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]}
    body, _ = asked(tools=[FUNCTION, OTHER], tool_choice={"type": "allowed_tools", "allowed_tools": allowed})
    assert ([tool["name"] for tool in body["tools"]], body["tool_choice"]) == (["g"], {"type": "any"})
    own = {"type": "web_search_20250305", "name": "web_search", "max_uses": 3}
    assert asked(tools=[own])[0]["tools"] == [own]
    result = {"role": "tool", "tool_call_id": "c", "content": "r"}
    messages = [user("go"), {"role": "assistant", "tool_calls": [call("c")]}, result]
    forgotten, _ = asked(messages=messages)
    assert ([tool["name"] for tool in forgotten["tools"]], forgotten["tool_choice"]) == (["f"], {"type": "none"})


@pytest.mark.parametrize(
    ("options", "fields", "thinking", "config", "cap", "dropped"),
    [
        (OLD, {}, None, None, 8192, ()),
        (OLD, {"reasoning_effort": "none"}, None, None, 8192, ()),
        (OLD, {"reasoning_effort": "low"}, {"type": "enabled", "budget_tokens": 2048}, None, 10240, ()),
        (OLD, {"reasoning_effort": "max", "max_tokens": 5000}, {"type": "enabled", "budget_tokens": 4999}, None,
         5000, ()),
        (OLD, {"reasoning_effort": "low", "max_tokens": 1000}, None, None, 1000, ("reasoning_effort",)),
        (OLD, {"reasoning_effort": "low", "temperature": 0},
         {"type": "enabled", "budget_tokens": 2048}, None, 10240, ("temperature",)),
        (Options(max_tokens=100), {"thinking": {"type": "enabled", "budget_tokens": 1024}},
         {"type": "enabled", "budget_tokens": 1024}, None, 1124, ()),
        (OLD, {"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, None, None, 8192, ()),
        (OLD, {"reasoning_effort": "low", "tools": [FUNCTION], "tool_choice": "required"}, None, None, 8192,
         ("reasoning_effort",)),
        (NEW, {"reasoning_effort": "minimal"}, {"type": "adaptive"}, {"effort": "low"}, 8192, ()),
        (NEW, {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, {"effort": "xhigh"}, 8192, ()),
        (NEW, {"reasoning_effort": "none"}, {"type": "disabled"}, None, 8192, ()),
        (NEW, {"temperature": 0.5, "top_p": 1}, None, None, 8192, ("temperature", "top_p")),
    ],
)  # fmt: skip
def test_thinking(options: Options, fields: dict[str, Any], thinking: Any, config: Any, cap: int, dropped: Any) -> None:
    body, upstream = asked(options, **fields)
    assert body.get("thinking") == thinking
    assert body.get("output_config") == config
    assert body["max_tokens"] == cap
    assert upstream.dropped == dropped
    assert not (thinking and thinking["type"] == "enabled" and "temperature" in body)


def test_signed_thinking_goes_back_where_it_came_from() -> None:
    details = [
        {"type": "reasoning.text", "text": "hm", "signature": "Sig", "format": "anthropic-claude-v1", "index": 0},
        {"type": "reasoning.encrypted", "data": "Enc", "format": "anthropic-claude-v1", "index": 1},
        {"type": "reasoning.text", "text": "of another", "signature": "X", "format": "openai-responses-v1"},
        {"type": "reasoning.text", "text": "unsigned"},
    ]
    assistant = {"role": "assistant", "tool_calls": [call("c")], "reasoning_details": details}
    messages = [user("go"), assistant, {"role": "tool", "tool_call_id": "c", "content": "r"}]
    body, upstream = asked(messages=messages, reasoning_effort="low", tools=[FUNCTION])
    assert body["messages"][1]["content"][:2] == [
        {"type": "thinking", "thinking": "hm", "signature": "Sig"},
        {"type": "redacted_thinking", "data": "Enc"},
    ]
    assert body["messages"][1]["content"][2]["type"] == "tool_use"
    assert upstream.dropped == ()
    assert [block["type"] for block in asked(messages=messages, tools=[FUNCTION])[0]["messages"][1]["content"]] == [
        "tool_use"
    ]
    # Without it the vendor refuses to think on in this loop.
    del assistant["reasoning_details"]
    body, upstream = asked(messages=messages, reasoning_effort="low", tools=[FUNCTION])
    assert "thinking" not in body
    assert upstream.dropped == ("reasoning_effort",)


async def test_thinking_makes_the_round_through_a_client() -> None:
    """What the gateway shows of an answer, sent back as it was shown, is the vendor's own block again."""
    used = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    said = [{"type": "thinking", "thinking": "hm", "signature": "Sig"}, used]
    whole = {"type": "message", "content": said, "stop_reason": "tool_use", "usage": {}}
    provider, _ = connect("anthropic", Reply(chunks=[msgspec.json.encode(whole)]))
    (answer,) = await collect(provider, chat_request(stream=False))
    assert isinstance(answer, Answer)
    message = answer.choices[0].message
    shown = {"role": "assistant", "content": None, "tool_calls": [call("c", arguments="{}")], **(message.extra or {})}
    body, _ = asked(messages=[user("go"), shown], reasoning_effort="high", tools=[FUNCTION])
    assert body["messages"][1]["content"] == said


def test_the_rest_of_the_parameters() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    body, upstream = asked(
        max_completion_tokens=7, max_tokens=9, stop="END", user="Мария", n=3, prompt_cache_retention="24h",
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}},
        seed=1, logit_bias={}, logprobs=True, frequency_penalty=1, presence_penalty=1, store=True, metadata={"a": "b"},
        service_tier="auto", prompt_cache_key="k", verbosity="low", unknown=1, web_search_options={},
        modalities=["text"],
    )  # fmt: skip
    assert body["max_tokens"] == 7
    assert body["stop_sequences"] == ["END"]
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert body["cache_control"] == {"type": "ephemeral", "ttl": "1h"}
    assert body["metadata"]["user_id"] == asked(safety_identifier="Мария")[0]["metadata"]["user_id"]
    assert "Мария" not in str(body)
    assert "n" not in body
    assert set(upstream.dropped) == {
        "seed", "logit_bias", "logprobs", "frequency_penalty", "presence_penalty", "store", "metadata", "service_tier",
        "prompt_cache_key", "verbosity", "unknown", "web_search_options",
    }  # fmt: skip


def test_a_json_object_is_asked_for_in_words() -> None:
    body, upstream = asked(response_format={"type": "json_object"})
    assert upstream.wants_object
    assert "JSON object" in body["system"][0]["text"]
    assert not asked(response_format={"type": "text"})[1].wants_object


@given(st.text('`json {}\n\r"a', max_size=30), st.data())
def test_taking_off_a_fence_does_not_depend_on_the_cut(said: str, data: st.DataObject) -> None:
    whole = Unfencer()
    expected = whole.feed(said) + whole.end()
    pieces, rest, fence = "", said, Unfencer()
    while rest:
        size = data.draw(st.integers(1, len(rest)))
        pieces, rest = pieces + fence.feed(rest[:size]), rest[size:]
    assert pieces + fence.end() == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [('```json\n{"a":1}\n```', '{"a":1}'), ('```\n{}\n```\n', "{}"), ('{"a":"```"}', '{"a":"```"}'), ("plain", "plain"),
     ("```json\n{}", "{}"), ("``", "``")],
)  # fmt: skip
def test_a_fence_is_taken_off(said: str, expected: str) -> None:
    fence = Unfencer()
    assert fence.feed(said) + fence.end() == expected


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"x-api-key": OUR_KEY, "anthropic-version": "2023-06-01"}),
        ({"version": "2026-10-21"}, {"Authorization": f"Bearer {OUR_KEY}", "anthropic-version": "2026-10-21"}),
        ({"auth": "bearer", "betas": ["a", "b"]},
         {"Authorization": f"Bearer {OUR_KEY}", "anthropic-beta": "a,b"}),
        ({"version": "2026-10-21", "auth": "x-api-key"}, {"x-api-key": OUR_KEY}),
    ],
)  # fmt: skip
async def test_both_forms_of_login(options: dict[str, Any], expected: dict[str, str]) -> None:
    reply = Reply(chunks=[b'{"type":"message","content":[],"stop_reason":"end_turn"}'])
    provider, transport = connect("anthropic", reply, options=options, base_url="https://upstream.test")
    await collect(provider, chat_request(stream=False))
    sent = transport.sent[0]
    assert expected.items() <= sent.headers.items()
    assert ("x-api-key" in sent.headers) != ("Authorization" in sent.headers)
    assert sent.url == "https://upstream.test/v1/messages"


@pytest.mark.parametrize(
    ("status", "kind", "message", "expected", "code"),
    [
        (400, "invalid_request_error", "prompt is too long: 9 tokens > 8 maximum", ProviderRefused,
         "context_length_exceeded"),
        (400, "invalid_request_error", "Your credit balance is too low", ProviderQuotaExhausted,
         "provider_quota_exhausted"),
        (404, "not_found_error", "model: claude-0", ProviderRefused, "model_not_found"),
        (413, "request_too_large", "too large", ProviderRefused, "context_length_exceeded"),
        (401, "authentication_error", "invalid x-api-key", ProviderAuthFailed, "provider_auth_error"),
        (402, "billing_error", "pay", ProviderQuotaExhausted, "provider_quota_exhausted"),
        (529, "overloaded_error", "Overloaded", UpstreamError, "provider_unavailable"),
    ],
)  # fmt: skip
async def test_the_errors(status: int, kind: str, message: str, expected: type, code: str) -> None:
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
    headers = {"content-type": "application/json", "request-id": "req_1"}
    provider, _ = connect("anthropic", Reply(status, headers, [msgspec.json.encode(body)]))
    request = chat_request(stream=False)
    attempt = attempt_for(request)
    with pytest.raises(expected) as caught:
        await collect(provider, request, attempt)
    assert isinstance(caught.value, UpstreamError)
    assert caught.value.code == code
    assert attempt.upstream_request_id == "req_1"


async def test_tokens_are_counted_and_models_listed() -> None:
    pages = iter(
        [
            b'{"data":[{"type":"model","id":"a"}],"has_more":true,"last_id":"a"}',
            b'{"data":[{"id":"b"}],"has_more":false}',
        ]
    )
    provider, transport = connect(
        "anthropic", lambda sent: Reply(chunks=[b'{"input_tokens":7}' if sent.method == "POST" else next(pages)])
    )
    assert isinstance(provider, TokenCounter)
    assert isinstance(provider, ModelLister)
    assert await provider.count_tokens("claude", ["one", "two"]) == [7, 7]
    assert transport.sent[0].url.endswith("/v1/messages/count_tokens")
    assert await provider.list_models() == ["a", "b"]
    assert transport.sent[3].url.endswith("/v1/models?limit=1000&after_id=a")


def test_a_wrong_cap_is_told_at_start() -> None:
    with pytest.raises(ConfigError, match=r"providers.acme.options.max_tokens: must be 1 or more"):
        connect("anthropic", Reply(), options={"max_tokens": 0})


def test_models_that_make_vectors_are_refused_at_start() -> None:
    models = [{"name": "m", "serves": ["chat", "embeddings"]}]
    settings = ProviderSettings.model_validate({"kind": "anthropic", "api_key": "k", "models": models})
    with pytest.raises(ConfigError, match=r"providers.acme.models.m.serves: anthropic serves chat alone"):
        load("anthropic").deployments("acme", settings)
