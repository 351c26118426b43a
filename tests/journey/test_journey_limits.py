"""Limits over real processes: workers of one host, and nodes that share a Redis; and what clients are told."""

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import openai
import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway, http
from tests.journey.test_journey_accounts import make
from tests.redis_server import RedisServer

MODEL = "tbank/t-pro-it-2.1"
SIXTY = {"unit": "requests", "amount": 60, "window": "minute"}
PEPPER = "the-same-pepper-on-every-host-0123456789"


@dataclass
class Limited:
    """A gateway, and a key with limits."""

    gateway: Gateway
    key: str

    @property
    def url(self) -> str:
        return self.gateway.url


Start = Callable[..., Limited]


@pytest.fixture
def start(vendors: Simulators, tmp_path: Path) -> Iterator[Start]:
    """Starts a gateway and makes a key with these limits, in a team with those of `team`; `key` is one that is there
    already, in a database that others have, too."""
    with ExitStack() as stack:

        def started(
            name: str, *limits: Any, team: Any = (), key: str | None = None, workers: int = 1, **environment: str
        ) -> Limited:
            variables = {"XROUTER_DRAIN_MAX_S": "2", **environment}
            made = gateway(tmp_path / name, config_for(vendors.url), workers=workers, environment=variables)
            place = stack.enter_context(made)
            if key is None:
                organisation = make(place, "organisations")
                below = make(place, "teams", organisation_id=organisation["id"], limits=list(team))
                key = make(place, "keys", name="ci", team_id=below["id"], limits=list(limits))["key"]
            return Limited(place, key)

        yield started


def _day(requests: int) -> dict[str, Any]:
    return {"unit": "requests", "amount": requests, "window": "day"}


def body(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 5, **more}


async def statuses(places: list[Limited], seconds: float, clients: int = 3) -> tuple[dict[int, int], float]:
    """How often each status was answered to clients who ask without a pause but for one after a refusal, and how long
    they asked."""
    found: dict[int, int] = {}
    began = time.monotonic()  # noqa: TID251 - real processes take real time

    async def client(session: aiohttp.ClientSession, place: Limited) -> None:
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
    """60 at once and one a second were allowed; all answers were admissions or refusals."""
    assert set(found) == {200, 429}
    assert 0.95 * (60 + seconds) <= found[200] <= 60 + elapsed


async def test_two_workers_admit_the_limit_and_no_more(start: Start) -> None:
    place = start("pair", SIXTY, workers=2)
    found, elapsed = await statuses([place], 5.0, clients=6)
    check(found, elapsed, 5.0)


async def test_three_nodes_on_one_redis_admit_the_limit_and_no_more(
    start: Start, redis_url: str, postgres_url: str
) -> None:
    """Two limits of the same size, one of them exact: both must pass."""
    shared = {"XROUTER_REDIS_URL": redis_url, "XROUTER_DATABASE_URL": postgres_url, "XROUTER_PEPPER": PEPPER}
    first = start("node0", SIXTY, team=[SIXTY | {"exact": True}], **shared)
    nodes = [first, *(start(f"node{number}", key=first.key, **shared) for number in (1, 2))]
    found, elapsed = await statuses(nodes, 5.0)
    check(found, elapsed, 5.0)


async def test_with_redis_frozen_every_call_is_answered_and_the_share_is_kept(
    start: Start, own_redis: RedisServer
) -> None:
    place = start("alone", _day(20), XROUTER_REDIS_URL=own_redis.url(), XROUTER_LIMITS_SHARE="0.5")
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


async def metrics(place: Limited) -> str:
    async with aiohttp.ClientSession() as session, session.get(f"{place.url}/metrics") as answer:
        return await answer.text()


def test_limits_outlive_a_restart_and_kill_9(start: Start) -> None:
    place = start("restarted", _day(3), {"unit": "concurrent", "amount": 2})
    url = f"{place.url}/v1/chat/completions"
    assert [http("POST", url, body(), place.key)[0] for _ in range(2)] == [200, 200]
    place.gateway.kill()
    place.gateway.start()
    assert [http("POST", url, body(), place.key)[0] for _ in range(2)] == [200, 429]


def test_the_sdk_is_told_whose_limit_it_is_and_what_is_left(start: Start) -> None:
    place = start("told", _day(3), {"unit": "tokens", "amount": 10_000, "window": "minute"})
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
    place = start("leaving", {"unit": "concurrent", "amount": 1}, workers=2)
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
