"""Limits over real processes: workers of one host, and nodes that share a Redis; and what clients are told."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway, http
from tests.redis_server import RedisServer

from xrouter.core.limits import DAY_S

PROGRAM = (sys.executable, str(Path(__file__).parent / "programs" / "limited_serve.py"))
MODEL = "tbank/t-pro-it-2.1"

Start = Callable[..., Gateway]


@pytest.fixture
def start(vendors: Simulators, tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway whose every key has these limits."""
    with ExitStack() as stack:

        def started(name: str, *limits: Any, workers: int = 1, **environment: str) -> Gateway:
            variables = {"LIMITS": json.dumps(limits), "XROUTER_DRAIN_MAX_S": "2", **environment}
            config = config_for(vendors.url)
            made = gateway(tmp_path / name, config, workers=workers, environment=variables, program=PROGRAM)
            return stack.enter_context(made)

        yield started


def body(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 5, **more}


async def statuses(places: list[Gateway], seconds: float, clients: int = 3) -> tuple[dict[int, int], float]:
    """How often each status was answered to clients who ask without a pause but for one after a refusal, and how long
    they asked."""
    found: dict[int, int] = {}
    began = time.monotonic()  # noqa: TID251 - real processes take real time

    async def client(session: aiohttp.ClientSession, place: Gateway) -> None:
        headers = {"Authorization": f"Bearer {place.key}", "Connection": "close"}
        while time.monotonic() - began < seconds:  # noqa: TID251 - the same
            async with session.post(f"{place.url}/v1/chat/completions", json=body(), headers=headers) as answer:
                await answer.read()
                found[answer.status] = found.get(answer.status, 0) + 1
                if answer.status == 429:
                    assert int(answer.headers["retry-after"]) >= 1
                    await asyncio.sleep(0.02)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session, place) for place in places for _ in range(clients)))
    return found, time.monotonic() - began  # noqa: TID251 - the same


def check(found: dict[int, int], elapsed: float, seconds: float) -> None:
    """50 at once and 10 a second were allowed; all answers were admissions or refusals."""
    assert set(found) == {200, 429}
    assert 0.95 * (50 + 10 * seconds) <= found[200] <= 50 + 10 * elapsed


async def test_two_workers_admit_the_limit_and_no_more(start: Start) -> None:
    place = start("pair", ["requests", 50, 5], workers=2)
    found, elapsed = await statuses([place], 3.0, clients=6)
    check(found, elapsed, 3.0)


async def test_three_nodes_on_one_redis_admit_the_limit_and_no_more(start: Start, redis_url: str) -> None:
    """Two limits of the same size, one of them exact: both must pass."""
    both = (["requests", 50, 5], ["requests", 50, 5, True])
    nodes = [start(f"node{number}", *both, XROUTER_REDIS_URL=redis_url) for number in range(3)]
    found, elapsed = await statuses(nodes, 3.0)
    check(found, elapsed, 3.0)


async def test_with_redis_frozen_every_call_is_answered_and_the_share_is_kept(
    start: Start, own_redis: RedisServer
) -> None:
    place = start("alone", ["requests", 20, DAY_S], XROUTER_REDIS_URL=own_redis.url(), XROUTER_LIMITS_SHARE="0.5")
    own_redis.freeze()
    try:
        found, _ = await statuses([place], 1.5)
        assert found[200] == 10
        assert set(found) == {200, 429}
        assert 'xrouter_limits{counted="host"} 1.0' in await metrics(place)
    finally:
        own_redis.thaw()
    async with asyncio.timeout(5):
        while 'xrouter_limits{counted="redis"} 1.0' not in await metrics(place):
            await asyncio.sleep(0.05)


async def metrics(place: Gateway) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{place.url}/metrics") as answer:
        return await answer.text()


def test_limits_outlive_a_restart_and_kill_9(start: Start) -> None:
    place = start("restarted", ["requests", 3, DAY_S], ["concurrent", 2, 0])
    url = f"{place.url}/v1/chat/completions"
    assert [http("POST", url, body(), place.key)[0] for _ in range(2)] == [200, 200]
    place.kill()
    place.start()
    assert [http("POST", url, body(), place.key)[0] for _ in range(2)] == [200, 429]


def test_the_sdk_is_told_whose_limit_it_is_and_what_is_left(start: Start) -> None:
    place = start("told", ["requests", 3, DAY_S], ["tokens", 10_000, 60])
    with openai.OpenAI(base_url=f"{place.url}/v1", api_key=place.key, max_retries=0) as client:
        whole = client.chat.completions.with_raw_response.create(**body())
        with client.chat.completions.with_streaming_response.create(**body(stream=True)) as streamed:
            streamed.read()
        client.chat.completions.create(**body())
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(**body())
    assert whole.headers["x-ratelimit-limit-requests"] == "3"
    assert whole.headers["x-ratelimit-remaining-requests"] == "2"
    assert whole.headers["x-ratelimit-reset-requests"].startswith(("7h59m", "8h0m"))
    assert streamed.headers["x-ratelimit-remaining-requests"] == "1"
    assert 9_000 < int(streamed.headers["x-ratelimit-remaining-tokens"]) < 10_000
    error = caught.value
    assert error.code == "rate_limit_exceeded"
    assert error.type == "rate_limit_error"
    assert "API key 'ci' has reached its limit of 3 requests per day. Try again in " in error.message
    assert 28_000 < int(error.response.headers["retry-after"]) <= 28_800
    assert error.response.headers["x-should-retry"] == "false"
    assert error.response.headers["x-ratelimit-remaining-requests"] == "0"
    status, answer = http("POST", f"{place.url}/api/v1/chat/completions", body(), place.key)
    assert (status, answer["error"]["code"]) == (429, 429)
    assert answer["error"]["metadata"]["error_type"] == "rate_limit_exceeded"
    assert answer["error"]["metadata"]["limit"]["amount"] == 3


async def test_a_client_who_leaves_a_stream_makes_room(start: Start, vendors: Simulators) -> None:
    place = start("leaving", ["concurrent", 1, 0], workers=2)
    url, headers = f"{place.url}/v1/chat/completions", {"Authorization": f"Bearer {place.key}"}
    stalled = body(stream=True, model=f"{MODEL}+stall-2")
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            async with session.post(url, json=stalled, headers=headers) as answer:
                assert answer.status == 200
                async with session.post(url, json=body(), headers=headers) as refused:
                    assert refused.status == 429
                    assert "1 call at once" in (await refused.json())["error"]["message"]
                answer.close()
            async with asyncio.timeout(5):
                while True:
                    async with session.post(url, json=body(), headers=headers) as answer:
                        if answer.status == 200:
                            break
                    await asyncio.sleep(0.02)
