"""What the response headers tell, and that the books tell the same."""

import asyncio
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from campaigns.stage import Gateway, http, wait_until
from openai import BadRequestError, InternalServerError
from tests.journey.calls import CHAT, chat_body, session
from tests.journey.conftest import GIGACHAT, TBANK, Sdk


async def test_a_whole_answer_tells_who_served_at_what_cost(sdk: Sdk, model: str) -> None:
    raw = await sdk.raw(model, "say 12 words", extra_body={"no_such_parameter": 1})
    answer, headers = raw.parse(), raw.headers
    assert headers["x-request-id"].startswith("req_")
    assert headers["x-generation-id"] == answer.id
    assert headers["x-xrouter-provider"] == model.partition("/")[0]
    assert headers["x-xrouter-model"] == model
    assert headers["x-xrouter-attempts"] == "1"
    assert float(headers["x-xrouter-cost-rub"]) == pytest.approx(answer.usage.cost)
    assert headers["x-xrouter-dropped-params"] == "no_such_parameter"
    assert float(headers["x-xrouter-overhead-ms"]) >= 0


async def test_a_stream_tells_all_but_the_cost(sdk: Sdk, model: str) -> None:
    raw = await sdk.raw(model, "say 12 words", stream=True, extra_body={"no_such_parameter": 1})
    headers = raw.headers
    stream = raw.parse()
    chunks = [chunk async for chunk in stream] if hasattr(stream, "__aiter__") else list(stream)
    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-generation-id"] == chunks[0].id
    assert headers["x-xrouter-provider"] == model.partition("/")[0]
    assert headers["x-xrouter-model"] == model
    assert headers["x-xrouter-attempts"] == "1"
    assert headers["x-xrouter-dropped-params"] == "no_such_parameter"
    assert float(headers["x-xrouter-overhead-ms"]) >= 0
    assert "x-xrouter-cost-rub" not in headers


async def test_nothing_is_dropped_without_need(sdk: Sdk, model: str) -> None:
    raw = await sdk.raw(model, "hi", temperature=0.5, top_p=0.9, max_tokens=20)
    assert "x-xrouter-dropped-params" not in raw.headers


async def test_a_value_that_is_cut_is_told_and_a_strict_call_refuses_it(everybody: Gateway) -> None:
    async with session(everybody) as client:
        for stream in (False, True):
            body = chat_body("yandexgpt/yandexgpt/latest", temperature=1.7, stream=stream)
            async with client.post(CHAT, json=body) as answer:
                assert answer.status == 200
                assert answer.headers["x-xrouter-clamped"] == "temperature=1"
        body["provider"] = {"require_parameters": True}
        async with client.post(CHAT, json=body) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", "temperature")
        assert "as 1," in error["message"]
        body["temperature"] = 1
        async with client.post(CHAT, json=body) as answer:
            assert "x-xrouter-clamped" not in answer.headers
            assert answer.status == 200


async def test_a_strict_refusal_tells_a_parameter_from_a_value_of_it(everybody: Gateway) -> None:
    tools = [{"type": "function", "function": {"name": name, "parameters": {"type": "object"}}} for name in "fg"]
    for more, words in (
        ({"tools": tools, "tool_choice": "required"}, "knows the parameter 'tool_choice', but has no word"),
        ({"seed": 1}, "does not know the parameter 'seed'"),
    ):
        body = chat_body(GIGACHAT, provider={"require_parameters": True}, **more)
        async with session(everybody) as client, client.post(CHAT, json=body) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, error["code"]) == (400, "unsupported_parameter")
        assert words in error["message"]


async def test_failed_attempts_are_counted(sdk: Sdk) -> None:
    raw = await sdk.raw(GIGACHAT, "hi", extra_body={"models": [f"{GIGACHAT}+status-402", TBANK], "n": 1})
    assert raw.headers["x-xrouter-attempts"] == "1"
    moved = await sdk.raw(f"{GIGACHAT}+status-402", "hi", extra_body={"models": [f"{GIGACHAT}+status-402", TBANK]})
    assert moved.headers["x-xrouter-attempts"] == "2"
    assert moved.headers["x-xrouter-provider"] == "tbank"
    with pytest.raises(InternalServerError) as caught:
        await sdk.chat(f"{GIGACHAT}+status-402", "hi")
    assert caught.value.response.headers["x-xrouter-attempts"] == "1"


async def test_the_clients_deadline_is_kept(sdk: Sdk, model: str) -> None:
    for stream in (False, True):
        with pytest.raises(InternalServerError) as caught:
            ask = sdk.stream if stream else sdk.chat
            await ask(f"{model}+slow-headers", "hi", extra_headers={"x-xrouter-timeout-ms": "300"})
        assert caught.value.status_code == 504
        assert "0.3 s" in caught.value.message


@pytest.mark.parametrize("wrong", ["soon", "-1", "0", "nan", "inf"])
async def test_a_senseless_deadline_is_refused(sdk: Sdk, wrong: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        await sdk.chat(TBANK, "hi", extra_headers={"x-xrouter-timeout-ms": wrong})
    assert caught.value.param == "x-xrouter-timeout-ms"


async def test_the_sdks_read_timeout_is_a_deadline_for_whole_answers_only(sdk: Sdk) -> None:
    hurried: Any = {"extra_headers": {"x-stainless-read-timeout": "0.3"}}
    with pytest.raises(InternalServerError) as caught:
        await sdk.chat(f"{TBANK}+slow-600000", "hi", **hurried)
    assert caught.value.status_code == 504
    chunks = await sdk.stream(f"{TBANK}+slow-30", "say 20 words", **hurried)
    assert chunks[-1].choices[0].finish_reason == "stop"


def settled(place: Gateway, **wanted: str) -> dict[str, Any] | None:
    """The only row of its kind once its outcome is in the books: an intent may get there before."""
    rows = place.attempts(**wanted)
    assert len(rows) <= 1, rows
    return next((row for row in rows if row["state"] != "open"), None)


async def test_the_clients_own_request_id_is_kept(sdk: Sdk, place: Gateway, model: str) -> None:
    theirs = f"client-{uuid4()}"
    raw = await sdk.raw(model, "hi", extra_headers={"x-request-id": theirs})
    row = await asyncio.to_thread(wait_until, "the settled row", lambda: settled(place, client_request_id=theirs), 5.0)
    assert row["call_id"] == raw.parse().id
    assert row["request_id"] == raw.headers["x-request-id"] != theirs
    assert row["state"] == "succeeded"
    assert row["deployment"] == model


async def test_a_call_is_found_by_its_id_on_every_worker_within_a_second(pair: Gateway) -> None:
    headers = {"Authorization": f"Bearer {pair.key}"}
    body = {"model": GIGACHAT, "messages": [{"role": "user", "content": "say 5 words"}]}
    connector = aiohttp.TCPConnector(force_close=True)  # each request may meet the other worker
    async with aiohttp.ClientSession(pair.url, headers=headers, connector=connector) as session:

        async def ask() -> dict[str, Any]:
            async with session.post("/v1/chat/completions", json=body) as answer:
                found: dict[str, Any] = await answer.json()
                assert answer.headers["x-generation-id"] == found["id"]
                return found

        async def look(found: dict[str, Any]) -> None:
            async with asyncio.timeout(3):  # a second is promised; a shared machine may stall
                while True:
                    async with session.get("/api/v1/generation", params={"id": found["id"]}) as answer:
                        if answer.status == 200:
                            data = (await answer.json())["data"]
                            break
                        assert answer.status == 404
                    await asyncio.sleep(0.02)
            assert data["id"] == found["id"]
            assert data["tokens_prompt"] == found["usage"]["prompt_tokens"]
            assert data["tokens_completion"] == found["usage"]["completion_tokens"]
            assert data["total_cost"] == pytest.approx(found["usage"]["cost"])
            assert data["provider_name"] == "gigachat"

        made = await asyncio.gather(*(ask() for _ in range(8)))
        await asyncio.gather(*(look(found) for found in made for _ in range(3)))


async def test_the_reply_names_what_was_asked_for(sdk: Sdk) -> None:
    assert (await sdk.chat("both", "hi")).model == "both"
    assert (await sdk.chat("both-reversed", "hi")).model == "both-reversed"
    broken = f"{GIGACHAT}+status-500"
    served = await sdk.chat(broken, "hi", extra_body={"models": [broken, "both-reversed"]})
    assert served.model == "both-reversed"
    raw = await sdk.raw("both-reversed", "hi")
    assert raw.headers["x-xrouter-model"] == TBANK


def test_the_default_model_serves_an_unknown_one(pair: Gateway) -> None:
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "echo: served"}]}
    status, answer = http("POST", f"{pair.url}/v1/chat/completions", body, pair.key)
    assert status == 200
    assert answer["choices"][0]["message"]["content"] == "served"
    assert answer["model"] == "gpt-4o"
    (row,) = wait_until("the row", lambda: pair.attempts(call_id=answer["id"]), 5.0)
    assert row["deployment"] == TBANK
    # The list itself stays honest.
    assert http("GET", f"{pair.url}/v1/models/gpt-4o", key=pair.key)[0] == 404
