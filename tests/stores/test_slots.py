"""Slots of a host: in turn, never more than the limit, and free again when a process dies."""

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from xrouter.core.ports import QueueFull
from xrouter.settings import Config, ConfigError, parse_config
from xrouter.stores.slots import HostSlots

_HOLDER = str(Path(__file__).parent / "programs" / "slot_holder.py")


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[HostSlots]:
    made = HostSlots(tmp_path / "slots")
    yield made
    made.close()


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[HostSlots]:
    """Its own open files, so to the kernel it is another process."""
    made = HostSlots(tmp_path / "slots")
    yield made
    made.close()


@asynccontextmanager
async def hold(slots: HostSlots, name: str, limit: int, deadline: float, tenant: str = "") -> AsyncIterator[None]:
    room = slots.room(name, limit, 1_000)
    index = room.take()
    if index is None:
        index = await room.wait(tenant, deadline)
    try:
        yield
    finally:
        room.give_back(index)


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_waiters_are_served_in_their_order(slots: HostSlots) -> None:
    order: list[int] = []
    running = 0

    async def call(number: int) -> None:
        nonlocal running
        async with hold(slots, "vendor", 1, _in(10)):
            running += 1
            assert running == 1
            order.append(number)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_free_slot_is_had_without_waiting(slots: HostSlots) -> None:
    room = slots.room("vendor", 2, 1_000)
    taken = [room.take(), room.take()]
    assert None not in taken
    assert room.take() is None


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_no_more_than_the_limit_and_zero_is_none(slots: HostSlots, limit: int) -> None:
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        async with hold(slots, "vendor", limit, _in(10)):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= 1

    await asyncio.gather(*(call() for _ in range(12)))
    assert most == (limit or 12)


async def test_the_deadline_ends_the_wait(slots: HostSlots) -> None:
    async with hold(slots, "vendor", 1, _in(10)):
        with pytest.raises(TimeoutError):
            async with hold(slots, "vendor", 1, _in(0.01)):
                pass
        async with hold(slots, "other vendor", 1, _in(-1)):
            pass
    async with hold(slots, "vendor", 1, _in(-1)):
        pass


async def test_leaving_at_any_moment_loses_no_slot(slots: HostSlots) -> None:
    """Callers are cancelled and time out at random while slots change hands; afterwards all slots are free."""
    pick = random.Random(4)
    running = 0

    async def call() -> None:
        nonlocal running
        async with hold(slots, "vendor", 2, _in(pick.uniform(0, 0.01))):
            running += 1
            assert running <= 2
            try:
                await asyncio.sleep(pick.uniform(0, 0.002))
            finally:
                running -= 1

    for _ in range(30):
        calls = [asyncio.create_task(call()) for _ in range(12)]
        await asyncio.sleep(pick.uniform(0, 0.004))
        for leaving in pick.sample(calls, 6):
            leaving.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert not [result for result in results if isinstance(result, AssertionError)]
        async with hold(slots, "vendor", 2, _in(-1)), hold(slots, "vendor", 2, _in(-1)):
            pass


async def test_an_error_inside_frees_the_slot(slots: HostSlots) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with hold(slots, "vendor", 1, _in(-1)):
                raise ZeroDivisionError


async def test_a_smaller_limit_holds_for_new_callers(slots: HostSlots) -> None:
    async with hold(slots, "vendor", 2, _in(1)), hold(slots, "vendor", 2, _in(1)):
        with pytest.raises(TimeoutError):
            async with hold(slots, "vendor", 1, _in(0.01)):
                pass


async def test_a_limit_above_what_a_host_can_share_is_refused_before_anybody_calls(slots: HostSlots) -> None:
    def config(limit: int) -> Config:
        vendor = {"kind": "gigachat", "api_key": "aTpz", "models": ["GigaChat-2"], "max_concurrency": limit}
        return parse_config({"providers": {"vendor": vendor}}, "xrouter.yaml")

    most = config(1_024).providers["vendor"].max_concurrency
    assert most is not None
    async with hold(slots, "vendor", most, _in(1)):
        pass
    with pytest.raises(ValueError, match="1024"):
        slots.room("vendor", most + 1, 0)
    with pytest.raises(ConfigError, match=r"providers\.vendor\.max_concurrency: must be 1024 or less"):
        config(most + 1)


async def test_processes_share_the_limit_and_take_turns(slots: HostSlots, neighbour: HostSlots) -> None:
    """Two processes that both always have callers waiting: neither starves."""
    inside = 0
    served = {"here": 0, "there": 0}
    stop = asyncio.Event()

    async def caller(mine: HostSlots, name: str) -> None:
        nonlocal inside
        while not stop.is_set():
            async with hold(mine, "vendor", 1, _in(20)):
                inside += 1
                assert inside == 1
                served[name] += 1
                await asyncio.sleep(0.001)
                inside -= 1
            if min(served.values()) >= 10:
                stop.set()

    both = [caller(mine, name) for mine, name in ((slots, "here"), (neighbour, "there")) for _ in range(3)]
    await asyncio.wait_for(asyncio.gather(*both), 30)


def test_two_real_processes_never_exceed_the_limit(tmp_path: Path, start_together: Any) -> None:
    (tmp_path / "inside").mkdir()
    ended = start_together([sys.executable, _HOLDER, str(tmp_path), "vendor", "3", "turns"], 2)
    assert [code for _, code in ended] == [0, 0]
    assert max(int(most) for most, _ in ended) == 3


async def test_a_killed_process_gives_its_slot_back(slots: HostSlots, tmp_path: Path) -> None:
    command = [sys.executable, _HOLDER, str(tmp_path), "vendor", "1", "forever"]
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)

    async def wait_for_slot() -> None:
        async with hold(slots, "vendor", 1, _in(10)):
            pass

    try:
        assert process.stdout is not None
        assert await process.stdout.readline() == b"held\n"
        waiting = asyncio.create_task(wait_for_slot())
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        assert not done
    finally:
        process.kill()
    await waiting
    await process.wait()


async def test_lock_files_are_private_and_hide_names(slots: HostSlots, tmp_path: Path) -> None:
    async with hold(slots, "../vendor/secret", 1, _in(1)):
        files: list[Any] = list((tmp_path / "slots").iterdir())
    assert files
    assert not [path for path in files if "vendor" in path.name or path.stat().st_mode & 0o077]


async def test_one_tenant_with_many_waiting_does_not_starve_another(slots: HostSlots) -> None:
    order: list[str] = []

    async def call(tenant: str) -> None:
        async with hold(slots, "vendor", 1, _in(20), tenant):
            order.append(tenant)
            await asyncio.sleep(0)

    async with hold(slots, "vendor", 1, _in(20)):
        calls = [asyncio.create_task(call("crowd")) for _ in range(100)]
        await asyncio.sleep(0)
        calls.append(asyncio.create_task(call("single")))
        await asyncio.sleep(0)
        assert slots.rooms["vendor"].waiting == 101
    await asyncio.gather(*calls)
    assert order.index("single") <= 1


async def test_a_full_queue_refuses_at_once_and_gives_way_to_a_tenant_with_fewer(slots: HostSlots) -> None:
    room = slots.room("vendor", 1, 2)
    index = room.take()
    assert index is not None
    crowd = [asyncio.create_task(room.wait("crowd", _in(20))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await room.wait("crowd", _in(20))
    single = asyncio.create_task(room.wait("single", _in(20)))
    with pytest.raises(QueueFull):
        await crowd[1]
    for waiting in (crowd[0], single):
        room.give_back(index)
        index = await waiting
    room.give_back(index)
    assert (room.running, room.waiting, room.refused) == (0, 0, 2)
    assert room.take() is not None


async def test_without_a_limit_the_window_alone_holds_calls_back(slots: HostSlots) -> None:
    room = slots.room("vendor", 0, 10, start=1)
    first = room.take()
    assert first is not None
    assert room.take() is None
    waiting = [asyncio.create_task(room.wait("t", _in(20))) for _ in range(3)]
    await asyncio.sleep(0)
    room.window.succeeded(1)
    room.window.succeeded(2)
    room.give_back(first)  # two places now: one came free, one is new
    taken = [await waiting[0], await waiting[1]]
    assert not waiting[2].done()
    room.give_back(taken[0])
    room.give_back(await waiting[2])
    room.give_back(taken[1])
    assert (room.running, room.waiting) == (0, 0)


async def test_whatever_comes_and_goes_no_limit_is_passed_and_no_slot_lost(
    slots: HostSlots, neighbour: HostSlots
) -> None:
    """Two processes, a window that moves, a share that moves, callers who leave: in random order, for many rounds."""
    pick = random.Random(11)
    inside = {"here": 0, "there": 0}

    async def call(mine: HostSlots, name: str, tenant: str) -> None:
        room = mine.room("vendor", 3, 4)
        index = room.take()
        if index is None:
            index = await room.wait(tenant, _in(pick.uniform(0, 0.02)))
        inside[name] += 1
        try:
            assert sum(inside.values()) <= 3
            await asyncio.sleep(pick.uniform(0, 0.002))
            if pick.random() < 0.3:
                room.window.refused(1.0, 2.0, room.running)
            else:
                room.window.succeeded(room.running)
        finally:
            inside[name] -= 1
            room.give_back(index)

    for _ in range(40):
        both = ((slots, "here"), (neighbour, "there"))
        calls = [
            asyncio.create_task(call(mine, name, pick.choice("abc")))
            for mine, name in both
            for _ in range(pick.randint(1, 7))
        ]
        await asyncio.sleep(pick.uniform(0, 0.004))
        for leaving in pick.sample(calls, len(calls) // 3):
            leaving.cancel()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        assert not [one for one in ended if isinstance(one, AssertionError)]
        for mine, _ in both:
            assert (mine.rooms["vendor"].running, mine.rooms["vendor"].waiting) == (0, 0)
            assert not mine.rooms["vendor"].held
    for mine in (slots, neighbour):
        mine.rooms["vendor"].window.bound(0)
        mine.rooms["vendor"].window.bound(3)
    taken = [mine.room("vendor", 3, 4).take() for mine in (slots, neighbour, slots, neighbour)]
    assert sum(index is not None for index in taken) <= 3


async def test_a_host_keeps_within_its_share(slots: HostSlots, neighbour: HostSlots) -> None:
    room, other = slots.room("vendor", 3, 4), neighbour.room("vendor", 3, 4)
    room.share.write(1)
    index = other.take()
    assert index is not None
    assert room.take() is None
    other.give_back(index)
    room.share.write(0)
    assert (room.take(), other.take()) == (None, None)
    room.share.write(None)
    assert None not in [room.take(), room.take(), other.take()]
