"""What stands beside the chat, through real processes: completions, several prompts, OpenRouter's form, the key."""

import asyncio
from typing import Any

import pytest
from campaigns.stage import Gateway, http, wait_until
from tests.journey.calls import CHAT, chat_body, events, row_of, session
from tests.journey.conftest import BOTH, GIGACHAT, TBANK, Sdk


@pytest.mark.parametrize("model", BOTH)
async def test_a_completion_is_a_chat_of_one_message(sdk: Sdk, place: Gateway, model: str) -> None:
    found = await sdk.run(lambda client: client.completions.create(model=model, prompt="echo: hi", max_tokens=20))
    assert (found.object, found.choices[0].text, found.choices[0].finish_reason) == ("text_completion", "hi", "stop")
    row = await row_of(place, call_id=found.id)
    assert (row["deployment"], row["dialect"], row["streamed"]) == (model, "openai", False)


async def test_each_prompt_is_an_attempt_and_the_books_hold_them_together(place: Gateway) -> None:
    body = {"model": TBANK, "prompt": ["echo: one", "echo: two", "echo: three"]}
    status, answer = await asyncio.to_thread(http, "POST", f"{place.url}/v1/completions", body, place.key)
    assert status == 200
    assert [choice["text"] for choice in answer["choices"]] == ["one", "two", "three"]

    def settled() -> list[dict[str, Any]]:
        rows = place.attempts(call_id=answer["id"])
        return rows if len(rows) == 3 and all(row["state"] == "succeeded" for row in rows) else []

    rows = await asyncio.to_thread(wait_until, "three rows", settled, 10.0)
    assert sorted(row["number"] for row in rows) == [1, 2, 3]
    assert sum(row["usage"]["prompt_tokens"] for row in rows) == answer["usage"]["prompt_tokens"]
    assert sum(float(row["cost_rub"]) for row in rows) == pytest.approx(answer["usage"]["cost"])


@pytest.mark.parametrize("model", BOTH)
async def test_openrouters_form_through_the_whole_product(place: Gateway, model: str) -> None:
    body = {"model": model, "messages": [{"role": "user", "content": "say 5 words"}]}
    async with session(place) as client:
        async with client.post("/api/v1/chat/completions", json=body) as reply:
            whole = await reply.json()
            assert reply.headers["x-generation-id"] == whole["id"]
        async with client.post("/api/v1/chat/completions", json=body | {"stream": True}) as reply:
            *chunks, done = events(await reply.read())
        async with client.post(
            "/api/v1/chat/completions", json=body | {"model": f"{model}+reset-2", "stream": True}
        ) as reply:
            *_, failed, last = events(await reply.read())
    assert whole["provider"] == model.partition("/")[0]
    assert whole["choices"][0]["native_finish_reason"]
    assert {chunk["provider"] for chunk in chunks} == {whole["provider"]}
    assert done == last == "[DONE]"
    assert (failed["error"]["code"], failed["choices"][0]["finish_reason"]) == (502, "error")
    assert (await row_of(place, call_id=whole["id"]))["dialect"] == "openrouter"


async def test_a_key_learns_what_it_spent(place: Gateway) -> None:
    def spent() -> float:
        status, found = http("GET", f"{place.url}/api/v1/key", key=place.key)
        assert status == 200
        return float(found["data"]["usage"])

    before = await asyncio.to_thread(spent)
    body = {"model": TBANK, "messages": [{"role": "user", "content": "say 200 words"}]}
    _, answer = await asyncio.to_thread(http, "POST", f"{place.url}/v1/chat/completions", body, place.key)
    await asyncio.to_thread(wait_until, "the sum", lambda: spent() >= before + answer["usage"]["cost"] * 0.999, 10.0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/chat/completions", 405),
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/v1/models", 405),
        ("GET", "/api/v1/models/nobody/nothing", 404),
    ],
)
async def test_errors_below_api_have_numbers_whoever_makes_them(
    place: Gateway, method: str, path: str, status: int
) -> None:
    async with session(place) as client, client.request(method, path) as reply:
        assert reply.status == status
        assert (await reply.json())["error"]["code"] == status
    async with session(place) as client, client.get(f"{path}?x=" + "y" * 20_000) as reply:
        assert reply.status == (await reply.json())["error"]["code"] == 414


@pytest.mark.parametrize(("path", "said"), [("chat/completions", {}), ("completions", {"prompt": "say 3 words"})])
async def test_a_stream_below_api_ends_with_what_it_used_and_cost(place: Gateway, path: str, said: Any) -> None:
    body = chat_body(TBANK, "say 3 words", stream=True) if not said else {"model": TBANK, "stream": True, **said}
    async with session(place) as client:
        async with client.post(f"/api/v1/{path}", json=body) as answer:
            *_, last, done = events(await answer.read())
        assert (last["choices"], done) == ([], "[DONE]")
        assert last["usage"]["completion_tokens"] > 0
        assert last["usage"]["cost"] > 0
        async with client.post(f"/v1/{path}", json=body) as answer:
            assert all(not chunk.get("usage") for chunk in events(await answer.read()) if chunk != "[DONE]")
        if not said:
            async with client.post(f"/api/v1/{path}", json={**body, "usage": {"include": False}}) as answer:
                assert all(not chunk.get("usage") for chunk in events(await answer.read()) if chunk != "[DONE]")


async def test_what_has_no_price_says_so_where_it_says_its_cost(everybody: Gateway) -> None:
    async with session(everybody) as client:
        for model, unpriced in (("anthropic/claude-sonnet-5-5", True), (TBANK, None)):
            async with client.post(CHAT, json=chat_body(model)) as answer:
                usage, told = (await answer.json())["usage"], answer.headers.get("x-xrouter-unpriced")
            assert (usage.get("unpriced"), told) == (unpriced, "true" if unpriced else None)
            assert (float(answer.headers["x-xrouter-cost-rub"]) == 0) is bool(unpriced)


def test_gigachat_is_in_the_list_of_either_form(place: Gateway) -> None:
    for base in ("/v1", "/api/v1"):
        status, found = http("GET", f"{place.url}{base}/models", key=place.key)
        assert status == 200
        assert GIGACHAT in [model["id"] for model in found["data"]]
