"""How each row bends what goes out: the vendors' peculiarities, one by one."""

from typing import Any

import msgspec
import pytest
from tests.providers.scripted import Reply, attempt_for, chat_request, collect, connect

from xrouter.core.chat import Answer, ChatRequest
from xrouter.core.errors import (
    Invalid,
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRefused,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.core.operation import Operation
from xrouter.providers.openai_compatible.request import UpstreamRequest, upstream_request
from xrouter.providers.openai_compatible.rows import Quirks, Row, rows, serves
from xrouter.settings import ConfigError

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "g", "parameters": {"type": "object"}}}
ANSWER = b'{"choices":[{"index":0,"message":{"content":"x"},"finish_reason":"stop"}]}'


def sent(row: str | Row, *, stream: bool = False, model: str = "up", **fields: Any) -> tuple[Any, UpstreamRequest]:
    found = rows()[row] if isinstance(row, str) else row
    upstream = upstream_request(chat_request(stream=stream, **fields), model, found)
    return msgspec.json.decode(upstream.body), upstream


def called(call_id: str, **more: Any) -> list[dict[str, Any]]:
    call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
    return [
        {"role": "user", "content": "go"},
        {"role": "assistant", "content": None, "tool_calls": [call], **more},
        {"role": "tool", "tool_call_id": call_id, "content": "done"},
    ]


def test_mistral_has_words_of_its_own() -> None:
    body, upstream = sent(
        "mistral", stream=True, seed=7, tools=[FUNCTION], tool_choice="required", max_completion_tokens=5, logprobs=True
    )
    assert (body["random_seed"], body["tool_choice"], body["max_tokens"]) == (7, "any", 5)
    assert {"seed", "max_completion_tokens", "stream_options", "logprobs"}.isdisjoint(body)
    assert upstream.dropped == ("logprobs",)
    assert sent("openai", seed=7, tools=[FUNCTION], tool_choice="required")[0]["tool_choice"] == "required"


def test_call_ids_become_nine_letters_in_the_call_and_in_its_result() -> None:
    foreign = sent("mistral", messages=called("chatcmpl-tool-0123"))[0]["messages"]
    short = foreign[1]["tool_calls"][0]["id"]
    assert foreign[2]["tool_call_id"] == short
    assert len(short) == 9
    assert short.isalnum()
    assert short.isascii()
    own = sent("mistral", messages=called("a1B2c3D4e"))[0]["messages"]
    assert own[1]["tool_calls"][0]["id"] == own[2]["tool_call_id"] == "a1B2c3D4e"
    assert sent("mistral", messages=called("another"))[0]["messages"][2]["tool_call_id"] != short
    assert sent("vllm", messages=called("chatcmpl-tool-0123"))[0]["messages"][2]["tool_call_id"] == "chatcmpl-tool-0123"


def test_reasoning_that_comes_back_goes_where_it_may() -> None:
    messages = called("a1B2c3D4e", reasoning_content="hm", reasoning_details=[{"text": "hm"}])
    for kind, kept in (("mistral", None), ("openai", None), ("deepseek", "hm"), ("vllm", "hm")):
        assistant = sent(kind, messages=messages, reasoning_effort="high")[0]["messages"][1]
        assert assistant.get("reasoning_content") == kept, kind
    newer = called("a1B2c3D4e", reasoning="hm")
    assert sent("deepseek", messages=newer)[0]["messages"][1]["reasoning_content"] == "hm"


@pytest.mark.parametrize(
    ("asked", "switch"),
    [
        ({}, {"type": "disabled"}),
        ({"reasoning_effort": "none"}, {"type": "disabled"}),
        ({"reasoning_effort": "high"}, {"type": "enabled"}),
        ({"thinking": {"type": "enabled"}}, {"type": "enabled"}),
        ({"thinking": {"type": "disabled"}, "reasoning_effort": "high"}, {"type": "disabled"}),
    ],
)
def test_deepseek_thinks_only_when_asked(asked: dict[str, Any], switch: dict[str, str]) -> None:
    body, upstream = sent("deepseek", **asked)
    assert body["thinking"] == switch
    assert "reasoning_effort" not in body
    assert upstream.dropped == ()


def test_a_tool_loop_that_lost_its_reasoning_goes_on_without_thinking() -> None:
    body, upstream = sent("deepseek", messages=called("c"), reasoning_effort="high")
    assert body["thinking"] == {"type": "disabled"}
    assert upstream.dropped == ("reasoning_effort",)
    for messages in (called("c", reasoning_content="hm"), [*called("c"), {"role": "user", "content": "and now?"}]):
        assert sent("deepseek", messages=messages, reasoning_effort="high")[0]["thinking"] == {"type": "enabled"}


@pytest.mark.parametrize(
    ("kind", "asked", "expected"),
    [
        ("qwen", {"reasoning_effort": "none"}, {"enable_thinking": False}),
        ("qwen", {"reasoning_effort": "low"}, {"enable_thinking": True}),
        ("qwen", {"enable_thinking": False, "reasoning_effort": "low"}, {"enable_thinking": False}),
        ("qwen", {}, {}),
        ("zai", {"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ("moonshot", {"reasoning_effort": "high"}, {"thinking": {"type": "enabled"}}),
        ("openrouter", {"reasoning_effort": "high"}, {"reasoning": {"effort": "high"}}),
        ("openrouter", {"reasoning": {"max_tokens": 9}, "reasoning_effort": "low"}, {"reasoning": {"max_tokens": 9}}),
        ("openrouter", {"reasoning": {"exclude": True}, "reasoning_effort": "low"},
         {"reasoning": {"exclude": True, "effort": "low"}}),
        ("mts", {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}),
        ("mts", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}),
        ("mts", {"reasoning_effort": "none"}, {"reasoning_effort": "none"}),
        ("openai", {"reasoning_effort": "xhigh"}, {"reasoning_effort": "xhigh"}),
        (Row(efforts=frozenset({"low", "high"})), {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
        (Row(efforts=frozenset({"none", "high"})), {"reasoning_effort": "minimal"}, {"reasoning_effort": "high"}),
        (Row(efforts=frozenset({"none"})), {"reasoning_effort": "high"}, {}),
    ],
)  # fmt: skip
def test_the_effort_in_the_words_of_each(kind: str | Row, asked: dict[str, Any], expected: dict[str, Any]) -> None:
    body, _ = sent(kind, **asked)
    for name in ("enable_thinking", "thinking", "reasoning", "reasoning_effort", "chat_template_kwargs"):
        assert body.get(name) == expected.get(name), name


@pytest.mark.parametrize("kind", ["vllm", "tbank", "mts"])
def test_what_a_server_of_open_models_cannot_do_is_the_clients_error(kind: str) -> None:
    web, custom = {"type": "web_search"}, {"type": "custom", "custom": {"name": "c"}}
    file = [{"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "file", "file": {}}]}]
    for param, fields in (
        ("tools[1].type", {"tools": [FUNCTION, web]}),
        ("tools[0].type", {"tools": [custom]}),
        ("messages[0].content[1].type", {"messages": file}),
        ("modalities", {"modalities": ["text", "audio"]}),
    ):
        with pytest.raises(Invalid) as caught:
            sent(kind, **fields)
        assert caught.value.param == param
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}]}]
    assert sent(kind, messages=image)[0]["messages"] == image
    assert sent(kind, modalities=["text"])[1].dropped == ()
    assert sent("openai", tools=[custom], messages=file)[0]["tools"] == [custom]


@pytest.mark.parametrize("kind", ["vllm", "vllm_think_prefilled", "tbank"])
def test_a_recording_is_refused_until_the_operator_says_that_the_model_hears(kind: str) -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    messages = [{"role": "user", "content": [part]}]
    with pytest.raises(Invalid) as caught:
        sent(kind, messages=messages)
    assert caught.value.param == "messages[0].content[0].type"
    hears = msgspec.structs.replace(rows()[kind], parts=frozenset({"text", "input_audio"}))
    assert sent(hears, messages=messages)[0]["messages"] == messages


def test_allowed_tools_are_filtered_where_the_server_does_not_know_them() -> None:
    tool = {"type": "function", "function": {"name": "g"}}
    choice = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [tool]}}
    body, upstream = sent("tbank", tools=[FUNCTION, OTHER], tool_choice=choice)
    assert (body["tools"], body["tool_choice"], upstream.offers_tools) == ([OTHER], "required", True)
    assert sent("mistral", tools=[FUNCTION, OTHER], tool_choice=choice)[0]["tool_choice"] == "any"
    assert sent("openai", tools=[FUNCTION, OTHER], tool_choice=choice)[0]["tool_choice"] == choice
    choice["allowed_tools"]["tools"] = [{"type": "function", "function": {"name": "h"}}]  # type: ignore[index]  # a dict
    with pytest.raises(Invalid) as caught:
        sent("tbank", tools=[FUNCTION], tool_choice=choice)
    assert caught.value.param == "tool_choice"


DROPPED = {
    "audio": {"voice": "x"}, "metadata": {"a": "b"}, "moderation": {}, "prediction": {},
    "prompt_cache_key": "k", "prompt_cache_options": {}, "prompt_cache_retention": "24h", "safety_identifier": "s",
    "service_tier": "auto", "store": True, "user": "u", "verbosity": "low", "web_search_options": {}, "unknown": 1,
}  # fmt: skip
PASSED = {
    "frequency_penalty": 1, "logit_bias": {"5": 1}, "logprobs": True, "n": 2, "parallel_tool_calls": False,
    "presence_penalty": 1, "response_format": {"type": "json_object"}, "seed": 1, "stop": ["x"], "temperature": 0,
    "top_logprobs": 3, "top_p": 1, "top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1,
    "chat_template_kwargs": {"x": 1}, "tools": [FUNCTION], "tool_choice": "auto",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["vllm", "tbank", "mts", "mws_old", "cloudru"])
def test_each_parameter_passes_or_is_dropped_and_told(kind: str) -> None:
    body, upstream = sent(kind, **DROPPED, **PASSED)
    assert set(upstream.dropped) == set(DROPPED)
    assert {name: body[name] for name in PASSED} == PASSED
    assert DROPPED.keys().isdisjoint(body)


def test_combinations_that_are_refused_are_not_sent() -> None:
    for fields in ({"top_logprobs": 3}, {"top_logprobs": 3, "logprobs": False}):
        body, upstream = sent("mts", stream_options={"include_usage": True}, **fields)
        assert {"top_logprobs", "stream_options"}.isdisjoint(body)
        assert upstream.dropped == ("top_logprobs",)


def test_text_to_be_continued_goes_to_completions_where_there_is_one() -> None:
    request = msgspec.structs.replace(
        chat_request(stream=True, max_completion_tokens=9, temperature=0, tools=[FUNCTION]), prompt="Once"
    )
    upstream = upstream_request(request, "up", rows()["tbank"])
    assert upstream.path == "completions"
    assert upstream.dropped == ("tools",)
    assert msgspec.json.decode(upstream.body) == {
        "model": "up", "stream": True, "stream_options": {"include_usage": True}, "temperature": 0, "max_tokens": 9,
        "prompt": "Once",
    }  # fmt: skip
    chat = upstream_request(request, "up", rows()["openai"])
    assert chat.path == "chat/completions"
    assert msgspec.json.decode(chat.body)["messages"] == [{"role": "user", "content": "Привет"}]


@pytest.mark.parametrize("stream", [False, True])
async def test_continued_text_is_read(stream: bool) -> None:
    usage = b'"usage":{"prompt_tokens":1,"completion_tokens":2,"total_tokens":3}'
    whole = b'{"choices":[{"index":0,"text":" upon <think>","logprobs":null,"finish_reason":"length"}],%b}' % usage
    chunks = [
        b'data: {"choices":[{"index":0,"text":" upon","finish_reason":null}]}\n\n',
        b'data: {"choices":[{"index":0,"text":" <think>","logprobs":null,"finish_reason":"length"}],%b}\n\n' % usage,
        b"data: [DONE]\n\n",
    ]
    kind = "text/event-stream" if stream else "application/json"
    provider, transport = connect("tbank", Reply(headers={"content-type": kind}, chunks=chunks if stream else [whole]))
    request = msgspec.structs.replace(chat_request(stream=stream), prompt="Once")
    events = await collect(provider, request)
    if stream:
        assert "".join(getattr(event, "text", "") for event in events) == " upon <think>"
        assert [type(event).__name__ for event in events] == ["Start", "Delta", "Delta", "Finish", "Usage"]
    else:
        assert isinstance(events[0], Answer)
        assert events[0].choices[0].message.content == " upon <think>"
        assert events[0].choices[0].finish_reason == "length"
    assert transport.sent[0].url.endswith("/v1/completions")


async def test_a_model_that_only_streams_is_gathered_into_a_whole_answer() -> None:
    chunks = [
        b'data: {"model":"m","choices":[{"index":0,"delta":{"reasoning_content":"hm"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"4"}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"content":"2","tool_calls":[{"index":0,"id":"c","function":'
        b'{"name":"f","arguments":"{\\"a\\":"}}]}}]}\n\n',
        b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,"function":{"arguments":"1}"}}]},'
        b'"finish_reason":"tool_calls"}]}\n\n',
        b'data: {"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":2}}\n\ndata: [DONE]\n\n',
    ]
    reply = Reply(headers={"content-type": "text/event-stream"}, chunks=chunks)
    provider, transport = connect("qwen", reply, options={"stream_only": ["*"]})
    (answer,) = await collect(provider, chat_request(stream=False, tools=[FUNCTION]))
    assert isinstance(answer, Answer)
    (choice,) = answer.choices
    assert (choice.message.content, choice.message.reasoning, choice.finish_reason) == ("42", "hm", "tool_calls")
    assert [(call.id, call.name, call.arguments) for call in choice.message.tool_calls] == [("c", "f", '{"a":1}')]
    assert answer.usage is not None
    assert (answer.model, answer.usage.total_tokens) == ("m", 3)
    assert transport.sent[0].json()["stream"] is True
    assert sent("qwen", model="qwq-32b")[0]["stream"] is True
    assert sent("qwen", model="qwen-max")[0]["stream"] is False


def test_geminis_models_are_asked_for_without_their_prefix() -> None:
    assert sent("gemini", model="models/gemini-3-flash")[0]["model"] == "gemini-3-flash"
    assert sent("openai", model="models/x")[0]["model"] == "models/x"


@pytest.mark.parametrize(
    ("kind", "status", "body", "expected", "code"),
    [
        ("mts", 400, {"code": "VALIDATION_FAILED", "message": "Deployment x is deactivated"},
         ProviderUnavailable, "provider_unavailable"),
        ("mts", 422, {"error": {"code": "VALIDATION_FAILED", "message": "Развёртывание x неактивно"}},
         ProviderUnavailable, "provider_unavailable"),
        ("mts", 400, {"error": {"code": "VALIDATION_FAILED", "message": "temperature must be at most 2"}},
         ProviderRefused, "provider_refused"),
        ("mts", 503, {"error": {"code": "VALIDATION_FAILED", "message": "x"}},
         ProviderUnavailable, "provider_unavailable"),
        ("mts", 400, {"error": {"code": "UNAUTHORIZED", "message": "x"}}, ProviderAuthFailed, "provider_auth_error"),
        ("mts", 400, {"error": {"code": "ACCESS_DENIED", "message": "x"}}, ProviderAuthFailed, "provider_auth_error"),
        ("mts", 404, {"code": "BASEPATH_NOT_FOUND"}, ProviderUnavailable, "provider_unavailable"),
        ("mts", 404, {"code": "PROJECT_NOT_FOUND"}, ProviderUnavailable, "provider_unavailable"),
        ("mts", 403, {"code": "PROJECT_BLOCKED"}, ProviderQuotaExhausted, "provider_quota_exhausted"),
        ("mts", 400, {"error": {"code": "DEPLOYMENT_NOT_FOUND"}}, ProviderRefused, "model_not_found"),
        ("mts", 404, {"error": {"code": "UNSUPPORTED_ACTION"}}, ProviderRefused, "unsupported_action"),
        ("mts", 422, {"error": {"code": "TOOL_CALLING_UNSUPPORTED"}}, ProviderRefused, "tool_calling_unsupported"),
        ("mts", 422, {"error": {"code": "REASONING_UNSUPPORTED"}}, ProviderRefused, "reasoning_unsupported"),
        ("mts", 400, {"error": {"code": "MODEL_DEPRECATED"}}, ProviderUnavailable, "provider_unavailable"),
        ("mts", 400, {"error": {"code": "MAX_TOKENS_EXCEEDED"}}, ProviderRefused, "context_length_exceeded"),
        ("mts", 429, {"error": {"message": "slow down", "code": 400}}, UpstreamError, "provider_rate_limited"),
        ("mistral", 422, {"object": "error", "message": {"detail": [{"loc": ["body"], "msg": "Extra"}]}},
         ProviderRefused, "provider_refused"),
        ("deepseek", 402, {"error": {"message": "Insufficient Balance", "type": "unknown_error"}},
         ProviderQuotaExhausted, "provider_quota_exhausted"),
        ("gemini", 400, [{"error": {"code": 400, "message": "no such field", "status": "INVALID_ARGUMENT"}}],
         ProviderRefused, "provider_refused"),
        ("ollama", 404, {"error": {"message": 'model "x" not found, try pulling it first', "type": "api_error"}},
         ProviderRefused, "model_not_found"),
        ("openrouter", 402, {"error": {"code": 402, "message": "no credits", "metadata": {}}},
         ProviderQuotaExhausted, "provider_quota_exhausted"),
        ("llama_cpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}},
         ProviderUnavailable, "provider_unavailable"),
    ],
)  # fmt: skip
async def test_the_errors_of_each(kind: str, status: int, body: Any, expected: type, code: str) -> None:
    answer = Reply(status, {"content-type": "application/json"}, [msgspec.json.encode(body)])
    provider, _ = connect(kind, answer)
    request = chat_request(stream=False)
    attempt = attempt_for(request)
    with pytest.raises(expected) as caught:
        await collect(provider, request, attempt)
    assert isinstance(caught.value, UpstreamError)
    assert caught.value.code == code
    assert attempt.upstream_status == status
    assert f"answered {status}" in caught.value.message


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_in_a_list_inside_a_success_is_one(stream: bool) -> None:
    body = b'[{"error":{"code":429,"message":"Quota of the minute"}}]'
    chunks = [b"data: " + body + b"\n\n"] if stream else [body]
    kind = "text/event-stream" if stream else "application/json"
    provider, _ = connect("gemini", Reply(headers={"content-type": kind}, chunks=chunks))
    with pytest.raises(UpstreamError, match="Quota of the minute") as caught:
        await collect(provider, chat_request(stream=stream))
    assert caught.value.code == "provider_rate_limited"


@pytest.mark.parametrize(
    ("url", "good"),
    [
        ("https://gpt.mwsapis.ru/projects/acme/openai/v1", True),
        ("https://gpt.mwsapis.ru/projects/acme/openai/v1/", True),
        ("http://127.0.0.1:9/mts/projects/acme/openai/v1", True),
        ("https://gpt.mwsapis.ru/openai/v1", False),
        ("https://gpt.mwsapis.ru/projects//openai/v1", False),
        ("https://gpt.mwsapis.ru/projects/<project>/openai/v1", False),
        ("https://gpt.mwsapis.ru/projects/acme", False),
    ],
)
def test_the_project_stands_in_the_path(url: str, good: bool) -> None:
    if good:
        connect("mts", Reply(), base_url=url)
    else:
        with pytest.raises(ConfigError, match=r"providers.acme.base_url: must look like .*/projects/<project>/"):
            connect("mts", Reply(), base_url=url)


@pytest.mark.parametrize(
    ("model", "operation"),
    [
        ("bge-m3", Operation.EMBEDDINGS),
        ("BAAI/bge-multilingual-gemma2", Operation.EMBEDDINGS),
        ("text-embedding-3-small", Operation.EMBEDDINGS),
        ("intfloat/multilingual-e5-large", Operation.EMBEDDINGS),
        ("intfloat/e5-mistral-7b", Operation.EMBEDDINGS),
        ("qwen3-embedding-8b", Operation.EMBEDDINGS),
        ("bge-reranker-v2-m3", Operation.RERANK),
        ("jina-reranker-v2", Operation.RERANK),
        ("dall-e-3", Operation.IMAGES),
        ("gpt-image-2", Operation.IMAGES),
        ("gpt-image-1-mini", Operation.IMAGES),
        ("qwen-image", Operation.IMAGES),
        ("qwen-image-lightning", Operation.IMAGES),
        ("gpt-5.4-mini", Operation.CHAT),
        ("t-tech/T-pro-it-2.1", Operation.CHAT),
        ("qwen2.5-vl-72b", Operation.CHAT),
        ("gemma-4-31b-it", Operation.CHAT),
        ("gpt-4o-imagefree-chat", Operation.CHAT),
    ],
)
def test_a_name_says_what_a_model_can_do(model: str, operation: Operation) -> None:
    assert serves(model) == {operation}


def test_a_row_that_nobody_bends_changes_nothing() -> None:
    fields = {**PASSED, "tool_choice": "required", "reasoning_effort": "max", "max_completion_tokens": 5}
    body, upstream = sent(Row(extras=frozenset(PASSED)), messages=called("x-1", reasoning="hm"), **fields)
    assert {name: body[name] for name in fields} == fields
    assert body["messages"] == called("x-1", reasoning="hm")
    assert upstream == UpstreamRequest(upstream.body, (), None, True)
    assert Quirks() == msgspec.convert({}, Quirks)
    assert isinstance(chat_request(), ChatRequest)
