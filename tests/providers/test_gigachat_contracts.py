"""GigaChat's two contracts: the same request in the words of each, and the same conversation over a socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.gigachat_stand import MODEL, V2, Stand, answer, asked, attempt, stand, until
from tests.providers.scripted import Reply, chat_request, collect, connect

from xrouter.core.call import Phase
from xrouter.core.chat import Delta, Finish, Raw, Reasoning, ToolDelta
from xrouter.core.errors import Invalid, ProviderRateLimited, ProviderRefused, ProviderUnavailable
from xrouter.core.images import ImagesRequest
from xrouter.providers.gigachat.call_ids import call_id, state_in
from xrouter.providers.gigachat.json_object import ObjectCutter
from xrouter.providers.gigachat.request import VendorRequest, Ways, vendor_request
from xrouter.providers.gigachat.sources import SourceMarkers
from xrouter.simulators.gigachat_files import PICTURE
from xrouter.simulators.json_schema import accepts

AS_USUAL = Ways()
STATE = "77d3fb14-457a-46ba-937e-8d856156d003"


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Stand]:
    async with stand() as running:
        yield running


@pytest.fixture(params=["v1", "v2"])
def contract(request: pytest.FixtureRequest) -> Any:
    return {"options": {"contract": request.param}}


def sent(*, stream: bool = False, ways: Ways = AS_USUAL, **fields: Any) -> tuple[dict[str, Any], VendorRequest]:
    """A request of contract v2."""
    upstream = vendor_request(chat_request(stream=stream, **fields), "GigaChat-3-Ultra", "v2", ways)
    return msgspec.json.decode(upstream.body), upstream


def function(name: str, **properties: str) -> Any:
    schema = {
        "type": "object",
        "properties": {field: {"type": kind} for field, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": f"Does {name}", "parameters": schema}}


def call(identifier: str, name: str, arguments: str = "{}") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": arguments}}


def part_of(text: str) -> list[dict[str, str]]:
    return [{"text": text}]


# ── contract v2, what is sent ────────────────────────────────────────────────────────────────────────────


def test_messages_are_made_of_parts() -> None:
    body, _ = sent(
        messages=[
            {"role": "developer", "content": "кратко"},
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": None},
            {"role": "system", "content": "позже"},
        ]
    )
    assert body["messages"] == [
        {"role": "system", "content": part_of("кратко")},
        {"role": "user", "content": [{"text": "a"}, {"text": "b"}]},
        {"role": "assistant", "content": part_of("")},
        {"role": "user", "content": part_of("позже")},
    ]


def test_calls_and_results_alternate_and_carry_their_state() -> None:
    first = call_id("01JTESTATTEMPT000000000000", 0, STATE)
    messages = [
        {"role": "user", "content": "и погода, и курс?"},
        {
            "role": "assistant",
            "content": "Сейчас",
            "tool_calls": [call(first, "weather", '{"city":"Тверь"}'), call("call_2", "rate")],
        },
        {"role": "tool", "tool_call_id": "call_2", "content": "98.7"},
        {"role": "tool", "tool_call_id": first, "content": '{"t": 27}'},
    ]
    body, upstream = sent(messages=messages, tools=[function("weather"), function("rate")])
    called = {"function_call": {"name": "weather", "arguments": {"city": "Тверь"}}}
    assert body["messages"][1:] == [
        {"role": "assistant", "content": [{"text": "Сейчас"}, called], "tools_state_id": STATE},
        {
            "role": "tool",
            "content": [{"function_result": {"name": "weather", "result": {"t": 27}}}],
            "tools_state_id": STATE,
        },
        {"role": "assistant", "content": [{"function_call": {"name": "rate", "arguments": {}}}]},
        {"role": "tool", "content": [{"function_result": {"name": "rate", "result": 98.7}}]},
    ]
    assert upstream.has_states
    without, again = sent(messages=messages, ways=Ways(states=False), tools=[function("weather"), function("rate")])
    assert "tools_state_id" not in json.dumps(without)
    assert not again.has_states


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, {}),
        ({"temperature": 0}, {"model_options": {"top_p": 0}}),
        ({"temperature": 0.5, "top_p": 0.9}, {"model_options": {"temperature": 0.5, "top_p": 0.9}}),
        ({"max_completion_tokens": 7, "max_tokens": 9}, {"model_options": {"max_tokens": 7}}),
        ({"reasoning_effort": "none"}, {"model_options": {"reasoning": {"effort": "off"}}}),
        ({"reasoning_effort": "minimal"}, {"model_options": {"reasoning": {"effort": "low"}}}),
        ({"reasoning_effort": "max"}, {"model_options": {"reasoning": {"effort": "high"}}}),
        (
            {"repetition_penalty": 1.1, "update_interval": 2},
            {"model_options": {"repetition_penalty": 1.1, "update_interval": 2}},
        ),
        ({"profanity_check": False}, {"disable_filter": True}),
        ({"profanity_check": True, "flags": ["x"]}, {"disable_filter": False, "flags": ["x"]}),
        ({"logprobs": True}, {"model_options": {"top_logprobs": 1}}),
        ({"logprobs": True, "top_logprobs": 20}, {"model_options": {"top_logprobs": 5}}),
        ({"logprobs": False, "top_logprobs": 0}, {}),
        ({"stop": "x", "n": 1, "stream_options": {"include_usage": True}, "session_id": "s"}, {}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "schema": {"a": 1}, "strict": True},
                }
            },
            {"model_options": {"response_format": {"type": "json_schema", "schema": {"a": 1}, "strict": True}}},
        ),
        ({"tools": [{"type": "web_search"}]}, {"tools": [{"web_search": {}}], "tool_config": {"mode": "auto"}}),
        (
            {"tools": [{"type": "web_search"}], "tool_choice": "none"},
            {"tools": [{"web_search": {}}], "tool_config": {"mode": "none"}},
        ),
        (
            {"tools": [{"type": "web_search_preview"}, {"type": "code_interpreter"}]},
            {"tools": [{"web_search": {}}, {"code_interpreter": {}}], "tool_config": {"mode": "auto"}},
        ),
    ],
)
def test_parameters(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    body, upstream = sent(**fields)
    assert {name: value for name, value in body.items() if name not in ("model", "messages")} == expected
    assert upstream.dropped == ()


@pytest.mark.parametrize(
    ("choice", "names", "config"),
    [
        (None, ["f", "g"], {"mode": "auto"}),
        ("none", ["f", "g"], {"mode": "none"}),
        ("required", ["f", "g"], {"mode": "auto"}),
        ({"type": "function", "function": {"name": "g"}}, ["f", "g"], {"mode": "forced", "function_name": "g"}),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [function("g")]}},
            ["g"],
            {"mode": "forced", "function_name": "g"},
        ),
    ],
)
def test_tools(choice: Any, names: list[str], config: Any) -> None:
    more = {} if choice is None else {"tool_choice": choice}
    body, upstream = sent(tools=[function("f"), function("g")], **more)
    (tools,) = body["tools"]
    assert [item["name"] for item in tools["functions"]["specifications"]] == names
    assert body["tool_config"] == config
    assert upstream.dropped == (("tool_choice",) if choice == "required" else ())


@pytest.mark.parametrize("contract", ["v1", "v2"])
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"profanity_check": "no"}, "profanity_check"),
        ({"update_interval": [1]}, "update_interval"),
        ({"flags": "x"}, "flags"),
        ({"flags": [1]}, "flags"),
        ({"tools": [{"type": "custom"}]}, "tools[0].type"),
        ({"tools": [{"type": "image_generation"}]}, "tools[0].type"),
    ],
)
def test_what_is_nothing_is_not_forwarded(contract: Any, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Invalid) as caught:
        vendor_request(chat_request(**fields), "m", contract)
    assert caught.value.param == param


def test_hosted_tools_are_contract_v2s() -> None:
    with pytest.raises(Invalid, match="functions only"):
        vendor_request(chat_request(tools=[{"type": "web_search"}]), "m", "v1")


TABLE = {
    # parameter: (a value that asks for something, told as dropped by v1, told as dropped by v2)
    "frequency_penalty": (1, True, True),
    "presence_penalty": (1, True, True),
    "logit_bias": ({"1": 2}, True, True),
    "logprobs": (True, True, False),
    "top_logprobs": (2, True, False),
    "seed": (1, True, True),
    "user": ("u", True, True),
    "safety_identifier": ("u", True, True),
    "metadata": ({"a": "b"}, True, True),
    "store": (True, True, True),
    "prompt_cache_key": ("k", False, False),
    "prompt_cache_retention": ("24h", True, True),
    "service_tier": ("flex", True, True),
    "verbosity": ("low", True, True),
    "modalities": (["text"], False, False),
    "prediction": ({"type": "content"}, True, True),
    "web_search_options": ({}, True, True),
    "top_k": (3, True, True),
    "min_p": (0.1, True, True),
    "chat_template_kwargs": ({"a": 1}, True, True),
    "repetition_penalty": (1.1, False, False),
    "parallel_tool_calls": (False, False, True),
    "temperature": (1, False, False),
    "top_p": (0.5, False, False),
    "stop": (["x"], False, False),
    "reasoning_effort": ("low", False, False),
    "something_new": (1, True, True),
}


@pytest.mark.parametrize("name", TABLE)
def test_the_table_of_parameters(name: str) -> None:
    value, *told = TABLE[name]
    request = chat_request(**{name: value})
    found = [name in vendor_request(request, "m", form).dropped for form in ("v1", "v2")]  # type: ignore[arg-type]
    assert found == told
    for form, is_dropped in zip(("v1", "v2"), told, strict=True):
        if is_dropped:
            assert f'"{name}":'.encode() not in vendor_request(request, "m", form).body  # type: ignore[arg-type]


# ── ids of calls ─────────────────────────────────────────────────────────────────────────────────────────


@given(st.uuids(), st.integers(0, 99))
def test_an_id_of_a_call_holds_its_state(state: Any, number: int) -> None:
    identifier = call_id("01JZZZZZZZZZZZZZZZZZZZZZZZ", number, str(state))
    assert state_in(identifier) == str(state)
    assert len(identifier) <= 40


@given(st.text(max_size=60))
def test_other_ids_hold_none(text: str) -> None:
    found = state_in(text)
    assert found == "" or text.startswith("call_")
    assert state_in(call_id("01JTESTATTEMPT000000000000", 3, "no-uuid")) == ""


# ── pieces of text ───────────────────────────────────────────────────────────────────────────────────────

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text('ab{}"\\\n', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('k{}"', max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(st.text('k{}"\\', max_size=3), values, max_size=3),
    st.text("ab`\n:", max_size=8),
    st.text("ab`\n}{", max_size=8),
    st.integers(1, 5),
    st.sampled_from([None, 2]),
)
def test_an_object_is_found_in_any_cut(found: Any, before: str, after: str, size: int, indent: int | None) -> None:
    inside = json.dumps(found, indent=indent, ensure_ascii=False)
    text = before + inside + after
    cutter = ObjectCutter()
    shown = "".join(cutter.feed(text[at : at + size]) for at in range(0, len(text), size))
    assert shown == inside
    assert cutter.is_object()
    assert cutter.rest() == ""


@pytest.mark.parametrize("text", ["", "нет", "{", '{"a"', "{a}", '{"a":"}', "[1]"])
def test_what_is_no_object(text: str) -> None:
    cutter = ObjectCutter()
    cutter.feed(text)
    assert not cutter.is_object()


@given(
    st.lists(
        st.sampled_from(["Озеро ", "[", "[[", "]", "[sources=[1]]", "[sources=[1, 2]]", "[sources=", "x"]), max_size=8
    ),
    st.integers(1, 5),
)
def test_markers_are_taken_out_in_any_cut(pieces: list[str], size: int) -> None:
    def run(text: str, step: int) -> tuple[str, list[Any]]:
        markers = SourceMarkers()
        shown = "".join(markers.feed(text[at : at + step]) for at in range(0, len(text), step)) + markers.end()
        markers.add({"1": {"url": "https://a.test", "title": "A"}, "2": {"url": "https://b.test"}, "3": "odd"})
        return shown, markers.annotations()

    text = "".join(pieces)
    whole = run(text, len(text) + 1)
    assert run(text, size) == whole
    assert "[sources=[1]]" not in whole[0]
    assert all(0 <= item["url_citation"]["start_index"] <= len(whole[0]) for item in whole[1])


# ── conversations over a socket ──────────────────────────────────────────────────────────────────────────


async def test_both_contracts_say_the_same(place: Stand, contract: Any) -> None:
    provider = place.connect(**contract)
    request = asked("Расскажи о реке", stream=True, reasoning_effort="high")
    events = await collect(provider, request, attempt(request))
    whole = await answer(provider, asked("Расскажи о реке", reasoning_effort="high"))
    message = whole.choices[0].message
    assert "".join(event.text for event in events if isinstance(event, Delta)) == message.content
    assert "".join(event.text for event in events if isinstance(event, Reasoning)) == message.reasoning
    assert whole.usage in events
    assert events[-2:] == [Finish("stop", 0, "stop"), whole.usage]


@pytest.mark.parametrize("stream", [False, True])
async def test_tools_over_two_turns_with_their_state(place: Stand, contract: Any, stream: bool) -> None:
    provider = place.connect(**contract)
    tools = [function("get_weather", city="string")]
    messages: list[Any] = [{"role": "user", "content": "Погода?"}]
    request = asked(messages=messages, tools=tools, stream=stream)
    events = await collect(provider, request, attempt(request))
    made = [e for e in events if isinstance(e, ToolDelta)] if stream else events[0].choices[0].message.tool_calls
    (found,) = made
    assert state_in(found.id)
    assert set(json.loads(found.arguments)) == {"city"}
    messages += [
        {"role": "assistant", "content": None, "tool_calls": [call(found.id, found.name, found.arguments)]},
        {"role": "tool", "tool_call_id": found.id, "content": "plus 27"},
    ]
    last = await answer(provider, asked(messages=messages, tools=tools))
    assert "plus 27" in (last.choices[0].message.content or "")
    assert [row["status"] for row in await place.rows("/chat/completions")] == [200, 200], "the state was known"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_state_that_is_not_taken_back_is_left_out(place: Stand, contract: Any, stream: bool) -> None:
    """The vendor has forgotten it: 422, and the same call goes on without it under the same attempt."""
    gone = call_id("01JTESTATTEMPT000000000000", 0, STATE)
    messages = [
        {"role": "user", "content": "Погода?"},
        {"role": "assistant", "tool_calls": [call(gone, "get_weather")]},
        {"role": "tool", "tool_call_id": gone, "content": "plus 27"},
    ]
    provider = place.connect(**contract)
    request = asked(messages=messages, tools=[function("get_weather")], stream=stream)
    mine = attempt(request)
    events = await collect(provider, request, mine)
    said = "".join(getattr(e, "text", "") for e in events) if stream else events[0].choices[0].message.content
    assert "plus 27" in said
    rows = await place.rows("/chat/completions")
    assert [(row["status"], row["attempt_id"]) for row in rows] == [(422, mine.id), (200, mine.id)]
    assert mine.upstream_status == 200


@pytest.mark.parametrize("name", ["required", "get_rate"])
async def test_forced_tools_and_tools_without_arguments(place: Stand, contract: Any, name: str) -> None:
    tools = [{"type": "function", "function": {"name": "get_rate"}}]
    choice: Any = name if name == "required" else {"type": "function", "function": {"name": name}}
    whole = await answer(place.connect(**contract), asked("echo: no tools please", tools=tools, tool_choice=choice))
    (made,) = whole.choices[0].message.tool_calls
    assert (made.name, made.arguments) == ("get_rate", "{}")
    assert whole.choices[0].finish_reason == "tool_calls"


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
STRUCTURED = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA, "strict": True}}


@pytest.mark.parametrize("model", [MODEL, "GigaChat-Plus"])
@pytest.mark.parametrize("stream", [False, True])
async def test_structured_output_also_where_the_model_has_none(
    place: Stand, contract: Any, stream: bool, model: str
) -> None:
    provider = place.connect(**contract)
    request = asked("Кто?", response_format=STRUCTURED, stream=stream)
    mine = attempt(request, model)
    events = await collect(provider, request, mine)
    if stream:
        assert not any(isinstance(event, ToolDelta) for event in events)
        said = "".join(event.text for event in events if isinstance(event, Delta))
        (finish,) = [event.reason for event in events if isinstance(event, Finish)]
    else:
        (choice,) = events[0].choices
        said, finish = choice.message.content, choice.finish_reason
        assert not choice.message.tool_calls
    assert set(json.loads(said)) == {"name", "age"}
    assert finish == "stop"
    statuses = [row["status"] for row in await place.rows("/chat/completions")]
    assert statuses == ([200] if model == MODEL else [422, 200])


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_are_what_the_clients_schema_says(place: Stand, contract: Any, stream: bool) -> None:
    parameters = {
        "type": "object",
        "properties": {"n": {"enum": [1, 2]}, "rest": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["n", "rest"],
    }
    tool = {"type": "function", "function": {"name": "web_search", "parameters": parameters}}
    choice = {"type": "function", "function": {"name": "web_search"}}
    request = asked("Ищи", tools=[tool], tool_choice=choice, stream=stream)
    events = await collect(place.connect(**contract), request, attempt(request))
    if stream:
        ((name, arguments),) = [(event.name, event.arguments) for event in events if isinstance(event, ToolDelta)]
    else:
        (call,) = events[0].choices[0].message.tool_calls
        name, arguments = call.name, call.arguments
    assert name == "web_search"
    assert accepts(parameters, json.loads(arguments)), arguments


async def test_structured_output_beside_tools_has_no_other_way(place: Stand, contract: Any) -> None:
    request = asked("Кто?", response_format=STRUCTURED, tools=[function("f")])
    with pytest.raises(ProviderRefused, match="response_format is not supported"):
        await answer(place.connect(**contract), request, "GigaChat-Plus")
    assert len(await place.rows("/chat/completions")) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_json_object(place: Stand, contract: Any, stream: bool) -> None:
    provider = place.connect(**contract)
    for words, good in (("Кто ты?", True), ('echo: Вот он: ```json\n{"a": "}"}\n```', True), ("echo: [1, 2]", False)):
        request = asked(words, stream=stream, response_format={"type": "json_object"})
        mine = attempt(request)
        if not good:
            with pytest.raises(ProviderUnavailable, match="did not answer with the JSON object"):
                await collect(provider, request, mine)
            assert stream or mine.usage is not None, "what the vendor bills is known"
            continue
        events = await collect(provider, request, mine)
        said = (
            "".join(e.text for e in events if isinstance(e, Delta)) if stream else events[0].choices[0].message.content
        )
        assert isinstance(json.loads(said), dict)


@pytest.mark.parametrize("field", ["prompt_cache_key", "session_id"])
async def test_a_session_makes_the_prompt_cheaper(place: Stand, contract: Any, field: str) -> None:
    provider = place.connect(**contract)
    first = [{"role": "user", "content": "a long question about the weather in Moscow"}]
    then = [*first, {"role": "assistant", "content": "x"}, {"role": "user", "content": "and now?"}]
    found = [await answer(provider, asked(messages=messages, **{field: "s-1"})) for messages in (first, then)]
    assert [one.usage.cached_tokens > 0 for one in found if one.usage] == [False, True]
    other = await answer(provider, asked(messages=then, **{field: "s-2"}))
    assert other.usage is not None
    assert other.usage.cached_tokens == 0


async def test_logprobs_and_sources_of_contract_v2(place: Stand) -> None:
    provider = place.connect(options=V2)
    whole = await answer(provider, asked("echo: Привет, мир", logprobs=True, top_logprobs=2))
    told = msgspec.json.decode(whole.choices[0].logprobs or b"")
    assert "".join(token["token"] for token in told["content"]) == "Привет, мир"
    assert {len(token["top_logprobs"]) for token in told["content"]} == {2}
    for stream in (False, True):
        request = asked("Найди озеро", tools=[{"type": "web_search"}], stream=stream)
        events = await collect(provider, request, attempt(request))
        if stream:
            said = "".join(event.text for event in events if isinstance(event, Delta))
            extra = next(event.extra for event in events if isinstance(event, Delta) and event.extra)
        else:
            said, extra = events[0].choices[0].message.content, events[0].choices[0].message.extra
        assert "[sources=" not in said
        cited = [item["url_citation"]["url"] for item in msgspec.json.decode(extra["annotations"])]
        assert cited == ["https://ru.example/baikal", "https://ru.example/baikal", "https://ru.example/moscow"]


async def test_the_accounts_one_place_is_held_by_one_call(place: Stand, contract: Any) -> None:
    provider = place.connect("pers-one", scope="GIGACHAT_API_PERS", **contract)
    request = asked("say 5 words", stream=True)
    events = provider.chat(request, attempt(request, f"{MODEL}+stall-1"))
    await anext(events)
    with pytest.raises(ProviderRateLimited, match="429: Too Many Requests"):
        await answer(provider, asked())
    await events.aclose()

    async def free() -> bool:
        try:
            return bool(await answer(provider, asked()))
        except ProviderRateLimited:
            return False

    await until(free)


# ── pictures ─────────────────────────────────────────────────────────────────────────────────────────────


def picture(prompt: str = "кот", **more: Any) -> ImagesRequest:
    fields = {name: Raw(msgspec.json.encode(value)) for name, value in more.pop("fields", {}).items()}
    return ImagesRequest("acme/m", prompt, fields, **more)


async def test_a_picture_is_drawn_fetched_and_deleted(place: Stand, contract: Any) -> None:
    provider = place.connect(**contract)
    request = picture(size="1024x1024", fields={"quality": "hd", "user": "u", "response_format": "b64_json"})
    mine = attempt(request)
    made = await provider.draw(request, mine)
    (drawn,) = made.images
    assert msgspec.json.decode(b'"' + drawn.b64.encode() + b'"', type=bytes) == PICTURE
    assert drawn.mime == "image/jpeg"
    assert made.usage == mine.usage is not None
    assert set(mine.dropped) == {"size", "quality", "user"}

    async def none_left() -> bool:
        return await place.stored() == [] and len(await place.rows("/delete")) == 1

    await until(none_left)
    chats = [row for row in await place.rows() if row["attempt_id"] == mine.id]
    assert len(chats) == 1, "the download is no attempt"


async def test_several_pictures_are_several_attempts(place: Stand) -> None:
    with pytest.raises(Invalid) as caught:
        await place.connect().draw(picture(n=2), attempt(picture()))
    assert caught.value.param == "n"


async def test_a_topic_that_is_not_drawn(place: Stand, contract: Any) -> None:
    mine = attempt(picture())
    with pytest.raises(ProviderRefused) as caught:
        await place.connect(**contract).draw(picture("про запретную тему"), mine)
    assert caught.value.code == "content_policy_violation"
    assert caught.value.http_status == 400
    assert mine.usage is not None


async def test_words_instead_of_a_picture() -> None:
    body = '{"choices":[{"message":{"content":"Не умею"},"finish_reason":"stop"}]}'.encode()
    provider, _ = connect("gigachat", Reply(chunks=[body]))
    mine = attempt(picture())
    with pytest.raises(ProviderUnavailable, match="in words instead of a picture"):
        await provider.draw(picture(), mine)  # type: ignore[attr-defined]
    assert mine.phase is Phase.BODY, "it is not drawn again on the same deployment"


@pytest.mark.parametrize(
    ("download", "says"),
    [
        (Reply(404, {}, [b'{"status":404,"message":"No such file"}']), "a picture that cannot be had"),
        (Reply(403, {}, [b'{"status":403,"message":"Permission denied"}']), "a picture that cannot be had"),
        (Reply(500, {}, [b"{}"]), "acme answered 500"),
        (Reply(200, {}, []), "with an empty file"),
    ],
)
async def test_a_picture_that_cannot_be_fetched(download: Reply, says: str) -> None:
    deleted: list[str] = []

    def vendor(sent: Any) -> Reply:
        if sent.url.endswith("/oauth"):
            return Reply(chunks=[b'{"access_token":"t","expires_at":99999999999999}'])
        if sent.url.endswith("/content"):
            assert sent.method == "GET"
            return download
        if sent.url.endswith("/delete"):
            deleted.append(sent.url)
            return Reply(chunks=[b"{}"])
        return Reply(
            chunks=[
                b'{"choices":[{"message":{"content":"<img src=\\"f-1\\" fuse=\\"true\\"/>"},"finish_reason":"stop"}]}'
            ]
        )

    provider, _ = connect("gigachat", vendor)
    with pytest.raises(ProviderUnavailable, match=says):
        await provider.draw(picture(), attempt(picture()))  # type: ignore[attr-defined]
    await provider.close()  # type: ignore[attr-defined]
    assert deleted == ["https://upstream.test/v1/files/f-1/delete"]


async def test_a_picture_nobody_waits_for_is_deleted_too(place: Stand, contract: Any) -> None:
    provider = place.connect(**contract)
    drawing = asyncio.create_task(provider.draw(picture(), attempt(picture(), f"{MODEL}+slow-headers")))

    async def asked_for() -> bool:
        return bool(await place.rows("/chat/completions"))

    await until(asked_for)
    drawing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await drawing
    await provider.close()
    assert await place.stored() == []
