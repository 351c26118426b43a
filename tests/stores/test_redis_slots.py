"""Slots that several nodes divide over a real Redis: never more than the limit, wherever the work is, and whatever
becomes of Redis."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from tests.redis_server import RedisServer

from xrouter.core.clock import SystemClock
from xrouter.core.secret import Secret
from xrouter.stores.redis.link import Link
from xrouter.stores.redis.slots import RedisSlots
from xrouter.stores.slot_keeper import SlotKeeper
from xrouter.stores.slots import HostSlots, Room

LIMIT = 5
NAME = "vendor"


class Process:
    """One process of a host: its slots and its keeper."""

    def __init__(self, directory: Path, url: str, node: str, *, alone: bool, lease_s: float, quiet_s: float) -> None:
        clock = SystemClock()
        self.slots = HostSlots(directory / node, shared=True)
        self.link = Link(Secret(url), clock, node)
        shared = RedisSlots(self.link, node, lease_s=lease_s, quiet_s=quiet_s)
        self.keeper = SlotKeeper(self.slots, shared, clock, share=lambda: 0.4, lease_s=lease_s, alone=alone)
        self.room: Room = self.slots.room(NAME, LIMIT, 100)
        self.keeper.begin()
        self.taken: list[int] = []
        self.waiting: list[asyncio.Task[int]] = []

    async def tick(self) -> None:
        await self._turn()  # who begins to wait does so
        await self.keeper.tick()
        await self._turn()  # who was served notices

    @staticmethod
    async def _turn() -> None:
        for _ in range(3):
            await asyncio.sleep(0)

    def take(self) -> bool:
        index = self.room.take()
        if index is not None:
            self.taken.append(index)
        return index is not None

    def give(self, which: int = -1) -> None:
        self.room.give_back(self.taken.pop(which))

    def wait(self) -> None:
        self.waiting.append(asyncio.create_task(self.room.wait("t", asyncio.get_running_loop().time() + 60)))

    def collect(self) -> None:
        """Those who waited and were served have a slot now."""
        self.taken += [task.result() for task in self.waiting if task.done() and not task.cancelled()]
        self.waiting = [task for task in self.waiting if not task.done()]

    async def close(self) -> None:
        for task in self.waiting:
            task.cancel()
        await asyncio.gather(*self.waiting, return_exceptions=True)
        self.keeper.close()
        self.slots.close()
        await self.link.close()


class Nodes:
    def __init__(self, directory: Path, url: str) -> None:
        self._directory = directory
        self._url = url
        self.all: list[Process] = []

    def start(self, node: str, *, alone: bool = True, lease_s: float = 30.0, quiet_s: float = 0.0) -> Process:
        made = Process(self._directory, self._url, node, alone=alone, lease_s=lease_s, quiet_s=quiet_s)
        self.all.append(made)
        return made

    async def stop(self, one: Process) -> None:
        self.all.remove(one)
        await one.close()

    def used(self) -> int:
        for one in self.all:
            one.collect()
        return sum(len(one.taken) for one in self.all)


@pytest_asyncio.fixture
async def nodes(tmp_path: Path, redis_url: str) -> AsyncIterator[Nodes]:
    made = Nodes(tmp_path, redis_url)
    async with AsyncExitStack() as stack:
        yield made
        for one in made.all:
            stack.push_async_callback(one.close)


async def test_a_node_alone_has_all_and_two_share_by_what_they_want(nodes: Nodes) -> None:
    one = nodes.start("one")
    assert not one.take(), "nothing before the others were asked"
    await one.tick()
    assert [one.take() for _ in range(LIMIT + 1)] == [True] * LIMIT + [False]
    two = nodes.start("two")
    two.wait()
    two.wait()
    await two.tick()
    assert nodes.used() == LIMIT, "what one uses cannot be taken away"
    await one.tick()
    one.give()
    await one.tick()
    await two.tick()
    nodes.used()
    assert len(two.taken) == 1
    one.give()
    assert not one.take(), "it is for the other one now"
    await one.tick()
    await two.tick()
    assert (nodes.used(), len(two.taken), two.room.waiting) == (LIMIT, 2, 0)


async def test_who_wants_gets_all_but_one_of_what_others_do_not_use(nodes: Nodes) -> None:
    one, two = nodes.start("one"), nodes.start("two")
    for _ in range(3):
        await one.tick()
        await two.tick()
    for _ in range(LIMIT):
        two.wait()
    await two.tick()
    await one.tick()
    await two.tick()
    assert (nodes.used(), len(two.taken)) == (LIMIT - 1, LIMIT - 1)
    assert one.take(), "one stays with each, so that its first call need not wait"


async def test_a_single_slot_goes_round(tmp_path: Path, redis_url: str) -> None:
    """More nodes than slots: each gets its turn, though all want it all the time."""
    nodes = Nodes(tmp_path, redis_url)
    both = [nodes.start(name) for name in ("one", "two")]
    for one in both:
        one.room.limit = 1
    served = {0: 0, 1: 0}
    async with asyncio.timeout(60):
        while min(served.values()) < 2:
            for one in both:
                if not one.waiting and not one.taken:
                    one.wait()
                await one.tick()
                await asyncio.sleep(0.01)
            assert nodes.used() <= 1
            for number, one in enumerate(both):
                if one.taken:
                    served[number] += 1
                    one.give()
    for one in [*both]:
        await nodes.stop(one)


async def test_two_processes_of_a_host_have_one_share(nodes: Nodes) -> None:
    first, second = nodes.start("host", alone=False), nodes.start("host", alone=False)
    other = nodes.start("other")
    for _ in range(2):
        for one in nodes.all:
            await one.tick()
    second.wait()
    second.wait()
    second.wait()
    async with asyncio.timeout(30):
        while len(second.taken) < 3:
            for one in nodes.all:
                await one.tick()
            await asyncio.sleep(0.01)
            assert nodes.used() <= LIMIT
    assert first.room.share.read() == second.room.share.read() != other.room.share.read()
    await nodes.stop(first)  # it had the lock
    other.wait()
    other.wait()
    other.wait()
    async with asyncio.timeout(30):
        while len(other.taken) < 2:
            for one in nodes.all:
                await one.tick()
            await asyncio.sleep(0.01)
            assert nodes.used() <= LIMIT


async def test_redis_that_forgets_makes_nobody_take_what_another_holds(nodes: Nodes, redis_url: str) -> None:
    one = nodes.start("one", quiet_s=0.5)
    async with asyncio.timeout(30):
        while not one.take():
            await one.tick()
            await asyncio.sleep(0.01)
    while one.take():
        pass
    client = Redis.from_url(redis_url)
    await client.flushdb()
    await client.aclose()
    two = nodes.start("two", quiet_s=0.5)
    two.wait()
    await two.tick()
    assert nodes.used() == LIMIT
    await one.tick()
    for _ in range(100):
        await two.tick()
        await one.tick()
        await asyncio.sleep(0.01)
        assert nodes.used() == LIMIT
    one.give()
    async with asyncio.timeout(30):
        while not two.taken:
            await one.tick()
            await two.tick()
            await asyncio.sleep(0.01)
            assert nodes.used() <= LIMIT


async def test_a_node_that_died_is_followed_by_the_others(nodes: Nodes) -> None:
    one, two = nodes.start("one", lease_s=0.3), nodes.start("two", lease_s=0.3)
    for _ in range(3):
        await one.tick()
        await two.tick()
    await nodes.stop(one)
    for _ in range(LIMIT):
        two.wait()
    async with asyncio.timeout(30):
        while nodes.used() < LIMIT:
            await two.tick()
            await asyncio.sleep(0.01)


async def test_without_redis_each_keeps_what_it_has_and_nothing_hangs(tmp_path: Path, own_redis: RedisServer) -> None:
    nodes = Nodes(tmp_path, own_redis.url())
    one, two = nodes.start("one"), nodes.start("two")
    for _ in range(3):
        await one.tick()
        await two.tick()
    shares = [each.room.share.read() for each in nodes.all]
    assert sorted(shares) == [2, 3]  # type: ignore[type-var]
    own_redis.stop()
    for each in nodes.all:
        while each.take():
            pass
        await each.tick()
    assert nodes.used() == LIMIT
    assert [each.room.share.read() for each in nodes.all] == shares
    stranger = nodes.start("stranger")
    await stranger.tick()
    assert stranger.room.share.read() == 2, "never asked anybody: its part of the limit"
    for each in [*nodes.all]:
        await nodes.stop(each)


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_limit_holds(nodes: Nodes, redis_url: str, seed: int) -> None:
    """Three nodes, one of two processes: calls begin, wait, end and leave, keepers look, Redis forgets, in random
    order."""
    pick = random.Random(seed)
    for name, alone in (("one", True), ("two", True), ("three", False), ("three", False)):
        nodes.start(name, alone=alone, quiet_s=0.15)
    client = Redis.from_url(redis_url)
    try:
        for step in range(400):
            one = pick.choice(nodes.all)
            deed = pick.random()
            if deed < 0.3:
                one.take()
            elif deed < 0.4 and len(one.waiting) < 5:
                one.wait()
            elif deed < 0.7 and one.taken:
                one.give(pick.randrange(len(one.taken)))
            elif deed < 0.72 and one.waiting:
                one.waiting.pop().cancel()
            elif deed < 0.73 and step % 3 == 0:
                await client.flushdb()
                for each in nodes.all:  # all are there again before the quiet time is over
                    await each.tick()
            else:
                await one.tick()
            await asyncio.sleep(0)
            assert nodes.used() <= LIMIT, step
        for one in nodes.all:
            for task in one.waiting:
                task.cancel()
        await asyncio.sleep(0.05)
        nodes.used()
        for one in nodes.all:
            while one.taken:
                one.give()
        nodes.all[0].wait()
        async with asyncio.timeout(30):
            while not nodes.all[0].taken:
                for one in nodes.all:
                    await one.tick()
                await asyncio.sleep(0.01)
                nodes.used()
    finally:
        await client.aclose()
