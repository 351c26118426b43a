"""Counters that several nodes share through a real Redis: the same arithmetic, one total, and a host takes over."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from tests.gateway.script import Script, World, answer, call, world
from tests.gateway.test_limiter import caller, limit
from tests.redis_server import RedisServer, flush

from xrouter.core.call import Caller
from xrouter.core.clock import ManualClock, SystemClock
from xrouter.core.errors import RateLimited
from xrouter.core.gcra import PART, MemoryCounters
from xrouter.core.limits import DAY_S, TOPIC_RECALL, Draw, Grant, Level, Unit
from xrouter.core.secret import Secret
from xrouter.gateway import limits, pipeline
from xrouter.gateway.limiter import Limiter
from xrouter.stores.redis import RedisStore
from xrouter.stores.redis.breaker import ERRORS, Breaker

CLOCK = SystemClock()


class Node:
    """One process of one node: its store, its limiter, and a pipeline whose provider answers at once."""

    def __init__(self, url: str, host: str, lease_s: float, share: float, settle_s: float) -> None:
        self.store = RedisStore(Secret(url), CLOCK, host=host, lease_s=lease_s, settle_s=settle_s)
        self.near = MemoryCounters(CLOCK)
        self.near.share = share
        self.limiter = Limiter(self.near, CLOCK, self.store.counters)
        self.store.topics.subscribe(TOPIC_RECALL, self.limiter.recalled)
        self.place: World = world(a=Script([answer("hello")]))
        self.gateway = _with(self.place, self.limiter)
        self.tasks = [asyncio.create_task(work) for work in (*self.store.beside(), limits.keep(self.limiter))]

    async def admits(self, who: Caller, *, ends: bool = True, **fields: Any) -> bool:
        """One call; with `ends` false it goes on running."""
        one = call("a/m", stream=False, **fields)
        one.caller = who
        try:
            wait = limits.admit(one, self.gateway)
            if wait is not None:
                await wait()
        except RateLimited:
            return False
        if ends:
            pipeline.end(one, self.gateway)
        return True

    async def exchange(self, *draws: Draw) -> list[Grant] | None:
        future: asyncio.Future[list[Grant] | None] = asyncio.get_running_loop().create_future()
        self.store.counters.exchange(draws, future.set_result)
        return await future

    async def die(self) -> None:
        """Nothing is given back."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.store.close()


def _with(place: World, limiter: Limiter) -> Any:
    return replace(place.gateway, limiter=limiter)


Make = Callable[..., Node]


@pytest_asyncio.fixture
async def make() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        def node(
            url: str, host: str = "h", *, lease_s: float = 10.0, share: float = 1.0, settle_s: float = 0.0
        ) -> Node:
            made = Node(url, host, lease_s, share, settle_s)
            stack.push_async_callback(made.die)
            return made

        yield node


async def eventually(what: Callable[[], Any], within_s: float = 5.0) -> None:
    async with asyncio.timeout(within_s):
        while not what():
            await asyncio.sleep(0.01)


# ── the arithmetic ───────────────────────────────────────────────────────────────────────────────────────

STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True),
        st.integers(0, 12),  # needed
        st.integers(0, 200),  # wanted
        st.integers(-20, 20),  # back
        st.integers(45, 55),  # the amount
        st.booleans(),  # together with the next one in one call
    ),
    max_size=20,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(steps=[(["a"], 0, 0, -19, 45, False), (["a"], 0, 2, -2, 53, False)])
@given(steps=STEPS)
async def test_the_script_counts_as_memory_does(steps: list[Any], redis_url: str) -> None:
    """One unit takes hours here, so that real time does not matter."""
    flush(redis_url)
    store = RedisStore(Secret(redis_url), CLOCK, host="h", lease_s=10, settle_s=0)
    memory = MemoryCounters(ManualClock(), {}, {})
    mine = [0]
    pending: list[tuple[list[Draw], asyncio.Future[Any]]] = []
    try:
        for names, need, want, back, amount, together in steps:
            held = partial(mine.__getitem__, 0)
            draws = [Draw(name, amount, 0 if name == "c" else 50 * DAY_S, need, want, back, held) for name in names]
            future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
            store.counters.exchange(draws, future.set_result)
            pending.append((draws, future))
            if together and "c" not in names:
                continue
            for asked, answered in pending:
                got = await answered
                expected = memory.exchange(asked)
                for one, other in zip(got, expected, strict=True):  # time goes on in Redis alone: it may round up
                    part = (other.free + other.given) * PART
                    assume(one.given == other.given or abs(part - round(part)) > 1e-4)
                assert [one.given for one in got] == [one.given for one in expected]
                assert [one.free for one in got] == pytest.approx([one.free for one in expected], abs=1e-3)
                assert [one.wait_s for one in got] == pytest.approx([one.wait_s for one in expected], abs=2, rel=1e-3)
                mine[0] += sum(int(one.given) for draw, one in zip(asked, got, strict=True) if draw.counter == "c")
            pending.clear()
    finally:
        await store.close()


async def test_who_asks_in_one_turn_of_the_loop_goes_with_one_call(make: Make, redis_url: str) -> None:
    node = make(redis_url)
    await node.exchange(Draw("warm", 10, 60, 1))
    client = Redis.from_url(redis_url, decode_responses=True, protocol=2)
    before = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    exact = caller(limit(amount=1_000, exact=True))
    assert all(await asyncio.gather(*(node.admits(exact) for _ in range(100))))
    after = (await client.info("commandstats"))["cmdstat_evalsha"]["calls"]
    await client.aclose()
    assert after - before <= 2  # the calls, and what tells Redis that this node is there


async def test_a_server_that_has_forgotten_its_scripts_learns_them_again(make: Make, redis_url: str) -> None:
    node = make(redis_url)
    client = Redis.from_url(redis_url, protocol=2)
    for _ in range(2):
        found = None
        while found is None:
            found = await node.exchange(Draw("r", 10, 60, 1))
        assert found[0].given == 1
        await client.script_flush()
    await client.aclose()


# ── several nodes ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("exact", [False, True])
async def test_the_last_unit_is_found_whichever_node_holds_it(make: Make, redis_url: str, exact: bool) -> None:
    nodes = [make(redis_url, f"h{number}") for number in range(3)]
    key = caller(limit(amount=200, window_s=DAY_S, exact=exact))
    for _ in range(3):  # the first node works from slices and holds more than it uses
        assert all([await nodes[0].admits(key) for _ in range(20)])
        nodes[0].limiter.tick()
    admitted = [await nodes[number % 3].admits(key) for number in range(180)]
    assert sum(admitted) == 140


async def test_three_nodes_under_load_use_the_limit_and_no_more(make: Make, redis_url: str) -> None:
    """Twice of what is allowed is asked for: 100 a second after the first 600."""
    nodes = [make(redis_url, f"h{number}") for number in range(3)]
    key = caller(limit(amount=600, window_s=6))
    began = CLOCK.monotonic()
    admitted = 0

    async def client(node: Node) -> None:
        nonlocal admitted
        while CLOCK.monotonic() - began < 3.0:
            passed = await node.admits(key)
            admitted += passed
            await asyncio.sleep(0.002)

    await asyncio.gather(*(client(node) for node in nodes for _ in range(2)))
    elapsed = CLOCK.monotonic() - began
    assert 0.95 * (600 + 100 * 3.0) <= admitted <= 600 + 100 * elapsed


async def test_running_calls_are_counted_over_all_nodes(make: Make, redis_url: str) -> None:
    nodes = [make(redis_url, f"h{number}") for number in range(3)]
    key = caller(limit(Unit.CONCURRENT, 5))
    assert [await nodes[number % 3].admits(key, ends=False) for number in range(6)] == [True] * 5 + [False]


async def test_a_call_that_has_ended_makes_room_at_another_node(make: Make, redis_url: str) -> None:
    one, other = make(redis_url, "one"), make(redis_url, "other")
    key = caller(limit(Unit.CONCURRENT, 3))
    for _ in range(10):
        assert all(await asyncio.gather(*(one.admits(key) for _ in range(3))))
        assert all(await asyncio.gather(*(other.admits(key) for _ in range(3))))


async def test_a_dead_process_gives_back_what_ran_when_its_lease_ends(make: Make, redis_url: str) -> None:
    dead, alive = make(redis_url, "dead", lease_s=0.4), make(redis_url, "alive", lease_s=0.4)
    key = caller(limit(Unit.CONCURRENT, 1))
    assert await dead.admits(key, ends=False)
    assert not await alive.admits(key)
    await dead.die()
    async with asyncio.timeout(3):
        while not await alive.admits(key):
            await asyncio.sleep(0.05)


async def test_all_limits_or_none_also_where_one_is_exact(make: Make, redis_url: str) -> None:
    node = make(redis_url)
    wide = limit(amount=10, level=Level.TEAM, window_s=DAY_S, exact=True)
    narrow = limit(amount=2, window_s=DAY_S)
    assert [await node.admits(caller(wide, narrow, key="a")) for _ in range(6)] == [True] * 2 + [False] * 4
    assert [await node.admits(caller(wide, key="b")) for _ in range(9)] == [True] * 8 + [False]


async def test_tokens_settle_over_all_nodes(make: Make, redis_url: str) -> None:
    one, other = make(redis_url, "one"), make(redis_url, "other")
    key = caller(limit(Unit.TOKENS, 1_000, DAY_S, exact=True))
    assert await one.admits(key, max_tokens=900)  # gives back all of it: no attempt was made
    assert await other.admits(key, max_tokens=900)
    assert await one.admits(key, ends=False, max_tokens=900)
    assert not await other.admits(key, max_tokens=900)


async def test_a_call_that_is_given_up_while_it_waits_uses_nothing(make: Make, redis_url: str) -> None:
    node = make(redis_url)
    key = caller(limit(Unit.CONCURRENT, 1, exact=True))
    for turns in range(6):
        waiting = asyncio.create_task(node.admits(key, ends=False))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(3):
            while not await node.admits(key):
                await asyncio.sleep(0.01)


# ── without Redis ────────────────────────────────────────────────────────────────────────────────────────


async def admitted_while_away(node: Node, key: Caller, calls: int = 30) -> int:
    """No call may wait for long, whatever Redis does."""
    count = 0
    for _ in range(calls):
        async with asyncio.timeout(2.0):
            count += await node.admits(key)
    return count


async def test_a_refused_connection_leaves_this_hosts_share(make: Make) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"redis://127.0.0.1:{free.getsockname()[1]}/0"
    node = make(url, share=0.5)
    assert await admitted_while_away(node, caller(limit(amount=20, window_s=DAY_S))) == 10
    await eventually(lambda: not node.limiter.shares)


async def test_a_wrong_password_leaves_this_hosts_share(make: Make, make_redis: Callable[..., RedisServer]) -> None:
    server = make_redis(password="right")
    node = make(server.url().replace("right", "wrong"), share=0.25)
    assert await admitted_while_away(node, caller(limit(amount=20, window_s=DAY_S))) == 5
    right = make(server.url())
    assert await right.admits(caller(limit(amount=20)))
    assert right.limiter.shares


async def test_a_frozen_redis_holds_nobody_up_and_is_found_again(make: Make, own_redis: RedisServer) -> None:
    node = make(own_redis.url(), share=0.5)
    warm = caller(limit(amount=1_000, window_s=DAY_S, level=Level.TEAM))
    assert await node.admits(warm)
    own_redis.freeze()
    try:
        assert await admitted_while_away(node, caller(limit(amount=20, window_s=DAY_S), key="x")) == 10
        assert not node.limiter.shares
    finally:
        own_redis.thaw()
    began = time.perf_counter()
    await eventually(lambda: node.limiter.shares)
    assert time.perf_counter() - began < 5
    assert await node.admits(warm)


async def test_what_was_used_meanwhile_counts_when_redis_is_back(make: Make, own_redis: RedisServer) -> None:
    node, other = make(own_redis.url(), "one", share=0.5), make(own_redis.url(), "other")
    key = caller(limit(amount=20, window_s=DAY_S))
    assert await node.admits(key)
    own_redis.freeze()
    try:
        assert await admitted_while_away(node, key) == 9  # warm: one of ten was used before
    finally:
        own_redis.thaw()
    await eventually(lambda: node.limiter.shares and other.limiter.shares)
    await eventually(lambda: not node.limiter._owing and not node.store.counters._news)
    await asyncio.sleep(0.2)
    left = sum([await other.admits(key) for _ in range(30)])
    assert 10 - 2 * ERRORS <= left <= 10  # what nobody waited for any more, Redis has counted when it woke up


async def test_what_runs_is_known_to_whoever_counts(make: Make, own_redis: RedisServer) -> None:
    node, other = make(own_redis.url(), "one"), make(own_redis.url(), "other")
    key = caller(limit(Unit.CONCURRENT, 3))
    assert await node.admits(key, ends=False)
    own_redis.stop()
    busy = caller(limit(amount=1_000, exact=True), key="x")
    while node.limiter.shares or other.limiter.shares:
        assert await node.admits(busy)
        assert await other.admits(busy)
    assert [await node.admits(key, ends=False) for _ in range(3)] == [True, True, False]
    own_redis.start()
    await eventually(lambda: node.limiter.shares and other.limiter.shares)
    await asyncio.sleep(0.3)
    assert not await other.admits(key)


async def test_a_flushed_redis_goes_on_from_what_the_nodes_saw(make: Make, redis_url: str) -> None:
    node = make(redis_url)
    key, running = caller(limit(amount=20, window_s=DAY_S)), caller(limit(Unit.CONCURRENT, 2), key="c")
    assert all([await node.admits(key) for _ in range(15)])
    assert await node.admits(running, ends=False)
    flush(redis_url)
    assert sum([await node.admits(key) for _ in range(20)]) == 5
    assert [await node.admits(running, ends=False) for _ in range(2)] == [True, False]


async def test_a_restarted_redis_is_found_within_five_seconds(make: Make, own_redis: RedisServer) -> None:
    node = make(own_redis.url())
    key = caller(limit(amount=20, window_s=DAY_S))
    assert await node.admits(key)
    own_redis.stop()
    assert await admitted_while_away(node, key, 10) == 10
    await eventually(lambda: not node.limiter.shares)
    own_redis.start()
    await eventually(lambda: node.limiter.shares)


async def test_nodes_are_counted(make: Make, redis_url: str) -> None:
    seen: list[int] = []
    first = make(redis_url, "one")
    first.store.link.on_nodes = seen.append
    second, third = make(redis_url, "two"), make(redis_url, "two")  # two processes of one host
    await eventually(lambda: second.store.link.nodes == 2 and third.store.link.nodes == 2)
    await eventually(lambda: seen and seen[-1] == 2)


def test_the_breaker_opens_after_five_errors_in_ten_seconds_and_closes_when_told() -> None:
    clock = ManualClock()
    breaker = Breaker(clock)
    for _ in range(8):
        breaker.failed()
        clock.advance(2.6)
    assert not breaker.open
    for _ in range(2):
        breaker.failed()
        clock.advance(0.1)
    assert breaker.open
    clock.advance(1_000)
    assert breaker.open
    breaker.close()
    breaker.failed()
    assert not breaker.open


# ── messages ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_everybody_hears_what_is_published_and_of_gaps(make: Make, own_redis: RedisServer) -> None:
    heard: dict[str, list[str]] = {"one": [], "two": []}
    stores = {}
    tasks = []
    for name in heard:
        stores[name] = RedisStore(Secret(own_redis.url()), CLOCK, host=name, lease_s=10)
        stores[name].topics.subscribe("keys", heard[name].append)
        tasks += [asyncio.create_task(work) for work in stores[name].beside()]
    try:
        await eventually(lambda: heard == {"one": [""], "two": [""]})  # whatever was said before is lost
        began = time.perf_counter()
        stores["one"].topics.publish("keys", "k1")
        stores["one"].topics.publish("other", "nobody listens")
        await eventually(lambda: heard == {"one": ["", "k1"], "two": ["", "k1"]})
        assert time.perf_counter() - began < 2
        own_redis.stop()
        own_redis.start()
        await eventually(lambda: all(words[2:] == [""] for words in heard.values()))
        await eventually(lambda: not stores["two"].link.breaker.open)
        stores["two"].topics.publish("keys", "k2")
        await eventually(lambda: all(words[-1] == "k2" for words in heard.values()))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for store in stores.values():
            await store.close()


async def test_whoever_closes_never_waits_for_a_cancellation_that_was_lost(redis_url: str) -> None:
    for number in range(60):
        store = RedisStore(Secret(redis_url), CLOCK, host="h", lease_s=10)
        store.topics.subscribe("keys", [].append)
        tasks = [asyncio.create_task(work) for work in store.beside()]
        await asyncio.sleep(number % 12 / 2_000)
        for task in tasks:
            task.cancel()
        async with asyncio.timeout(5):
            await asyncio.wait(tasks)
            await store.close()
