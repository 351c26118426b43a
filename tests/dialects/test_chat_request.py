"""The body of a chat request: what is accepted stays as it came, what is wrong is named."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.errors import Invalid
from xrouter.dialects.openai import chat_request

GOOD: dict[str, Any] = {"model": "a/b", "messages": [{"role": "user", "content": "hi"}]}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


def parse(**fields: Any) -> Any:
    return chat_request.parse(json.dumps(GOOD | fields).encode())


@pytest.mark.parametrize(
    "fields",
    [
        {"temperature": 0, "top_p": 1, "max_tokens": 5, "n": 2, "stop": "x", "seed": 1, "user": "u"},
        {"temperature": 0.5, "stop": ["a", "b"], "logit_bias": {"5": -100}, "logprobs": True, "top_logprobs": 20},
        {"stream": True, "stream_options": {"include_usage": True}},
        {"tools": [TOOL], "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]},
        {
            "messages": [
                {"role": "developer", "content": "be brief"},
                {"role": "assistant", "content": None, "tool_calls": [CALL]},
                {"role": "tool", "tool_call_id": "c1", "content": "42"},
            ]
        },
        {"temperature": None, "tools": None, "stream": None},
        {"top_k": 5, "my_own_field": {"deep": [1, 2]}},
    ],
)
def test_what_clients_send_is_accepted(fields: dict[str, Any]) -> None:
    request = parse(**fields)
    sent = {name: value for name, value in (GOOD | fields).items() if value is not None}
    kept = {name: msgspec.json.decode(raw) for name, raw in request.fields.items()}
    assert kept == {name: value for name, value in sent.items() if name not in ("model", "stream", "stream_options")}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": 5}, "model"),
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"messages": None}, "messages"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"type": "text"}}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "zip"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "tool", "content": "x", "tool_call_id": "?"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]}, "messages[0].tool_calls"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": -1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**20}, "max_tokens"),
        ({"max_completion_tokens": 1.5}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"stream": "yes"}, "stream"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": 1}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"models": ["a"] * 17}, "models"),
        ({"models": [5]}, "models[0]"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"frequency_penalty": 3}, "frequency_penalty"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(**fields)
    assert caught.value.param == param
    assert param.split("[")[0].split(".")[0] in caught.value.message


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"model": ""}, "model: must not be empty."),
        ({"messages": []}, "messages: must not be empty."),
        ({"stop": ["a"] * 5}, "stop: must have at most 4 entries."),
        ({"user": "x" * 513}, "user: must have at most 512 characters."),
        ({"temperature": 3}, "temperature: must be at most 2.0."),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]},
         "tools[0].function.name: must be 1 to 64 letters, digits, _ and -."),
    ],
)  # fmt: skip
def test_a_mistake_is_told_in_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(**fields)
    assert caught.value.message == words


def test_a_wrong_word_lists_the_right_ones() -> None:
    with pytest.raises(Invalid, match="allowed: system, developer, user, assistant, tool, function"):
        parse(messages=[{"role": "robot", "content": "x"}])


@pytest.mark.parametrize("body", [b"", b"[]", b"5", b"{", b'{"model":', b"nul", b"{}x", b'{"a":NaN}', b"[" * 5000])
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        chat_request.parse(body)


def test_of_a_doubled_key_the_last_one_goes_on() -> None:
    body = b'{"model":"evil","messages":[{"role":"user","content":"x"}],"model":"a/b","user":"1","user":"2"}'
    request = chat_request.parse(body)
    assert (request.model, request.field("user")) == ("a/b", "2")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from([*chat_request.TYPES, "unknown"])


@given(st.dictionaries(NAMES, JSON, max_size=6))
def test_whatever_comes_is_parsed_or_refused_with_a_name(fields: dict[str, Any]) -> None:
    refusal = None
    try:
        parse(**fields).messages()
    except Invalid as error:
        refusal = error
    assert refusal is None or (refusal.param and refusal.message)


@given(st.binary(max_size=60))
def test_bytes_never_raise_anything_else(body: bytes) -> None:
    with pytest.raises(Invalid):
        chat_request.parse(body)


@pytest.mark.parametrize(
    ("more", "param", "allowed"),
    [
        ({"verbosity": "loud"}, "verbosity", "low, medium, high"),
        ({"tool_choice": "maybe"}, "tool_choice", "none, auto, required, an object"),
        ({"function_call": "maybe"}, "function_call", "none, auto, an object"),
        ({"response_format": {"type": "xml"}}, "response_format.type", "text, json_object, json_schema"),
        (
            {"messages": [{"role": "boss", "content": ""}]},
            "messages[0].role",
            "system, developer, user, assistant, tool, function",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "messages[0].content[0].type",
            "text, image_url, input_audio, file, refusal",
        ),
    ],
)
def test_a_wrong_word_is_told_the_right_ones(more: dict[str, object], param: str, allowed: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse(**more)
    assert caught.value.param == param
    assert caught.value.message.endswith(f"allowed: {allowed}.")
