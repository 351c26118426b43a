"""The books over HTTP: filters, exact money, times; and one call as OpenRouter tells it."""

import itertools

import pytest
from tests.admin.books import NOW, Plane, attempt

from xrouter.core.call import State

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_row_has_every_field_with_exact_money(plane: Plane) -> None:
    plane.attempts.records = [attempt(cost_micro=90_071_992_547_409_930_001, client_request_id="mine")]
    status, page, _ = await plane.ask("GET", "/admin/attempts")
    assert status == 200
    assert page == {
        "object": "list",
        "data": [
            {
                "object": "attempt",
                "id": "01ATTEMPT1",
                "call_id": "chatcmpl-1",
                "request_id": "req_1",
                "client_request_id": "mine",
                "key_id": "kalice",
                "number": 1,
                "model": "tbank/t-pro",
                "deployment": "tbank/t-pro",
                "provider": "tbank",
                "upstream_model": "t-pro",
                "dialect": "openai",
                "streamed": True,
                "owner": "worker-1",
                "state": "succeeded",
                "phase": "shown",
                "started_at": "2027-01-15T08:00:00.250Z",
                "first_content_at": "2027-01-15T08:00:00.500Z",
                "ended_at": "2027-01-15T08:00:02.000Z",
                "upstream_status": 200,
                "upstream_request_id": None,
                "usage": {
                    "prompt_tokens": 7,
                    "completion_tokens": 5,
                    "cached_tokens": 2,
                    "reasoning_tokens": 1,
                    "total_tokens": 12,
                },
                "estimated": False,
                "cost_rub": "90071992547409.930001",
                "currency": "RUB",
                "unpriced": False,
                "finish_reason": "stop",
                "error": None,
                "end_user": None,
                "on_operator": False,
            }
        ],
        "has_more": False,
        "next_cursor": None,
    }


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [3, 2, 1]),
        ("?call_id=chatcmpl-2", [3]),
        ("?request_id=req_2", [3]),
        ("?client_request_id=mine", [2]),
        ("?key_id=kbob", [3]),
        ("?state=failed", [1]),
        ("?model=best", [3]),
        ("?deployment=gigachat%2Fmax", [1]),
        ("?since=2027-01-15T08:00:00.250Z", [3, 2, 1]),
        ("?since=2027-01-15T11:00:01%2B03:00", [3, 2]),
        (f"?since={int(NOW) + 1}", [3, 2]),
        (f"?until={int(NOW) + 1}.5", [2, 1]),
        ("?since=2027-01-15T08:00:01Z&until=2027-01-15T08:00:02Z", [2]),
        ("?key_id=kalice&state=succeeded", [2]),
        ("?call_id=nobody", []),
    ],
)
async def test_filters_choose_rows(plane: Plane, query: str, numbers: list[int]) -> None:
    plane.attempts.records = [
        attempt(1, state=State.FAILED, deployment="gigachat/max"),
        attempt(2, client_request_id="mine", started_at=NOW + 1.25),
        attempt(3, call_id="chatcmpl-2", request_id="req_2", key_id="kbob", model="best", started_at=NOW + 2.25),
    ]
    status, page, _ = await plane.ask("GET", "/admin/attempts" + query)
    assert status == 200
    assert [row["number"] for row in page["data"]] == numbers


async def test_a_shadows_copies_are_listed_by_their_route(plane: Plane) -> None:
    """No key has that id: the attempts stand under it."""
    plane.attempts.records = [attempt(1), attempt(2, key_id="shadow:tbank/t-pro"), attempt(3, key_id="shadow:other")]
    status, page, _ = await plane.ask("GET", "/admin/attempts?key_id=shadow:tbank/t-pro")
    assert (status, [row["number"] for row in page["data"]]) == (200, [2])
    assert (await plane.ask("GET", "/admin/attempts?key_id=nobody"))[0] == 404


async def test_pages_cover_everything_once(plane: Plane) -> None:
    plane.attempts.records = [attempt(number) for number in range(1, 8)]
    seen: list[int] = []
    cursor = ""
    for _ in itertools.repeat(None, 3):
        _, page, _ = await plane.ask("GET", f"/admin/attempts?limit=3{cursor}")
        seen += [row["number"] for row in page["data"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == [7, 6, 5, 4, 3, 2, 1]
    assert page["has_more"] is False


@pytest.mark.parametrize(
    ("query", "param", "words"),
    [
        ("limit=0", "limit", "greater than or equal to 1"),
        ("limit=201", "limit", "less than or equal to 200"),
        ("limit=x", "limit", "a whole number"),
        ("cursor=%21", "cursor", "not one that this API gave out"),
        ("state=done", "state", "succeeded"),
        ("since=yesterday", "since", "RFC 3339"),
        ("since=2027-01-15T11:00:01+03:00", "since", "%2B"),
        ("since=1800000000000", "since", "seconds since the epoch"),
        ("model=a%00b", "model", "control characters"),
        ("key=1", "key", "did you mean 'key_id'?"),
        ("modle=1", "modle", "did you mean 'model'?"),
        ("state=failed&state=open", "state", "more than once"),
    ],
)
async def test_a_wrong_query_is_named(plane: Plane, query: str, param: str, words: str) -> None:
    # yarl would mend the query on its way
    status, body, _ = await plane.ask("GET", "/admin/attempts?" + query)
    assert status == 400
    assert body["error"]["param"] == param
    assert words in body["error"]["message"]


async def test_a_generation_after_failover_tells_both_attempts_and_their_sum(plane: Plane) -> None:
    plane.attempts.records = [
        attempt(
            1,
            provider="gigachat",
            deployment="gigachat/max",
            upstream_model="GigaChat-2-Max",
            state=State.FAILED,
            upstream_status=500,
            error="upstream_500",
            started_at=NOW,
            first_content_at=None,
            ended_at=NOW + 0.125,
            input_tokens=0,
            output_tokens=0,
            cached_tokens=0,
            reasoning_tokens=0,
            cost_micro=100,
            finish_reason=None,
        ),
        attempt(2),
    ]
    status, body, _ = await plane.ask("GET", "/api/v1/generation?id=chatcmpl-1", key="alice")
    assert status == 200
    assert body["data"] == {
        "id": "chatcmpl-1",
        "model": "tbank/t-pro",
        "provider_name": "tbank",
        "streamed": True,
        "cancelled": False,
        "created_at": "2027-01-15T08:00:00.000Z",
        "latency": 500,
        "generation_time": 1500,
        "finish_reason": "stop",
        "native_finish_reason": None,
        "tokens_prompt": 7,
        "tokens_completion": 5,
        "native_tokens_prompt": 7,
        "native_tokens_completion": 5,
        "native_tokens_reasoning": 1,
        "native_tokens_cached": 2,
        "total_cost": "0.0014",
        "usage": "0.0014",
        "currency": "RUB",
        "is_byok": False,
        "api_type": "completions",
        "request_id": "req_1",
        "client_request_id": None,
        "provider_responses": [
            {
                "id": "01ATTEMPT1",
                "provider_name": "gigachat",
                "endpoint_id": "gigachat/max",
                "model_permaslug": "GigaChat-2-Max",
                "status": 500,
                "latency": 125,
                "state": "failed",
                "error": "upstream_500",
                "is_byok": False,
            },
            {
                "id": "01ATTEMPT2",
                "provider_name": "tbank",
                "endpoint_id": "tbank/t-pro",
                "model_permaslug": "t-pro",
                "status": 200,
                "latency": 250,
                "state": "succeeded",
                "error": None,
                "is_byok": False,
            },
        ],
    }


async def test_a_generation_that_the_client_left_is_cancelled_and_one_that_runs_is_not_there_yet(plane: Plane) -> None:
    plane.attempts.records = [
        attempt(1, state=State.CANCELLED, finish_reason=None),
        attempt(2, call_id="chatcmpl-2", state=State.OPEN, first_content_at=None, ended_at=None),
    ]
    _, body, _ = await plane.ask("GET", "/api/v1/generation?id=chatcmpl-1")
    assert body["data"]["cancelled"] is True
    status, body, _ = await plane.ask("GET", "/api/v1/generation?id=chatcmpl-2")
    assert (status, body["error"]["metadata"]["code"]) == (404, "generation_pending")


@pytest.mark.parametrize(("key", "status"), [("alice", 200), ("root", 200), ("bob", 404)])
async def test_a_caller_sees_only_its_own_generations(plane: Plane, key: str, status: int) -> None:
    plane.attempts.records = [attempt()]
    assert (await plane.ask("GET", "/api/v1/generation?id=chatcmpl-1", key=key))[0] == status


async def test_a_foreign_generation_and_an_unknown_one_look_the_same(plane: Plane) -> None:
    plane.attempts.records = [attempt()]
    _, foreign, _ = await plane.ask("GET", "/api/v1/generation?id=chatcmpl-1", key="bob")
    _, unknown, _ = await plane.ask("GET", "/api/v1/generation?id=chatcmpl-7", key="bob")
    assert foreign["error"]["message"].replace("-1'", "-7'") == unknown["error"]["message"]
    assert unknown["error"]["code"] == 404, "OpenRouter's clients want the status as a number"
    assert unknown["error"]["metadata"]["code"] == "not_found"
