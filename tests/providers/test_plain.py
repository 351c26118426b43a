"""The short cut for plain text tells the same as the long way, and is taken where it should be."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.errors import ProviderUnavailable, UpstreamError
from xrouter.providers.openai_compatible import answer, plain, stream
from xrouter.providers.openai_compatible.reading import Reading

READING = Reading(call_ids="call_x")
ABSENT = object()


def in_band(body: Any) -> UpstreamError:
    return ProviderUnavailable(f"in band: {body}", provider="acme")


def fields(**possible: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects whose fields take these values, or are absent."""
    found = {name: st.sampled_from([ABSENT, *values]) for name, values in possible.items()}
    return st.fixed_dictionaries(found).map(lambda x: {name: value for name, value in x.items() if value is not ABSENT})


TEXTS = ["", "a", "Привет", None, 5, ["x"], "\ud800"]
DELTAS = fields(content=TEXTS, role=["assistant", None, 3], refusal=[None, "no"], tool_calls=[None, []], odd=[None, 1])
CHOICES = st.builds(
    lambda choice, delta: {**choice, **({} if delta is None else {"delta": delta})},
    fields(index=[0, 1, "0"], finish_reason=[None, "stop", "error"], logprobs=[None, {"content": []}], odd=[1]),
    st.one_of(DELTAS, st.none()),
)
CHUNKS = st.builds(
    lambda top, choices: {**top, "choices": choices},
    fields(
        id=["c", None],
        object=["chat.completion.chunk"],
        created=[1, 1.5],
        model=["m", "n", None, 7],
        system_fingerprint=["fp_1", "fp_2", None],
        service_tier=["default", None],
        usage=[None, {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}],
        obfuscation=["xx"],
        odd=["y"],
        error=[None, {"message": "bad"}],
    ),
    st.lists(CHOICES, max_size=2),
)
PLAIN = {
    "id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m", "system_fingerprint": "fp_1",
    "choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": None, "finish_reason": None}],
}  # fmt: skip


def told(chunks: list[bytes]) -> list[Any]:
    """Everything that a reader tells of these chunks, its end included."""
    reader = stream.StreamReader("acme", in_band, READING)
    found: list[Any] = []
    try:
        for chunk in chunks:
            found += reader.read(chunk)
        reader.end()
    except UpstreamError as error:
        found.append(str(error))
    return found


@given(st.lists(st.one_of(CHUNKS, st.just(PLAIN)), max_size=8))
def test_a_stream_reads_the_same_both_ways(chunks: list[dict[str, Any]]) -> None:
    data = [json.dumps(chunk, ensure_ascii=True).encode() for chunk in chunks]
    short = told(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stream, "MOST_MISSES", 0)
        assert told(data) == short


MESSAGES = fields(
    reasoning_content=[None, "hm"],
    content=TEXTS,
    role=["assistant", None],
    refusal=[None, "no"],
    tool_calls=[None, []],
    odd=[None, 1],
)
WHOLES = st.builds(
    lambda top, choice, message: {**top, "choices": [{**choice, "message": message}]},
    fields(
        id=["c", None],
        created=[1],
        model=["m", None],
        system_fingerprint=[None, "fp", "Ф\u0000"],
        service_tier=[None, "default", 5],
        usage=[
            None,
            {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
            {"prompt_tokens": -1, "completion_tokens": 2, "total_tokens": 3},
            {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3, "prompt_tokens_details": {}},
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 4}},
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 40}},
            {"prompt_tokens": 9, "completion_tokens": 2, "completion_tokens_details": {"reasoning_tokens": 1}},
            {"prompt_tokens": 9, "completion_tokens": 2, "completion_tokens_details": {"odd": 1}},
        ],
        error=[None, {"message": "bad"}],
        odd=[1],
    ),
    fields(index=[0, 1], finish_reason=["stop", "length", "eos", "abort", None], logprobs=[None, {"content": []}]),
    MESSAGES,
)


def read(body: bytes) -> Any:
    try:
        return answer.read_answer("acme", body, in_band, READING)
    except UpstreamError as error:
        return str(error)


@given(WHOLES)
def test_an_answer_reads_the_same_both_ways(body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    short = read(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "text_answer", lambda *_: None)
        assert read(data) == short


def test_plain_text_takes_the_short_cut() -> None:
    data = json.dumps(PLAIN).encode()
    assert plain.text_delta(data, {"system_fingerprint": msgspec.Raw(b'"fp_1"')}) is not None
    whole = {
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    assert plain.text_answer(json.dumps(whole).encode(), READING) is not None
