"""A silent stream is kept alive by comments; after them a failure is told in band."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway
from openai import APIError, AsyncOpenAI
from tests.journey.calls import CHAT, chat_body, events, session

PING = b": keep-alive\n\n"


@pytest.fixture(scope="module")
def patient(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {"XROUTER_STATUS_WAIT_S": "0.2", "XROUTER_PING_S": "0.1"}
    directory: Path = tmp_path_factory.mktemp("patient")
    config = config_for(vendors.url, timeouts={"first_s": 3.0})
    with gateway(directory, config, environment=environment) as running:
        yield running


@pytest.fixture
async def client(patient: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(
        base_url=f"{patient.url}/v1", api_key=patient.key, max_retries=0, _strict_response_validation=True
    ) as made:
        yield made


async def test_comments_until_the_answer_comes(vendors: Simulators, patient: Gateway, model: str) -> None:
    vendors.control("settings", first_token_s=1.0)
    async with session(patient) as client:
        body = chat_body(f"{model}+slow-first", "echo: late", stream=True)
        async with client.post(CHAT, json=body) as answer:
            assert answer.status == 200
            assert answer.headers["x-generation-id"].startswith("chatcmpl-")
            assert not [name for name in answer.headers if name.startswith("x-xrouter-")]
            first = await answer.content.readexactly(len(PING))
            data = first + await answer.read()
    assert first == PING, "the status line did not wait for the answer"
    assert data.count(PING) >= 2
    *chunks, done = events(data)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "late"


async def test_the_sdk_does_not_mind_comments(vendors: Simulators, client: AsyncOpenAI, model: str) -> None:
    vendors.control("settings", first_token_s=0.6)
    stream = await client.chat.completions.create(
        model=f"{model}+slow-first", messages=[{"role": "user", "content": "echo: late"}], stream=True
    )
    assert "".join([chunk.choices[0].delta.content or "" async for chunk in stream]) == "late"


async def test_a_failure_after_comments_is_told_in_band(patient: Gateway, client: AsyncOpenAI, model: str) -> None:
    deadline = {"x-xrouter-timeout-ms": "800"}
    async with session(patient) as plain:
        body = chat_body(f"{model}+slow-headers", stream=True)
        async with plain.post(CHAT, json=body, headers=deadline) as answer:
            assert answer.status == 200
            data = await answer.read()
    (told,) = events(data)
    assert data.startswith(PING)
    assert told["error"]["code"] == "provider_timeout"
    assert told["error"]["metadata"]["provider"] == model.partition("/")[0]

    stream = await client.chat.completions.create(
        model=f"{model}+slow-headers",
        messages=[{"role": "user", "content": "hi"}],
        stream=True,
        extra_headers=deadline,
    )
    with pytest.raises(APIError) as caught:
        async for _ in stream:
            pass
    assert model.partition("/")[0] in caught.value.message


async def test_a_failure_before_the_first_comment_keeps_its_status(patient: Gateway, model: str) -> None:
    body = chat_body(f"{model}+status-402", stream=True)
    async with session(patient) as plain, plain.post(CHAT, json=body) as answer:
        assert answer.status == 502


async def test_another_deployment_may_take_over_behind_the_comments(vendors: Simulators, patient: Gateway) -> None:
    """Comments are no content."""
    vendors.control("faults", model="GigaChat-2", fault="stall-0")
    async with session(patient) as plain:
        body = chat_body("both", "echo: taken over", stream=True)
        async with plain.post(CHAT, json=body) as answer:
            data = await answer.read()
    *chunks, done = events(data)
    assert data.startswith(PING)
    assert done == "[DONE]"
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == "taken over"
