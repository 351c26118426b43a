"""More calls than a worker, or a vendor's account, may serve: 503 in words, at once or within two seconds, and whoever
looks after the machine still gets in."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway
from tests.journey.calls import CHAT, chat_body, session
from tests.journey.conftest import ENVIRONMENT, GIGACHAT, account


@pytest.fixture(scope="module")
def small(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = ENVIRONMENT | {
        "XROUTER_MAX_IN_FLIGHT": "2",
        "XROUTER_OVERLOAD_QUEUE": "1",
        "XROUTER_OVERLOAD_WAIT_S": "0.3",
        "XROUTER_MAX_LAG_S": "30",
    }
    config = config_for(vendors.url)
    with gateway(tmp_path_factory.mktemp("small"), config, environment=environment) as running:
        yield running


async def test_a_full_worker_refuses_in_words_and_its_keeper_gets_in(vendors: Simulators, small: Gateway) -> None:
    vendors.control("faults", model="GigaChat-2", fault="slow-headers", times=2)
    async with session(small, reuse=False) as client:
        busy = [asyncio.create_task(client.post(CHAT, json=chat_body(GIGACHAT))) for _ in range(2)]
        while vendors.state()["in_flight"]["now"] < 2:
            await asyncio.sleep(0.01)
        more = [client.post(CHAT, data=b"{", headers={"content-type": "application/json"}) for _ in range(3)]
        for answer in await asyncio.gather(*more):
            body = await answer.json()
            assert answer.status == 503, body
            assert body["error"]["code"] == "overloaded"
            assert "already serves 2 requests" in body["error"]["message"]
            assert (answer.headers["retry-after"], answer.headers["x-should-retry"]) == ("1", "true")
        for path in ("/health/live", "/health/ready", "/metrics", "/admin/attempts"):
            async with client.get(path) as answer:
                assert answer.status == 200
        for call in busy:
            call.cancel()
        await asyncio.gather(*busy, return_exceptions=True)

        async def served() -> int:
            async with client.post(CHAT, json=chat_body(GIGACHAT)) as answer:
                await answer.read()
                return answer.status

        async with asyncio.timeout(20):
            while await served() != 200:
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def queues(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    config = config_for(vendors.url)
    one: dict[str, Any] = account(vendors.url, "one-slot", "GIGACHAT_API_PERS")
    config["providers"]["one"] = one | {"max_waiting": 2}
    with gateway(tmp_path_factory.mktemp("queues"), config, environment=ENVIRONMENT) as running:
        yield running


async def test_a_full_queue_for_a_slot_refuses_at_once(vendors: Simulators, queues: Gateway) -> None:
    vendors.control("settings", pace_ms=30)
    body = chat_body("one/GigaChat-2", "say 10 words")
    async with session(queues, reuse=False) as client:

        async def one() -> tuple[int, Any, Any]:
            async with client.post(CHAT, json=body) as answer:
                return answer.status, await answer.json(), answer.headers

        ended = await asyncio.gather(*(one() for _ in range(6)))
    refused = [(found, headers) for status, found, headers in ended if status == 503]
    assert sorted(status for status, _, _ in ended).count(200) >= 3
    assert len(refused) >= 1
    for found, headers in refused:
        assert found["error"]["code"] == "provider_queue_full"
        assert "2 more wait already" in found["error"]["message"]
        assert (headers["retry-after"], headers["x-should-retry"]) == ("1", "true")
        assert headers["x-xrouter-attempts"] == "0", "the vendor was not called"
    assert vendors.state()["credentials"]["one-slot"]["most"] == 1


async def test_one_tenant_with_many_calls_does_not_starve_another(
    vendors: Simulators, pair: Gateway, place: Gateway
) -> None:
    """Ten calls of one key wait; the single call of another is among the first that are served."""
    vendors.control("settings", pace_ms=10)
    async with session(place) as admin, admin.post("/admin/keys", json={"name": "single"}) as answer:
        single = (await answer.json())["key"]
    body = chat_body("pers/GigaChat-2", "say 5 words")
    order: list[str] = []

    async def call(client: Any, who: str) -> None:
        async with client.post(CHAT, json=body) as answer:
            assert answer.status == 200, await answer.text()
            await answer.read()
            order.append(who)

    async with session(place, reuse=False) as crowd, session(place, key=single, reuse=False) as other:
        calls = [asyncio.create_task(call(crowd, "crowd")) for _ in range(10)]
        while not order:
            await asyncio.sleep(0.005)
        calls.append(asyncio.create_task(call(other, "single")))
        await asyncio.gather(*calls)
    assert order.index("single") <= 5, order
