"""Events as OpenAI's completions, checked with the official client's own models."""

import json
from typing import Any

import msgspec
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from tests.gateway.script import Script, answer, call, world

from xrouter.core.call import Call
from xrouter.core.chat import (
    Answer,
    AnswerMessage,
    Choice,
    Delta,
    Event,
    Finish,
    Reasoning,
    Refusal,
    Start,
    ToolCall,
    ToolDelta,
    Usage,
)
from xrouter.dialects.openai import chat_answer
from xrouter.gateway import record, route


def served(usage: Usage | None, *, include_usage: bool = False) -> Call:
    """A call whose only attempt has answered."""
    place, one = world(a=Script([])), call("a/m")
    one.request = msgspec.structs.replace(one.request, include_usage=include_usage)
    attempt = record.begin(one, route.plan(one.request, place.gateway.catalog)[0], place.gateway)
    attempt.sending()
    attempt.usage = usage
    one.served_model = attempt.model
    record.end(attempt, None, place.gateway)
    return one


def chunks(events: list[Event], one: Call) -> list[dict[str, Any]]:
    writer = chat_answer.ChunkWriter(one)
    data = b"".join(writer.chunk(event) for event in events)
    found = [json.loads(line[6:]) for line in data.decode().split("\n\n") if line]
    for chunk in found:
        ChatCompletionChunk.model_validate(chunk, strict=True)
        assert all("finish_reason" in choice for choice in chunk["choices"])
    return found


def test_text_is_said_in_chunks_and_the_role_once() -> None:
    found = chunks([Start(), Delta("При"), Delta('вет "\n'), Finish("stop")], served(None))
    deltas = [chunk["choices"][0]["delta"] for chunk in found]
    assert deltas == [{"role": "assistant", "content": "При"}, {"content": 'вет "\n'}, {}]
    assert found[-1]["choices"][0]["finish_reason"] == "stop"
    assert all("usage" not in chunk for chunk in found)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in found}) == 1


def test_text_that_looks_like_an_event_stays_inside_its_chunk() -> None:
    (chunk,) = chunks([Delta("\n\ndata: [DONE]\n\n")], served(None))
    assert chunk["choices"][0]["delta"]["content"] == "\n\ndata: [DONE]\n\n"


def test_usage_comes_last_and_only_when_asked() -> None:
    one = served(Usage(10, 5, cached_tokens=3, reasoning_tokens=2), include_usage=True)
    (chunk,) = chunks([Delta("x")], one)
    assert chunk["usage"] is None
    last = json.loads(chat_answer.ChunkWriter(one).usage()[6:])
    assert last["choices"] == []
    assert last["usage"]["prompt_tokens"] == 10
    assert last["usage"]["total_tokens"] == 15
    assert last["usage"]["prompt_tokens_details"]["cached_tokens"] == 3
    assert last["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2
    assert b'"cost":0.000975' in chat_answer.ChunkWriter(one).usage()


def test_tools_reasoning_refusals_and_several_choices() -> None:
    found = chunks(
        [
            Reasoning("hm", extra={"x": msgspec.Raw(b"1")}),
            ToolDelta(0, "call_1", "f", ""),
            ToolDelta(0, arguments='{"a":'),
            Delta("b", choice=1, logprobs=msgspec.Raw(b'{"content":null,"refusal":null}')),
            Refusal("no", choice=2),
            Finish("tool_calls", extra={"stop_reason": msgspec.Raw(b'"x"')}),
        ],
        served(None),
    )
    choices = [chunk["choices"][0] for chunk in found]
    assert choices[0]["delta"] == {"role": "assistant", "content": "", "reasoning_content": "hm", "x": 1}
    first, more = choices[1]["delta"]["tool_calls"][0], choices[2]["delta"]["tool_calls"][0]
    assert first == {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert more == {"index": 0, "function": {"arguments": '{"a":'}}
    assert (choices[3]["index"], choices[3]["delta"]["role"]) == (1, "assistant")
    assert choices[4]["delta"]["refusal"] == "no"
    assert choices[5]["stop_reason"] == "x"


def test_fields_of_the_whole_stream_stand_on_every_chunk() -> None:
    start = Start(extra={"system_fingerprint": msgspec.Raw(b'"fp"'), "service_tier": msgspec.Raw(b'"default"')})
    found = chunks([start, Delta("a"), Delta("b")], served(None))
    assert [(chunk["system_fingerprint"], chunk["service_tier"]) for chunk in found] == [("fp", "default")] * 2


def test_a_whole_answer_validates_strictly_and_keeps_unknown_fields() -> None:
    message = AnswerMessage(
        None, (ToolCall("call_1", "f", "{}"),), reasoning="hm", extra={"annotations": msgspec.Raw(b"[]")}
    )
    whole = Answer((Choice(0, message, "tool_calls"),), extra={"system_fingerprint": msgspec.Raw(b'"fp"')})
    body = json.loads(chat_answer.whole(served(Usage(1, 2)), whole))
    ChatCompletion.model_validate(body, strict=True)
    assert body["system_fingerprint"] == "fp"
    assert body["choices"][0]["message"]["annotations"] == []
    assert body["choices"][0]["message"]["content"] is None
    assert body["usage"]["total_tokens"] == 3


def test_an_estimate_says_so() -> None:
    body = json.loads(chat_answer.whole(served(None), answer("hi")))
    assert body["usage"]["estimated"] is True


def test_a_vendors_own_cost_is_never_told_as_ours() -> None:
    """OpenRouter, as an upstream, reports dollars; ours are roubles."""
    extra = {"cost": msgspec.Raw(b"99"), "cost_details": msgspec.Raw(b"{}")}
    usage = Usage(10, 5, extra=extra | {"is_byok": msgspec.Raw(b"false")})
    body = json.loads(chat_answer.whole(served(usage), answer("hi")))
    assert body["usage"]["cost"] == 0.000975
    assert "cost_details" not in body["usage"]
    assert body["usage"]["is_byok"] is False
