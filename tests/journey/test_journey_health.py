"""What is found out about a deployment reaches every process, and a vendor that is down gets little more than one
attempt for each call."""

import asyncio
import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway, http, wait_until
from openai import AsyncOpenAI, InternalServerError
from tests.journey.calls import CHAT, chat_body, chats_seen
from tests.journey.conftest import GIGACHAT
from tests.redis_server import RedisServer

Start = Callable[..., Gateway]
CALLS = 400
AT_ONCE = 8


@pytest.fixture
def start(tmp_path: Path, vendors: Simulators) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(name: str, workers: int = 1, **environment: str) -> Gateway:
            config = config_for(vendors.url)
            return stack.enter_context(gateway(tmp_path / name, config, workers=workers, environment=environment))

        yield started


def ask(place: Gateway, model: str = "both") -> int:
    return http("POST", f"{place.url}{CHAT}", chat_body(model), place.key)[0]


def row(place: Gateway, model: str = GIGACHAT) -> dict[str, Any]:
    status, found = http("GET", f"{place.url}/admin/deployments", key=place.key)
    assert status == 200, found
    return next(one for one in found["data"] if one["id"] == model)


def told(place: Gateway) -> bool:
    found = row(place)
    return found["ejected"] == "quota_exhausted" and found["told_by_others"]


def test_an_ejection_reaches_the_other_worker_through_the_supervisor(start: Start, vendors: Simulators) -> None:
    place = start("pair", workers=2)
    vendors.control("faults", model="GigaChat-2", fault="status-402")
    assert ask(place) == 200
    wait_until("the other worker knows", partial(told, place), 10.0, place.log)
    for _ in range(20):
        assert row(place)["ejected"] == "quota_exhausted", "whichever worker answers"
    seen = len(chats_seen(vendors))
    for _ in range(20):
        assert ask(place) == 200
    assert len(chats_seen(vendors)) - seen == 20, "nobody asks the empty account again"
    assert place.log.read_text().count("deployment ejected") == 2, "a line for each worker"


def test_an_ejection_reaches_the_other_node_through_redis(start: Start, vendors: Simulators, redis_url: str) -> None:
    one, two = (start(name, XROUTER_REDIS_URL=redis_url) for name in ("one", "two"))
    vendors.control("faults", model="GigaChat-2", fault="status-402")
    assert ask(one) == 200
    wait_until("the other node knows", partial(told, two), 10.0, two.log)
    assert ask(two) == 200
    assert row(two)["failed"] == 0


def test_a_frozen_redis_holds_nothing_up(start: Start, vendors: Simulators, own_redis: RedisServer) -> None:
    place = start("alone", XROUTER_REDIS_URL=own_redis.url())
    assert ask(place) == 200
    own_redis.freeze()
    try:
        vendors.control("faults", model="GigaChat-2", fault="status-503")
        for _ in range(30):
            assert ask(place) == 200
        assert row(place)["ejected"] in ("failures", "probing", None)
        assert row(place)["ejections"] >= 1
    finally:
        own_redis.thaw()


async def test_a_vendor_that_is_down_gets_little_more_than_a_call_for_each_call(
    start: Start, vendors: Simulators
) -> None:
    """The official SDK repeats by itself twice, unless it is told not to."""
    place = start("down")
    for model in ("GigaChat-2", "t-pro-it-2.1"):
        vendors.control("faults", model=model, fault="status-503")
    before = len(chats_seen(vendors))
    refusals: list[str | None] = []
    numbers = iter(range(CALLS))

    async def client(sdk: AsyncOpenAI) -> None:
        for _ in numbers:
            with pytest.raises(InternalServerError) as caught:
                await sdk.chat.completions.create(model="both", messages=[{"role": "user", "content": "hi"}])
            refusals.append(caught.value.response.headers.get("x-xrouter-retry"))

    began = time.monotonic()  # noqa: TID251 - real time, for a budget that fills with it
    async with AsyncOpenAI(base_url=f"{place.url}/v1", api_key=place.key, max_retries=2) as sdk:
        await asyncio.gather(*(client(sdk) for _ in range(AT_ONCE)))
    elapsed_s = time.monotonic() - began  # noqa: TID251 - the same
    seen = len(chats_seen(vendors)) - before
    print(json.dumps({"calls": CALLS, "upstream": seen, "seconds": round(elapsed_s, 1)}))  # noqa: T201 - the figure
    assert seen <= max(1.25 * CALLS, 1.2 * CALLS + elapsed_s + 20)
    assert refusals.count("budget_exhausted") > CALLS / 2
    listed = {
        one["id"]: one["ejected"] for one in http("GET", f"{place.url}/admin/deployments", key=place.key)[1]["data"]
    }
    assert listed[GIGACHAT] in ("failures", "probing")
