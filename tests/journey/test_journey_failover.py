"""Another deployment takes over until the first content, unseen by the client, and never after it."""

import asyncio
from typing import Any

import pytest
from campaigns.stage import Gateway, Simulators, wait_until
from openai import APIError
from tests.journey.calls import CHAT, chat_body, chats_seen, events, session
from tests.journey.conftest import FORMS, GIGACHAT, GIGACHAT_V2, TBANK, Sdk


@pytest.fixture(params=FORMS)
def model(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


OTHER = {GIGACHAT: TBANK, TBANK: GIGACHAT, GIGACHAT_V2: TBANK}
EARLY = ["status-500", "status-402", "html-502", "reset-0", "eof-0", "error-0", "empty", "broken-json-0"]


@pytest.mark.parametrize("fault", EARLY)
async def test_the_next_of_the_list_takes_over(sdk: Sdk, model: str, fault: str) -> None:
    wanted = {"models": [f"{model}+{fault}", OTHER[model]]}

    whole = await sdk.chat(f"{model}+{fault}", "echo: served", extra_body=wanted)
    assert whole.choices[0].message.content == "served"
    assert whole.model == OTHER[model]

    chunks = await sdk.stream(f"{model}+{fault}", "echo: served", extra_body=wanted)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "served"
    assert {chunk.model for chunk in chunks} == {OTHER[model]}


@pytest.mark.parametrize("stream", [False, True])
async def test_the_next_deployment_of_an_alias_takes_over(
    sdk: Sdk, vendors: Simulators, place: Gateway, stream: bool
) -> None:
    vendors.control("faults", model="GigaChat-2", fault="status-503")
    raw = await sdk.raw("both", "echo: served", stream=stream)
    answer = raw.parse()
    if stream:
        chunks = [chunk async for chunk in answer] if hasattr(answer, "__aiter__") else list(answer)
        answer = chunks[0]
    assert answer.model == "both"
    assert raw.headers["x-xrouter-provider"] == "tbank"
    assert raw.headers["x-xrouter-attempts"] == "2"

    def settled() -> list[dict[str, Any]] | None:
        found = [row for row in place.attempts(call_id=answer.id) if row["state"] != "open"]
        return sorted(found, key=lambda row: int(row["number"])) if len(found) == 2 else None

    rows = await asyncio.to_thread(wait_until, "both rows", settled, 10.0)
    assert [(row["number"], row["provider"], row["state"]) for row in rows] == [
        (1, "gigachat", "failed"),
        (2, "tbank", "succeeded"),
    ]


async def test_nobody_takes_over_after_content(vendors: Simulators, place: Gateway, sdk: Sdk, model: str) -> None:
    wanted = {"models": [f"{model}+reset-3", OTHER[model]]}
    async with session(place) as client:
        body = chat_body(f"{model}+reset-3", "say 30 words", stream=True, **wanted)
        async with client.post(CHAT, json=body) as answer:
            assert answer.status == 200
            found = events(await answer.read())
    assert [event for event in found if event == "[DONE]"] == []
    *chunks, last = found
    assert sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in chunks) >= 1
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    assert last["error"]["metadata"]["provider"] == model.partition("/")[0]
    assert len(chats_seen(vendors)) == 1

    with pytest.raises(APIError) as caught:
        await sdk.stream(f"{model}+reset-3", "say 30 words", extra_body=wanted)
    assert model.partition("/")[0] in caught.value.message


async def test_when_all_fail_the_error_lists_all(sdk: Sdk) -> None:
    models = [f"{GIGACHAT}+status-402", f"{TBANK}+status-401"]
    with pytest.raises(APIError) as caught:
        await sdk.chat(models[0], "hi", extra_body={"models": models})
    told: Any = caught.value.body
    assert [attempt["model"] for attempt in told["metadata"]["attempts"]] == models
    assert [attempt["status"] for attempt in told["metadata"]["attempts"]] == [402, 401]
