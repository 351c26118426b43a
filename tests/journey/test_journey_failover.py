"""Another deployment takes over, unseen by the client: before the first content with all, after it with the rest."""

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


BROKEN = ["reset-0", "eof-0", "chunked-cut-0", "broken-json-0", "error-0", "empty", "clean-end-0"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("fault", BROKEN)
async def test_a_success_that_breaks_is_not_asked_for_again_on_the_same_deployment(
    sdk: Sdk, vendors: Simulators, model: str, fault: str, stream: bool
) -> None:
    """The vendor has done the work, and bills it."""
    ask = sdk.stream if stream else sdk.chat
    with pytest.raises(APIError):
        await ask(f"{model}+{fault}", "echo: lost")
    assert len(chats_seen(vendors)) == 1


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


async def test_after_content_another_goes_on_and_the_last_chunk_tells(
    place: Gateway, vendors: Simulators, sdk: Sdk, model: str
) -> None:
    wanted = {"models": [f"{model}+reset-3", OTHER[model]]}
    whole = (await sdk.chat(TBANK, "recite 30 words")).choices[0].message.content
    chunks = await sdk.stream(
        f"{model}+reset-3", "recite 30 words", extra_body=wanted, stream_options={"include_usage": True}
    )
    *spoken, last = chunks
    assert "".join(chunk.choices[0].delta.content or "" for chunk in spoken) == whole
    assert [chunk.choices[0].finish_reason for chunk in spoken if chunk.choices[0].finish_reason] == ["stop"]
    assert {chunk.id for chunk in chunks} == {last.id}
    assert {chunk.model for chunk in chunks} == {f"{model}+reset-3"}
    told = last.model_extra["xrouter"]["resumed"]
    assert spoken[-1].model_extra["xrouter"]["resumed"] == told
    assert [part["provider"] for part in told] == [model.partition("/")[0], OTHER[model].partition("/")[0]]
    assert [part["error"] for part in told] == ["provider_unavailable", None]

    def settled() -> list[dict[str, Any]] | None:
        found = [row for row in place.attempts(call_id=last.id) if row["state"] != "open"]
        return sorted(found, key=lambda row: int(row["number"])) if len(found) == 2 else None

    rows = await asyncio.to_thread(wait_until, "both rows", settled, 10.0)
    assert [row["id"] for row in rows] == [part["attempt_id"] for part in told]
    assert [row["state"] for row in rows] == ["failed", "succeeded"]
    assert last.usage.prompt_tokens == sum(row["usage"]["prompt_tokens"] for row in rows)
    assert last.usage.completion_tokens == sum(row["usage"]["completion_tokens"] for row in rows)


async def test_openrouters_form_goes_on_and_tells_it_too(place: Gateway, model: str) -> None:
    async with session(place) as client:
        body = chat_body(f"{model}+reset-3", "recite 30 words", stream=True)
        async with client.post("/api" + CHAT, json=body | {"models": [f"{model}+reset-3", OTHER[model]]}) as answer:
            *chunks, done = events(await answer.read())
    assert done == "[DONE]"
    assert len("".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1]).split()) == 30
    assert [part["provider"] for part in chunks[-1]["xrouter"]["resumed"]][-1] == OTHER[model].partition("/")[0]


async def test_nobody_goes_on_where_the_client_does_not_want_it(
    vendors: Simulators, place: Gateway, sdk: Sdk, model: str
) -> None:
    wanted = {"models": [f"{model}+reset-3", OTHER[model]]}
    unwanted = {"x-xrouter-continue": "false"}
    async with session(place) as client:
        body = chat_body(f"{model}+reset-3", "say 30 words", stream=True, **wanted)
        async with client.post(CHAT, json=body, headers=unwanted) as answer:
            assert answer.status == 200
            found = events(await answer.read())
    assert [event for event in found if event == "[DONE]"] == []
    *chunks, last = found
    assert sum(bool(chunk["choices"][0]["delta"].get("content")) for chunk in chunks) >= 1
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks)
    assert last["error"]["metadata"]["provider"] == model.partition("/")[0]
    assert len(chats_seen(vendors)) == 1

    with pytest.raises(APIError) as caught:
        await sdk.stream(f"{model}+reset-3", "say 30 words", extra_body=wanted, extra_headers=unwanted)
    assert model.partition("/")[0] in caught.value.message


async def test_when_all_fail_the_error_lists_all(sdk: Sdk) -> None:
    models = [f"{GIGACHAT}+status-402", f"{TBANK}+status-401"]
    with pytest.raises(APIError) as caught:
        await sdk.chat(models[0], "hi", extra_body={"models": models})
    told: Any = caught.value.body
    assert [attempt["model"] for attempt in told["metadata"]["attempts"]] == models
    assert [attempt["status"] for attempt in told["metadata"]["attempts"]] == [402, 401]
