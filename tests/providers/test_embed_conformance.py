"""Vectors of texts, for every kind that makes them: recorded answers, errors, marks, usage."""

import base64
import struct
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.providers.abilities import (
    JSON,
    STATUSES,
    capable,
    cases,
    check_case,
    check_marks,
    check_status,
    fields_of,
    is_tested,
    name,
    recorded,
    scripted,
)
from tests.providers.scripted import OUR_KEY, Reply, attempt_for, chat_request, connect

from xrouter.core.call import Attempt
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid
from xrouter.core.ports import EmbeddingsProvider
from xrouter.providers.openai_compatible.embeddings import read_embeddings

ABILITY = "embed"
CAPABLE = scripted(EmbeddingsProvider, ABILITY)


def request(
    inputs: tuple[str, ...] = ("one", "два"), dimensions: int | None = None, **fields: Any
) -> EmbeddingsRequest:
    raw = {field: Raw(msgspec.json.encode(value)) for field, value in fields.items()}
    return EmbeddingsRequest("acme/m", inputs, raw, dimensions)


async def embed(kind: str, reply: Any, asked: EmbeddingsRequest, attempt: Attempt | None = None) -> Embeddings:
    provider, transport = connect(kind, reply)
    assert isinstance(provider, EmbeddingsProvider)
    try:
        return await provider.embed(asked, attempt or attempt_for(chat_request()))
    finally:
        assert all(sent.closed for sent in transport.sent) or not isinstance(reply, Reply)


def test_whoever_makes_vectors_is_tested() -> None:
    assert [
        kind for kind in capable(EmbeddingsProvider) if not is_tested(kind, "embed", ABILITY, EmbeddingsProvider)
    ] == []
    assert "openai" in CAPABLE


@pytest.mark.parametrize(("kind", "path"), cases(EmbeddingsProvider, ABILITY), ids=name)
async def test_recorded_answers_give_the_expected_vectors(kind: str, path: Path) -> None:
    await check_case(path, embed(kind, recorded(path), request(**fields_of(path))))


@pytest.mark.parametrize("kind", CAPABLE)
async def test_statuses_become_errors(kind: str) -> None:
    body = b'{"error":{"message":"No: %s","code":"x"}}' % OUR_KEY.encode()
    for status, expected in STATUSES:
        said = await check_status(lambda reply, attempt: embed(kind, reply, request(), attempt), status, expected, body)
        assert OUR_KEY not in said


@pytest.mark.parametrize("kind", CAPABLE)
async def test_marks_are_set_before_a_byte_leaves_and_broken_connections_are_errors(kind: str) -> None:
    await check_marks(lambda reply, attempt: embed(kind, reply, request(), attempt))


@pytest.mark.parametrize("kind", CAPABLE)
async def test_what_goes_out(kind: str) -> None:
    whole = b'{"data":[{"index":0,"embedding":[1.0]},{"index":1,"embedding":[2.0]}]}'
    provider, transport = connect(kind, Reply(headers=JSON, chunks=[whole]))
    assert isinstance(provider, EmbeddingsProvider)
    attempt = attempt_for(chat_request())
    found = await provider.embed(request(dimensions=1, encoding_format="base64", input_type="query"), attempt)
    assert found.usage is None  # then the gateway estimates
    (sent,) = transport.sent
    assert sent.headers["X-Request-ID"] == attempt.id
    assert sent.url.endswith("/embeddings")
    assert sent.json() == {"model": "m", "input": ["one", "два"], "encoding_format": "float", "dimensions": 1}
    assert attempt.dropped == ("input_type",)
    strict = attempt_for(chat_request())
    strict.call.strict = True
    with pytest.raises(Invalid):
        await provider.embed(request(input_type="query"), strict)


@pytest.mark.parametrize("kind", CAPABLE)
async def test_vectors_of_another_length_than_asked_are_refused_and_paid_for(kind: str) -> None:
    whole = b'{"data":[{"index":0,"embedding":[1.0,2.0]}],"usage":{"prompt_tokens":3,"total_tokens":3}}'
    attempt = attempt_for(chat_request())
    with pytest.raises(Invalid, match="2 numbers") as caught:
        await embed(kind, Reply(headers=JSON, chunks=[whole]), request(("one",), dimensions=1), attempt)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "dimensions")
    assert attempt.usage is not None
    assert attempt.usage.input_tokens == 3
    same = await embed(kind, Reply(headers=JSON, chunks=[whole]), request(("one",), dimensions=2))
    assert same.vectors == ((1.0, 2.0),)


NUMBERS = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=5), st.randoms())
def test_every_order_and_both_forms_give_the_same_vectors(vectors: list[list[float]], random: Any) -> None:
    rows: list[Any] = [{"index": place, "embedding": vector} for place, vector in enumerate(vectors)]
    random.shuffle(rows)
    found = read_embeddings(msgspec.json.encode({"data": rows}), len(vectors))
    assert found.vectors == tuple(map(tuple, vectors))
    packed = [{**row, "embedding": base64.b64encode(struct.pack("<3f", *row["embedding"])).decode()} for row in rows]
    assert read_embeddings(msgspec.json.encode({"data": packed}), len(vectors)).vectors == found.vectors
