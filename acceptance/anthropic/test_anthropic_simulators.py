"""The anthropic SDK against the simulated Messages API. If it reads the simulator, the simulator is right."""

import base64
import os
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest

MODEL = "claude-sonnet-5-5"
WEATHER: Any = {
    "name": "get_weather",
    "description": "Weather",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK: Any = {"name": "get_time", "input_schema": {"type": "object", "properties": {}}}


def say(text: str) -> Any:
    return [{"role": "user", "content": text}]


@pytest.fixture
def client() -> Iterator[anthropic.Anthropic]:
    url = f"{os.environ['XROUTER_ACCEPTANCE_SIMULATORS']}/anthropic"
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0, _strict_response_validation=True) as client:
        yield client


def test_a_message(client: anthropic.Anthropic) -> None:
    message = client.messages.create(model=MODEL, max_tokens=100, messages=say("echo: Привет"), system="Be kind.")
    assert [block.text for block in message.content if block.type == "text"] == ["Привет"]
    assert (message.stop_reason, message.usage.output_tokens) == ("end_turn", 2)
    assert message.usage.input_tokens > 0


def test_a_stream_says_what_the_whole_says(client: anthropic.Anthropic) -> None:
    with client.messages.stream(model=MODEL, max_tokens=1000, messages=say("say 25 words")) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    whole = client.messages.create(model=MODEL, max_tokens=1000, messages=say("say 25 words"))
    assert len(text.split()) == 25
    assert text == final.content[0].text == whole.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens == (len(text) + 3) // 4


@pytest.mark.parametrize("streamed", [False, True])
def test_tools_in_parallel_and_their_results(client: anthropic.Anthropic, streamed: bool) -> None:
    asked = say("Use get_weather and get_time")
    fields: Any = {"model": MODEL, "max_tokens": 1000, "tools": [WEATHER, CLOCK]}
    if streamed:
        with client.messages.stream(messages=asked, **fields) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(messages=asked, **fields)
    assert message.stop_reason == "tool_use"
    weather, clock = (block for block in message.content if block.type == "tool_use")
    assert (weather.name, set(weather.input), clock.name, clock.input) == ("get_weather", {"city"}, "get_time", {})
    results = [
        {"type": "tool_result", "tool_use_id": weather.id, "content": "plus 27"},
        {"type": "tool_result", "tool_use_id": clock.id, "content": [{"type": "text", "text": "noon"}]},
    ]
    turns = [*asked, {"role": "assistant", "content": message.content}, {"role": "user", "content": results}]
    said = client.messages.create(messages=turns, **fields).content[0].text
    assert "plus 27" in said
    assert "noon" in said


def test_forced_and_single_tools(client: anthropic.Anthropic) -> None:
    for choice, expected in (
        ({"type": "tool", "name": "get_time"}, ["get_time"]),
        ({"type": "any", "disable_parallel_tool_use": True}, ["get_weather"]),
        ({"type": "none"}, []),
    ):
        message = client.messages.create(
            model=MODEL,
            max_tokens=1000,
            messages=say("get_weather get_time"),
            tools=[WEATHER, CLOCK],
            tool_choice=choice,
        )
        assert [block.name for block in message.content if block.type == "tool_use"] == expected


@pytest.mark.parametrize("streamed", [False, True])
def test_thinking_must_come_back_with_its_signature(client: anthropic.Anthropic, streamed: bool) -> None:
    asked = say("get_weather please")
    fields: Any = {"model": MODEL, "max_tokens": 3000, "tools": [WEATHER]}
    fields["thinking"] = {"type": "enabled", "budget_tokens": 1024}
    if streamed:
        with client.messages.stream(messages=asked, **fields) as stream:
            message = stream.get_final_message()
    else:
        message = client.messages.create(messages=asked, **fields)
    thought, call = message.content
    assert thought.type == "thinking"
    assert thought.thinking
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "sun"}]}
    good = [*asked, {"role": "assistant", "content": [thought, call]}, result]
    assert "sun" in client.messages.create(messages=good, **fields).content[-1].text
    forged = {"type": "thinking", "thinking": thought.thinking, "signature": "forged"}
    for first in ([], [forged]):
        turns = [*asked, {"role": "assistant", "content": [*first, call]}, result]
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(messages=turns, **fields)


def test_pictures_documents_stops_schemas_and_length(client: anthropic.Anthropic) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": base64.b64encode(b"x").decode()}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": base64.b64encode(b"x").decode()}
    parts: Any = [
        {"type": "image", "source": source},
        {"type": "document", "source": pdf},
        {"type": "text", "text": "echo: one END two"},
    ]
    message = client.messages.create(
        model=MODEL, max_tokens=100, messages=[{"role": "user", "content": parts}], stop_sequences=["END"]
    )
    assert (message.content[0].text, message.stop_reason, message.stop_sequence) == ("one ", "stop_sequence", "END")
    cut = client.messages.create(model=MODEL, max_tokens=2, messages=say("say 50 words"))
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 2)
    schema = {"type": "object", "properties": {"n": {"const": 7}}, "required": ["n"]}
    wanted: Any = {"format": {"type": "json_schema", "schema": schema}}
    structured = client.messages.create(model=MODEL, max_tokens=100, messages=say("n?"), output_config=wanted)
    assert '"n":7' in structured.content[0].text


def test_the_cache_is_written_once_and_read_after_that(client: anthropic.Anthropic) -> None:
    system: Any = [{"type": "text", "text": f"Seed {os.urandom(8).hex()}", "cache_control": {"type": "ephemeral"}}]
    first, second = (
        client.messages.create(model=MODEL, max_tokens=50, system=system, messages=say("hi")).usage for _ in range(2)
    )
    assert (first.cache_read_input_tokens, second.cache_creation_input_tokens) == (0, 0)
    assert first.cache_creation_input_tokens == second.cache_read_input_tokens
    assert (first.cache_creation_input_tokens or 0) > 0


def test_counting_and_listing(client: anthropic.Anthropic) -> None:
    counted = client.messages.count_tokens(model=MODEL, messages=say("Привет, мир"))
    answered = client.messages.create(model=MODEL, max_tokens=10, messages=say("Привет, мир"))
    assert counted.input_tokens == answered.usage.input_tokens
    assert MODEL in [model.id for model in client.models.list(limit=1)]
    assert client.models.retrieve(MODEL).id == MODEL


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status-400", anthropic.BadRequestError),
        ("status-401", anthropic.AuthenticationError),
        ("status-404", anthropic.NotFoundError),
        ("status-429", anthropic.RateLimitError),
        ("status-529", anthropic.InternalServerError),
        ("reset-0", anthropic.APIConnectionError),
    ],
)
def test_errors(client: anthropic.Anthropic, fault: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        client.messages.create(model=f"{MODEL}+{fault}", max_tokens=10, messages=say("hi"))


def test_an_error_inside_a_stream(client: anthropic.Anthropic) -> None:
    with (
        pytest.raises(anthropic.APIStatusError) as caught,
        client.messages.stream(model=f"{MODEL}+error-3", max_tokens=100, messages=say("say 50 words")) as stream,
    ):
        stream.get_final_message()
    assert "Overloaded" in str(caught.value)


def test_the_older_form_of_login() -> None:
    url = f"{os.environ['XROUTER_ACCEPTANCE_SIMULATORS']}/anthropic"
    headers = {"anthropic-version": "2023-06-01", "x-api-key": "any", "Authorization": anthropic.omit}
    with anthropic.Anthropic(base_url=url, api_key="any", max_retries=0) as client:
        message = client.messages.create(
            model=MODEL, max_tokens=10, messages=say("echo: ok"), extra_headers=headers, extra_body={"temperature": 0}
        )
        assert message.content[0].text == "ok"
        with pytest.raises(anthropic.BadRequestError, match="Extra inputs"):
            client.messages.create(model=MODEL, max_tokens=10, messages=say("x"), extra_body={"temperature": 0})
