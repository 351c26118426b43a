"""Documents by their worth, for every kind that ranks them: recorded answers, errors, marks, usage, paths."""

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
from tests.providers.scripted import Reply, attempt_for, chat_request, connect

from xrouter.core.call import Attempt
from xrouter.core.ports import RerankProvider
from xrouter.core.rerank import Ranking, RerankRequest
from xrouter.providers.openai_compatible.ranking import read_ranking

ABILITY = "rerank"
CAPABLE = scripted(RerankProvider, ABILITY)


def request(top_n: int | None = None, **fields: Any) -> RerankRequest:
    raw = {field: Raw(msgspec.json.encode(value)) for field, value in fields.items()}
    return RerankRequest("acme/m", "who?", ("a", "б", "c"), raw, top_n)


async def rerank(kind: str, reply: Any, asked: RerankRequest, attempt: Attempt | None = None) -> Ranking:
    provider, transport = connect(kind, reply)
    assert isinstance(provider, RerankProvider)
    try:
        return await provider.rerank(asked, attempt or attempt_for(chat_request()))
    finally:
        assert all(sent.closed for sent in transport.sent) or not isinstance(reply, Reply)


def test_whoever_ranks_is_tested() -> None:
    assert [kind for kind in capable(RerankProvider) if not is_tested(kind, "rerank", ABILITY, RerankProvider)] == []
    assert "mts" in CAPABLE


@pytest.mark.parametrize(("kind", "path"), cases(RerankProvider, ABILITY), ids=name)
async def test_recorded_answers_give_the_expected_order(kind: str, path: Path) -> None:
    await check_case(path, rerank(kind, recorded(path), request(**fields_of(path))))


@pytest.mark.parametrize("kind", CAPABLE)
async def test_statuses_become_errors(kind: str) -> None:
    for status, expected in STATUSES:
        await check_status(
            lambda reply, attempt: rerank(kind, reply, request(), attempt), status, expected, b'{"message":"No"}'
        )


@pytest.mark.parametrize("kind", CAPABLE)
async def test_marks_are_set_before_a_byte_leaves_and_broken_connections_are_errors(kind: str) -> None:
    await check_marks(lambda reply, attempt: rerank(kind, reply, request(), attempt))


@pytest.mark.parametrize(
    ("kind", "options", "url"),
    [
        ("mts", {}, "https://upstream.test/projects/acme/cohere/v2/rerank"),
        ("vllm", {}, "https://upstream.test/v1/rerank"),
        ("vllm", {"rerank": "../v2/rerank"}, "https://upstream.test/v2/rerank"),
    ],
)
async def test_what_goes_out_and_where(kind: str, options: dict[str, Any], url: str) -> None:
    best = b'{"results":[{"index":2,"relevance_score":0.9}]}'
    provider, transport = connect(kind, Reply(headers=JSON, chunks=[best]), options=options)
    assert isinstance(provider, RerankProvider)
    attempt = attempt_for(chat_request())
    found = await provider.rerank(request(1, return_documents=True, rank_fields=["x"], max_tokens_per_doc=9), attempt)
    assert found.usage is None  # then the gateway estimates
    assert transport.sent[0].url == url
    assert transport.sent[0].json() == {
        "model": "m", "query": "who?", "documents": ["a", "б", "c"], "top_n": 1, "max_tokens_per_doc": 9,
    }  # fmt: skip
    assert attempt.dropped == ("rank_fields",)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8), st.integers(1, 9))
def test_the_best_come_first_however_they_were_sent(scores: list[float], top_n: int) -> None:
    results = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    found = read_ranking(msgspec.json.encode({"results": results}), len(scores), top_n).results
    assert len(found) == min(top_n, len(scores))
    assert [msgspec.json.decode(one.score) for one in found] == sorted(scores, reverse=True)[:top_n]


def test_no_digit_of_a_score_is_lost_or_invented() -> None:
    body = b'{"results":[{"index":0,"relevance_score":0.12345678901234567890},{"index":1,"relevance_score":1e-2}]}'
    assert [bytes(one.score) for one in read_ranking(body, 2, None).results] == [b"0.12345678901234567890", b"1e-2"]
