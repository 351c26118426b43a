"""Two nodes, one Redis, one account at the vendor: its limit holds for both together, also while Redis is frozen."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway
from tests.journey.calls import at_once, chat_body, session
from tests.journey.conftest import ENVIRONMENT, account
from tests.redis_server import RedisServer

MODEL = "shared/GigaChat-2"
LIMIT = 4


@pytest.fixture
def nodes(vendors: Simulators, own_redis: RedisServer, tmp_path: Path) -> Iterator[list[Gateway]]:
    config = config_for(vendors.url)
    config["providers"]["shared"] = account(vendors.url, "shared") | {"max_concurrency": LIMIT, "adaptive": False}
    environment = ENVIRONMENT | {"XROUTER_REDIS_URL": own_redis.url()}
    with ExitStack() as stack:
        yield [
            stack.enter_context(gateway(tmp_path / name, config, workers=workers, environment=environment))
            for name, workers in (("one", 1), ("two", 2))
        ]


async def share(node: Gateway) -> int | None:
    """Of the limit, what the node has; as the worker that answers sees it."""
    async with session(node, reuse=False) as client, client.get("/admin/pressure") as answer:
        (found,) = [one for one in (await answer.json())["credentials"] if one["account"] == "shared"]
        given: int | None = found["share"]
        return given


async def test_the_limit_holds_for_all_nodes_together(
    vendors: Simulators, nodes: list[Gateway], own_redis: RedisServer
) -> None:
    vendors.control("settings", limits={"GIGACHAT_API_CORP": LIMIT}, pace_ms=2)
    for count in (12, 12):
        ended = await asyncio.gather(*(at_once(node, count, chat_body(MODEL, "say 5 words")) for node in nodes))
        assert {status for answers in ended for status, _ in answers} == {200}
    assert not [row for row in vendors.requests() if row["status"] == 429]
    assert vendors.state()["credentials"]["shared"]["most"] <= LIMIT

    shares = [await share(node) for node in nodes]
    assert None not in shares
    own_redis.freeze()
    try:
        ended = await asyncio.gather(*(at_once(node, 8, chat_body(MODEL, "say 5 words")) for node in nodes))
        assert {status for answers in ended for status, _ in answers} == {200}
        assert [await share(node) for node in nodes] == shares
        assert not [row for row in vendors.requests() if row["status"] == 429]
    finally:
        own_redis.thaw()


async def test_the_first_call_of_an_idle_node_does_not_wait_for_a_busy_one(
    vendors: Simulators, nodes: list[Gateway]
) -> None:
    vendors.control("settings", limits={"GIGACHAT_API_CORP": LIMIT}, pace_ms=100)
    busy, idle = nodes
    calls = asyncio.create_task(at_once(busy, 24, chat_body(MODEL, "say 10 words")))
    async with asyncio.timeout(30):
        while await share(busy) != LIMIT - 1:
            await asyncio.sleep(0.02)
    answer = await at_once(idle, 1, chat_body(MODEL, "echo: mine"))
    assert [status for status, _ in answer] == [200]
    assert not calls.done(), "it did not wait until the other one had nothing to do"
    assert {status for status, _ in await calls} == {200}
    assert not [row for row in vendors.requests() if row["status"] == 429]
