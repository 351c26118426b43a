"""What goes upstream to servers that speak OpenAI: untouched bytes, and each quirk of a row."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.providers.scripted import OUR_KEY, Reply, attempt_for, chat_request, collect, connect

from xrouter.core.chat import Answer, ChatRequest, Delta, Reasoning
from xrouter.providers.openai_compatible.request import UpstreamRequest, upstream_request
from xrouter.providers.openai_compatible.rows import Quirks, Row, rows

ANSWER = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'


def sent(row: str | Row, *, stream: bool = False, **fields: Any) -> tuple[dict[str, Any], UpstreamRequest]:
    upstream = upstream_request(
        chat_request(stream=stream, **fields), "up", rows()[row] if isinstance(row, str) else row
    )
    return msgspec.json.decode(upstream.body), upstream


SPACED = b'[ {"content" : "\\u041f 1.0e5", "role":"user", "odd":1.00000000000000000001} ]'


@pytest.mark.parametrize("kind", sorted(rows()))
def test_untouched_fields_go_as_the_bytes_that_came(kind: str) -> None:
    schema = b'{"type": "json_schema", "json_schema": {"name":"x" ,"schema":{"maximum": 1.50}}}'
    fields = {"messages": Raw(SPACED), "temperature": Raw(b"1.0e-1"), "response_format": Raw(schema)}
    body = upstream_request(ChatRequest("a/b", True, fields), "up", rows()[kind]).body
    for raw in (SPACED, b"1.0e-1", schema):
        assert raw in body


def test_ours_are_set_and_usage_is_always_asked_for() -> None:
    body, upstream = sent("openai_compatible", stream=True, stream_options={"include_usage": False}, models=["x"])
    assert (body["model"], body["stream"], body["stream_options"]) == ("up", True, {"include_usage": True})
    assert "models" not in body
    assert upstream.dropped == ()
    assert "stream_options" not in sent("openai_compatible")[0]


def test_what_may_not_pass_is_dropped_and_told() -> None:
    body, upstream = sent("tbank", user="u", store=True, top_k=5, api_base="http://evil", seed=1, metadata=None)
    assert {"user", "store", "api_base", "metadata"}.isdisjoint(body)
    assert (body["top_k"], body["seed"]) == (5, 1)
    assert set(upstream.dropped) == {"user", "store", "api_base"}
    assert "user" in sent("openai", user="u")[0]
    assert sent("openai", top_k=5)[1].dropped == ("top_k",)


@pytest.mark.parametrize(
    ("fields", "kwargs", "thinking"),
    [
        ({}, None, None),
        ({"reasoning_effort": "none"}, {"enable_thinking": False}, False),
        ({"reasoning_effort": "high"}, {"enable_thinking": True}, True),
        ({"reasoning_effort": "low", "chat_template_kwargs": {"x": 1}}, {"x": 1, "enable_thinking": True}, True),
        (
            {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}},
            {"enable_thinking": False},
            False,
        ),
    ],
)
def test_the_switch_for_thinking(fields: dict[str, Any], kwargs: Any, thinking: bool | None) -> None:
    body, upstream = sent("tbank", **fields)
    assert body.get("chat_template_kwargs") == kwargs
    assert "reasoning_effort" not in body
    assert upstream.thinking is thinking
    assert upstream.dropped == ()
    assert sent("openai", reasoning_effort="none")[0]["reasoning_effort"] == "none"


def test_the_cap_has_one_name() -> None:
    assert sent("tbank", max_completion_tokens=5, max_tokens=9)[0]["max_tokens"] == 5
    assert "max_completion_tokens" not in sent("tbank", max_completion_tokens=5)[0]
    assert sent("tbank", max_completion_tokens=None, max_tokens=9)[0]["max_tokens"] == 9
    assert sent("openai", max_completion_tokens=5)[0]["max_completion_tokens"] == 5


def message(role: str, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([message("user", "a"), message("system", "b"), message("developer", "c")],
         [message("system", "b\n\nc"), message("user", "a")]),
        ([message("developer", "a"), message("user", "b")], [message("system", "a"), message("user", "b")]),
        ([message("system", "a"), message("user", "b"), message("system", [{"type": "text", "text": "c"}])],
         [message("system", [{"type": "text", "text": "a"}, {"type": "text", "text": "c"}]), message("user", "b")]),
    ],
)  # fmt: skip
def test_system_messages_come_first(messages: list[Any], expected: list[Any]) -> None:
    assert sent("tbank", messages=messages)[0]["messages"] == expected


def test_ollama_keeps_the_places_but_not_the_role_developer() -> None:
    given_ = [message("user", "a"), message("developer", "b")]
    assert sent("ollama", messages=given_)[0]["messages"] == [message("user", "a"), message("system", "b")]
    assert sent("openai", messages=given_)[0]["messages"] == given_


@given(st.lists(st.sampled_from(["user", "assistant", "system", "developer"]), min_size=1, max_size=8))
def test_nothing_said_is_lost(roles: list[str]) -> None:
    messages = [message(role, f"<{place}>") for place, role in enumerate(roles)]
    out = sent("tbank", messages=messages)[0]["messages"]
    assert all(item["role"] != "system" for item in out[1:])
    assert sorted("".join(item["content"].replace("\n\n", "") for item in out)) == sorted(
        "".join(item["content"] for item in messages)
    )


async def test_the_provider_tells_what_was_dropped_and_sends_the_key() -> None:
    provider, transport = connect("tbank", Reply(chunks=[ANSWER]))
    request = chat_request(stream=False, user="u")
    attempt = attempt_for(request)
    await collect(provider, request, attempt)
    assert attempt.dropped == ("user",)
    assert transport.sent[0].headers["Authorization"] == f"Bearer {OUR_KEY}"
    assert transport.sent[0].url == "https://upstream.test/v1/chat/completions"


async def test_no_key_no_header() -> None:
    provider, transport = connect("vllm", Reply(chunks=[ANSWER]), api_key=None, base_url="http://127.0.0.1:8000/v1/")
    await collect(provider, chat_request(stream=False))
    assert "Authorization" not in transport.sent[0].headers
    assert transport.sent[0].url == "http://127.0.0.1:8000/v1/chat/completions"


THOUGHT = b'{"choices":[{"index":0,"%s":{"content":"4","thinking":"2+2","reasoning":null},"finish_reason":"stop"}]}'


async def test_reasoning_under_a_name_of_its_own_is_read() -> None:
    stream = Reply(headers={"content-type": "text/event-stream"}, chunks=[b"data: " + THOUGHT % b"delta" + b"\n\n"])
    for reply, expected in ((stream, Reasoning("2+2")), (Reply(chunks=[THOUGHT % b"message"]), None)):
        provider, _ = connect("openai_compatible", reply, options={"reasoning_field": "thinking"})
        events = await collect(provider, chat_request(stream=expected is not None))
        if expected is not None:
            assert events[1:3] == [expected, Delta("4")]
        else:
            assert isinstance(events[0], Answer)
            message = events[0].choices[0].message
            assert (message.reasoning, message.content, message.extra) == ("2+2", "4", None)


def test_a_quirk_of_one_account_changes_its_requests() -> None:
    assert sent("openai", messages=[message("developer", "b")])[0]["messages"] == [message("developer", "b")]
    row = rows()["openai"]
    changed = row.with_options({"developer_role": False}, Quirks(developer_role=False))
    assert (changed.developer_role, changed.base_url) == (False, row.base_url)
