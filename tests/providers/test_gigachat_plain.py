"""The short cut for GigaChat's plain text tells the same as the long way, and is taken where it should be."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.test_plain import fields, in_band

from xrouter.core.chat import Delta
from xrouter.core.errors import UpstreamError
from xrouter.providers.gigachat import answer
from xrouter.providers.gigachat.reading import Reading

TEXTS = ["", "a", "Привет", None, 5]
DELTAS = fields(
    content=TEXTS,
    role=["assistant", "", None, "function_in_progress", 3],
    function_call=[None, {"name": "f", "arguments": {}}],
    reasoning_content=[None, "hm"],
    functions_state_id=["s"],
)
CHOICES = st.builds(
    lambda choice, delta: {**choice, **({} if delta is None else {"delta": delta})},
    fields(index=[0, 1, "0"], finish_reason=[None, "stop", "blacklist", "error", ""], odd=[1]),
    st.one_of(DELTAS, st.none()),
)
CHUNKS = st.builds(
    lambda top, choices: {**top, **({} if choices is None else {"choices": choices})},
    fields(
        created=[1],
        model=["GigaChat:2", None],
        object=["chat.completion"],
        usage=[None, {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}],
        odd=["y"],
        status=[500],
    ),
    st.one_of(st.lists(CHOICES, max_size=2), st.none()),
)
PLAIN = {"choices": [{"delta": {"content": "x"}, "index": 0}], "created": 1, "model": "m", "object": "chat.completion"}


def told(chunks: list[bytes], reading: Reading) -> list[Any]:
    reader = answer.StreamReader(reading)
    found: list[Any] = []
    try:
        for chunk in chunks:
            found += reader.read(chunk)
        reader.end()
    except UpstreamError as error:
        found.append(str(error))
    return found


@given(st.lists(st.one_of(CHUNKS, st.just(PLAIN)), max_size=8), st.sampled_from([(), ("a",)]))
def test_a_stream_reads_the_same_both_ways(chunks: list[dict[str, Any]], stops: tuple[str, ...]) -> None:
    data = [json.dumps(chunk).encode() for chunk in chunks]
    reading = Reading(provider="acme", in_band=in_band, attempt_id="x", stops=stops)
    short = told(data, reading)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(answer, "_plain_text", lambda _: "")
        assert told(data, reading) == short


def test_plain_text_takes_the_short_cut() -> None:
    assert answer._plain_text(json.dumps(PLAIN).encode()) == "x"
    reader = answer.StreamReader(Reading(provider="acme", in_band=in_band, attempt_id="x"))
    reader.read(json.dumps(PLAIN).encode())
    assert reader.read(json.dumps(PLAIN).encode()) == [Delta("x")]
