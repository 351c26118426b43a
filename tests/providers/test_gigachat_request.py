"""An OpenAI conversation in GigaChat's words."""

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from tests.journey.schemas import schema_of
from tests.providers.scripted import chat_request

from xrouter.core.errors import Invalid
from xrouter.core.stops import StopCutter
from xrouter.providers.gigachat.request import VendorRequest, vendor_request
from xrouter.providers.gigachat.schema import restored, vendor_schema
from xrouter.simulators.schema_example import example


def sent(*, stream: bool = False, **fields: Any) -> tuple[dict[str, Any], VendorRequest]:
    upstream = vendor_request(chat_request(stream=stream, **fields), "GigaChat-2")
    return msgspec.json.decode(upstream.body), upstream


def message(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def call(id_: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def function(name: str, parameters: Any = None) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters or {"type": "object"}}}


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        (
            [message("system", "a"), message("developer", "b"), message("user", "c")],
            [message("system", "a\nb"), message("user", "c")],
        ),
        (
            [message("user", "a"), message("system", "b"), message("user", "c")],
            [message("system", "b"), message("user", "a\nc")],
        ),
        (
            [message("system", "a"), message("user", "b"), message("system", "c")],
            [message("system", "a"), message("user", "b\nc")],
        ),
        ([message("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])], [message("user", "a\nb")]),
        (
            [message("user", "a"), message("assistant", "b"), message("assistant", None), message("user", "c")],
            [message("user", "a"), message("assistant", "b\n"), message("user", "c")],
        ),
    ],
)
def test_roles(messages: list[Any], expected: list[Any]) -> None:
    assert sent(messages=messages)[0]["messages"] == expected


def test_parallel_calls_are_replayed_as_alternating_pairs() -> None:
    messages = [
        message("user", "погода?"),
        message("assistant", "Сейчас", tool_calls=[call("1", "f", '{"a":1}'), call("2", "web_search", "[2]")]),
        message("tool", "plain", tool_call_id="2"),
        message("tool", '{"t": 27}', tool_call_id="1"),
        message("user", "спасибо"),
    ]
    body, _ = sent(messages=messages, tools=[function("f"), function("web_search")])
    assert body["messages"][1:] == [
        message("assistant", "Сейчас", function_call={"name": "f", "arguments": {"a": 1}}),
        message("function", '{"t": 27}', name="f"),
        message("assistant", "", function_call={"name": "client_web_search", "arguments": {"value": [2]}}),
        message("function", '{"result":"plain"}', name="client_web_search"),
        message("user", "спасибо"),
    ]


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([message("tool", "x", tool_call_id="1")], "messages[0]"),
        ([message("assistant", "", tool_calls=[call("1", "f")])], "messages[0].tool_calls"),
        (
            [message("assistant", "", tool_calls=[call("1", "f")]), message("tool", "x", tool_call_id="2")],
            "messages[0].tool_calls",
        ),
        (
            [
                message("assistant", "", tool_calls=[call("1", "f")]),
                message("tool", "x", tool_call_id="1"),
                message("tool", "y", tool_call_id="9"),
            ],
            "messages[2].tool_call_id",
        ),
    ],
)
def test_what_cannot_be_said_names_its_place(messages: list[Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        sent(messages=messages)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "tools[0].type"),
        ({"tools": [function("f")], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "tool_choice"),
    ],
)
def test_parameters_that_are_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        sent(**fields)
    assert caught.value.param == param


TWO = [function("f"), function("g")]


@pytest.mark.parametrize(
    ("fields", "names", "choice"),
    [
        ({"tools": TWO}, ["f", "g"], "auto"),
        ({"tools": TWO, "tool_choice": "auto"}, ["f", "g"], "auto"),
        ({"tools": TWO, "tool_choice": "required"}, ["f", "g"], "auto"),
        ({"tools": TWO[:1], "tool_choice": "required"}, ["f"], {"name": "f"}),
        ({"tools": TWO, "tool_choice": {"type": "function", "function": {"name": "g"}}}, ["f", "g"], {"name": "g"}),
        (
            {
                "tools": TWO,
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]},
                },
            },
            ["g"],
            {"name": "g"},
        ),
    ],
)
def test_tool_choice(fields: dict[str, Any], names: list[str], choice: Any) -> None:
    body, _ = sent(**fields)
    assert [item["name"] for item in body["functions"]] == names
    assert body["function_call"] == choice


def test_no_tools_no_words_about_them() -> None:
    for fields in ({}, {"tools": TWO, "tool_choice": "none"}, {"tools": []}):
        assert {"functions", "function_call"}.isdisjoint(sent(**fields)[0])


def test_a_name_that_collides_is_renamed_and_led_back() -> None:
    body, upstream = sent(tools=[function("web_search"), function("client_web_search")])
    assert [item["name"] for item in body["functions"]] == ["client_web_search_", "client_web_search"]
    assert upstream.names == {"client_web_search_": "web_search"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"temperature": 0}, {"top_p": 0}),
        ({"temperature": 0.0, "top_p": 0.9}, {"top_p": 0}),
        ({"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5, "top_p": 0.9}),
        ({"max_completion_tokens": 7, "max_tokens": 9}, {"max_tokens": 7}),
        ({"reasoning_effort": "none"}, {}),
        ({"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}),
        ({"reasoning_effort": "medium"}, {"reasoning_effort": "medium"}),
        ({"reasoning_effort": "max"}, {"reasoning_effort": "high"}),
        ({"repetition_penalty": 1.1}, {"repetition_penalty": 1.1}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"type": "object"}, "strict": True},
                }
            },
            {"response_format": {"type": "json_schema", "schema": {"type": "object"}, "strict": True}},
        ),
        ({"n": 1, "stream_options": {"include_usage": True}, "stop": "x", "seed": None, "modalities": ["text"]}, {}),
    ],
)
def test_parameters(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    body, upstream = sent(**fields)
    assert {name: value for name, value in body.items() if name not in ("model", "messages")} == expected
    assert body["model"] == "GigaChat-2"
    assert upstream.dropped == ()


def test_json_object_is_asked_for_in_words() -> None:
    body, _ = sent(messages=[message("system", "a"), message("user", "b")], response_format={"type": "json_object"})
    assert body["messages"][0]["content"].startswith("a\n")
    assert "JSON" in body["messages"][0]["content"]
    assert "response_format" not in body
    assert sent(response_format={"type": "json_object"})[0]["messages"][0]["role"] == "system"


def test_unsupported_parameters_are_told_unless_they_ask_for_nothing() -> None:
    _, upstream = sent(
        seed=1, presence_penalty=0, frequency_penalty=0.5, user="u", logprobs=False, metadata={"a": "b"}, odd=1
    )
    assert set(upstream.dropped) == {"seed", "frequency_penalty", "user", "metadata", "odd"}


def test_the_cache_key_becomes_a_session_fit_for_a_header() -> None:
    assert sent(prompt_cache_key="chat-7")[1].headers == {"X-Session-ID": "chat-7"}
    for hostile in ("a\r\nX-Evil: 1", "ключ", "x" * 500):
        (value,) = sent(prompt_cache_key=hostile)[1].headers.values()
        assert value.isalnum()
        assert len(value) == 64
    assert sent()[1].headers == {}


# ── schemas ──────────────────────────────────────────────────────────────────────────────────────────────

leaves = st.sampled_from(
    [
        {"type": "string"},
        {"type": ["integer", "null"]},
        {"type": "null"},
        {"enum": [1, None, True, "a"]},
        {"const": 5},
        {"type": "string", "format": "uuid"},
        {"type": "string", "format": "date"},
        {"$ref": "#/$defs/A"},
        {"$ref": "#/$defs/B"},
        {"$ref": "#/nowhere"},
        {"$ref": "https://x/y"},
        {"$ref": "#"},
        True,
        {},
        {"type": "object"},
        {"nullable": True, "type": "number"},
    ]
)
schemas = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda items: {"type": "array", "items": items}, inner),
        st.builds(lambda items: {"type": "array", "items": items}, st.lists(inner, max_size=2)),
        st.builds(
            lambda key, options: {key: options},
            st.sampled_from(["anyOf", "oneOf", "allOf"]),
            st.lists(inner, max_size=3),
        ),
        st.builds(
            lambda properties, required: {"properties": properties, "required": required},
            st.dictionaries(st.sampled_from(["a", "b", "enum", "$ref"]), inner, max_size=3),
            st.lists(st.sampled_from(["a", "b", "gone"]), max_size=3),
        ),
    ),
    max_leaves=8,
)


def check(schema: Any, *, root: bool = False) -> None:
    """The vendor's limits, each looked for at every level."""
    assert isinstance(schema, dict)
    assert {"$ref", "allOf", "$defs", "nullable", "const"}.isdisjoint(schema)
    assert isinstance(schema.get("type", ""), str)
    assert schema.get("type") != "null"
    assert schema.get("format", "date") in ("date", "date-time", "time")
    if root:
        assert schema["type"] == "object"
    if schema.get("type") == "object":
        assert set(schema.get("required", ())) <= set(schema["properties"])
        for child in schema["properties"].values():
            check(child)
    if "enum" in schema:
        assert schema["type"] == "string"
        assert schema["enum"]
        assert all(isinstance(value, str) for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            assert len(schema[key]) > 1
            for option in schema[key]:
                check(option)
    if "items" in schema:
        check(schema["items"])


@given(schemas, schemas, schemas)
def test_every_schema_comes_within_the_limits(root: Any, first: Any, second: Any) -> None:
    whole = {"type": "object", "properties": {"x": root}, "$defs": {"A": first, "B": second}}
    out = vendor_schema(whole)
    check(out, root=True)
    assert vendor_schema(out) == out
    assert set(out["properties"]) <= {"x"}


@settings(deadline=None)
@given(st.integers(1000, 10**9))
def test_what_is_made_for_the_vendors_schema_keeps_the_clients(number: int) -> None:
    schema = schema_of(number)
    theirs = vendor_schema(schema)
    check(theirs, root=True)
    made = restored(example(theirs, Random(number)), schema, schema)
    judge = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    assert [error.message for error in judge.iter_errors(made)] == []


UNION = {
    "anyOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}, "n": {"enum": [1]}}, "required": ["kind", "n"]},
        {"type": "object", "properties": {"kind": {"const": "b"}, "n": {"type": "string"}}, "required": ["kind", "n"]},
    ]
}


@pytest.mark.parametrize(
    ("schema", "given", "expected"),
    [
        ({"enum": [1, True, "x"]}, "1", 1),
        ({"enum": [1, True, "x"]}, "true", True),
        ({"enum": ["1", 1]}, "1", "1"),
        ({"type": "array", "items": {"const": 7}}, ["7"], [7]),
        ({"type": "array", "items": {"type": "null"}, "minItems": 2}, [], [None, None]),
        ({"type": "array", "items": {"type": "string"}, "minItems": 2}, [], []),
        ({"$ref": "#/$defs/P"}, {}, {"q": None}),
        ({"allOf": [{"$ref": "#/$defs/P"}, {"properties": {"n": {"enum": [5]}}}]}, {"n": "5"}, {"n": 5, "q": None}),
        (UNION, {"kind": "a", "n": "1"}, {"kind": "a", "n": 1}),
        (UNION, {"kind": "b", "n": "1"}, {"kind": "b", "n": "1"}),
        ({"properties": {"must": {"type": "string"}}, "required": ["must"]}, {}, {}),
    ],
)
def test_values_come_back_as_the_client_wants_them(schema: Any, given: Any, expected: Any) -> None:
    whole = {
        "type": "object",
        "properties": {"x": schema},
        "$defs": {"P": {"type": "object", "properties": {"q": {"type": "null"}}, "required": ["q"]}},
    }
    found = restored({"x": given}, whole, whole)["x"]
    assert found == expected
    assert type(found) is type(expected)


@given(schemas)
def test_a_root_that_is_no_object_becomes_one(root: Any) -> None:
    check(vendor_schema(root if isinstance(root, dict) else None), root=True)


def test_definitions_that_name_each_other_do_not_unfold_for_ever() -> None:
    names = [f"N{number}" for number in range(12)]
    everyone = {"type": "object", "properties": {name: {"$ref": f"#/$defs/{name}"} for name in names}}
    out = vendor_schema({"$ref": "#/$defs/N0", "$defs": dict.fromkeys(names, everyone)})
    assert len(msgspec.json.encode(out)) < 3_000_000


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "description": "d"}, {"type": "string", "description": "d"}),
        ({"type": ["null", "integer"]}, {"type": "integer"}),
        (
            {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {}}, "required": ["b"]}]},
            {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["a", "b"]},
        ),
        ({"enum": [1, 2.5, False, None]}, {"enum": ["1", "2.5", "false"], "type": "string"}),
        (
            {"$ref": "#/$defs/P", "description": "mine"},
            {"type": "object", "properties": {"q": {"type": "string"}}, "description": "mine"},
        ),
        ({"type": "string", "format": "hostname"}, {"type": "string"}),
        ({"allOf": [{"minimum": 1, "maximum": 9}, {"minimum": 3, "maximum": 12}]}, {"minimum": 3, "maximum": 9}),
        ({"type": "array", "items": {"type": "null"}, "minItems": 1}, {"type": "array", "maxItems": 0}),
        ({"anyOf": [{"type": "string"}, {"const": None}]}, {"type": "string"}),
    ],
)
def test_schemas(schema: Any, expected: Any) -> None:
    whole = {
        "type": "object",
        "properties": {"x": schema},
        "$defs": {"P": {"properties": {"q": {"type": "string"}}, "description": "theirs"}},
    }
    assert vendor_schema(whole)["properties"]["x"] == expected


# ── stop sequences ───────────────────────────────────────────────────────────────────────────────────────


@given(
    st.text("abX ", max_size=20),
    st.lists(st.text("abX", min_size=1, max_size=4), min_size=1, max_size=3),
    st.integers(1, 4),
)
def test_no_cut_changes_where_an_answer_stops(text: str, stops: list[str], size: int) -> None:
    def run(pieces: list[str]) -> tuple[str, bool]:
        cutter = StopCutter(stops)
        out = "".join(cutter.feed(piece) for piece in pieces)
        return out + cutter.end(), cutter.hit

    shown, hit = run([text])
    assert run([text[at : at + size] for at in range(0, len(text), size)]) == (shown, hit)
    assert hit == any(stop in text for stop in stops)
    assert text.startswith(shown)
    assert not any(stop in shown for stop in stops)
