"""The official OpenAI SDK through the gateway to vendors with other wires and addresses: Anthropic and MWS."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from campaigns.stage import Simulators, gateway
from openai import APIStatusError, BadRequestError, OpenAI

MODELS = ("anthropic/claude-sonnet-5-5", "mts/t-pro-it-2.1")
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: Any = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def client(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    providers = {
        "anthropic": {
            "kind": "anthropic",
            "base_url": f"{vendors.url}/anthropic",
            "api_key": "any",
            "models": [
                {"name": "claude-sonnet-5-5", "price": {"input_rub_per_1m": 300, "output_rub_per_1m": 1500}},
                "claude-haiku-5-5",
            ],
        },
        "mts": {
            "kind": "mts",
            "base_url": f"{vendors.url}/mts/projects/demo/openai/v1",
            "api_key": "any",
            "models": ["t-pro-it-2.1", "llama-3.1-8b-instruct"],
        },
    }
    aliases = {"spare": ["mts/llama-3.1-8b-instruct", "anthropic/claude-haiku-5-5"]}
    config = {"providers": providers, "aliases": aliases, "simulated": True}
    with (
        gateway(tmp_path_factory.mktemp("others"), config) as place,
        OpenAI(base_url=f"{place.url}/v1", api_key=place.key, max_retries=0, _strict_response_validation=True) as sdk,
    ):
        yield sdk


@pytest.mark.parametrize("model", MODELS)
def test_a_chat_whole_and_streamed(client: OpenAI, model: str) -> None:
    asked: Any = [{"role": "system", "content": "Be short."}, {"role": "user", "content": "say 40 words"}]
    whole = client.chat.completions.create(model=model, messages=asked, max_completion_tokens=400)
    chunks = list(
        client.chat.completions.create(model=model, messages=asked, stream=True, stream_options={"include_usage": True})
    )
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert said == whole.choices[0].message.content
    assert len(said.split()) == 40
    assert whole.usage is not None
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == (len(said) + 3) // 4


@pytest.mark.parametrize("model", MODELS)
def test_tools_over_several_turns(client: OpenAI, model: str) -> None:
    messages: Any = [{"role": "user", "content": "get_weather and get_time, please"}]
    with client.chat.completions.stream(model=model, messages=messages, tools=[WEATHER, CLOCK]) as stream:
        choice = stream.get_final_completion().choices[0]
    assert choice.finish_reason == "tool_calls"
    calls = choice.message.tool_calls or []
    assert [call.function.name for call in calls] == ["get_weather", "get_time"]
    assert set(json.loads(calls[0].function.arguments)) == {"city"}
    assert len({call.id for call in calls}) == 2
    shown = [call.model_dump(include={"id": True, "type": True, "function": {"name", "arguments"}}) for call in calls]
    messages += [
        {"role": "assistant", "tool_calls": shown},
        *({"role": "tool", "tool_call_id": call.id, "content": f"{call.function.name}: yes"} for call in calls),
    ]
    said = client.chat.completions.create(model=model, messages=messages, tools=[WEATHER, CLOCK])
    assert "get_weather: yes" in (said.choices[0].message.content or "")
    assert "get_time: yes" in (said.choices[0].message.content or "")


@pytest.mark.parametrize("model", MODELS)
def test_structured_answers_and_reasoning(client: OpenAI, model: str) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    wanted: Any = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    asked: Any = [{"role": "user", "content": "n?"}]
    answer = client.chat.completions.create(model=model, messages=asked, response_format=wanted)
    assert isinstance(json.loads(answer.choices[0].message.content or "")["n"], int)
    thoughtful = client.chat.completions.create(model=model, messages=asked, reasoning_effort="high")
    assert (thoughtful.choices[0].message.model_extra or {})["reasoning_content"]


def test_a_deployment_that_was_switched_off_is_replaced(client: OpenAI, vendors: Simulators) -> None:
    asked: Any = [{"role": "user", "content": "echo: spare"}]
    answer = client.chat.completions.create(model="spare", messages=asked)
    assert answer.choices[0].message.content == "spare"
    paths = [row["path"] for row in vendors.requests()]
    assert paths == ["/mts/projects/demo/openai/v1/chat/completions", "/anthropic/v1/messages"]


@pytest.mark.parametrize(("fault", "status"), [("status-529", 502), ("status-401", 502), ("status-429", 503)])
def test_a_vendors_fault_is_not_the_clients(client: OpenAI, fault: str, status: int) -> None:
    asked: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(APIStatusError) as caught:
        client.chat.completions.create(model=f"anthropic/claude-sonnet-5-5+{fault}", messages=asked)
    assert caught.value.status_code == status


SEARCH: Any = {"type": "web_search", "search_context_size": "low"}


def test_a_hosted_search_runs_at_the_vendor(client: OpenAI) -> None:
    asked: Any = {
        "model": "anthropic/claude-sonnet-5-5",
        "messages": [{"role": "user", "content": "search for 20 words"}],
        "tools": [SEARCH, WEATHER],
        "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{"type": "web_search"}]}},
    }
    raw = client.chat.completions.with_raw_response.create(**asked)
    assert raw.headers["x-xrouter-dropped-params"] == "tools[0].search_context_size"
    whole = raw.parse().choices[0]
    assert whole.finish_reason == "stop"
    assert whole.message.content
    shown: Any = whole.message.model_extra
    assert [block["type"] for block in shown["content_blocks"]] == ["server_tool_use", "web_search_tool_result"]
    assert shown["citations"][0]["url"] == "https://example.org/found"

    text, blocks, citations = "", [], []
    for chunk in client.chat.completions.create(stream=True, **asked):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            extra: Any = choice.delta.model_extra
            blocks += extra.get("content_blocks", [])
            citations += extra.get("citations", [])
    assert text == whole.message.content
    assert citations == shown["citations"]
    assert [block["type"] for block in blocks] == ["server_tool_use", "web_search_tool_result"]
    assert blocks[0]["input"] == shown["content_blocks"][0]["input"] == {"query": "search for 20 words"}


def test_another_hosted_tool_is_refused_with_words(client: OpenAI, vendors: Simulators) -> None:
    tools: Any = [{"type": "code_interpreter", "container": {"type": "auto"}}]
    messages: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(BadRequestError, match="no tool of the type 'code_interpreter'"):
        client.chat.completions.create(model="anthropic/claude-sonnet-5-5", messages=messages, tools=tools)
    assert vendors.requests() == []
