"""Two gateways, one Redis that goes away and comes back: together they never admit more than the limit."""

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway
from tests.redis_server import RedisServer

PROGRAM = (sys.executable, str(Path(__file__).parent / "programs" / "limited_serve.py"))
AMOUNT, WINDOW_S = 60, 12
AWAY_S = 7.0

Start = Callable[..., Gateway]


@pytest.fixture
def start(vendors: Simulators, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def started(name: str, *limits: Any, redis: RedisServer) -> Gateway:
            variables = {"LIMITS": json.dumps(limits), "XROUTER_DRAIN_MAX_S": "2", "XROUTER_REDIS_URL": redis.url()}
            made = gateway(tmp_path / name, config_for(vendors.url), environment=variables, program=PROGRAM)
            return stack.enter_context(made)

        yield started


class Load:
    """Calls to each gateway in turn, four times as many as are allowed."""

    def __init__(self, places: list[Gateway], session: aiohttp.ClientSession) -> None:
        self.places, self.session = places, session
        self.admitted = 0
        self.began = time.monotonic()  # noqa: TID251 - real processes take real time

    async def call(self, place: Gateway) -> None:
        body = {
            "model": "tbank/t-pro-it-2.1", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5,
        }  # fmt: skip
        headers = {"Authorization": f"Bearer {place.key}"}
        async with self.session.post(f"{place.url}/v1/chat/completions", json=body, headers=headers) as answer:
            await answer.read()
            assert answer.status in (200, 429)
            self.admitted += answer.status == 200

    async def run(self, seconds: float) -> None:
        until = time.monotonic() + seconds  # noqa: TID251 - the same
        while time.monotonic() < until:  # noqa: TID251 - the same
            for place in self.places:
                await self.call(place)
            await asyncio.sleep(0.08)

    def most(self) -> float:
        """What a single store would have admitted by now."""
        return AMOUNT + (time.monotonic() - self.began) * AMOUNT / WINDOW_S  # noqa: TID251 - the same

    async def counted(self, by: str) -> None:
        async with asyncio.timeout(8):
            for place in self.places:
                while True:
                    async with self.session.get(f"{place.url}/metrics") as answer:
                        if f'xrouter_limits{{counted="{by}"}} 1.0' in await answer.text():
                            break
                    await asyncio.sleep(0.1)


@pytest.mark.parametrize(("kind", "exact"), [("frozen", False), ("restarted", True)])  # 25 s each; the model has all
async def test_two_gateways_admit_the_limit_and_no_more_through_an_outage(
    start: Start, own_redis: RedisServer, kind: str, exact: bool
) -> None:
    limits = (["requests", AMOUNT, WINDOW_S, exact],)
    async with aiohttp.ClientSession() as session:
        load = Load([start(name, *limits, redis=own_redis) for name in ("one", "two")], session)
        await load.counted("redis")
        load.began = time.monotonic()  # noqa: TID251 - the same
        await load.run(4.0)
        if kind == "frozen":
            own_redis.freeze()
        else:
            own_redis.stop()
        try:
            await load.run(AWAY_S)
            await load.counted("host")
            during = load.admitted, load.most()
        finally:
            if kind == "frozen":
                own_redis.thaw()
            else:
                own_redis.start()
        await load.run(3.0)
        await load.counted("redis")
        await load.run(2.0)
        most = load.most()
    assert during[0] <= during[1] + 2
    assert load.admitted <= most + 2, f"{load.admitted - most:.1f} too many after Redis was back"
    assert load.admitted >= 0.75 * most
