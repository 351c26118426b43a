"""Slots of a host: in turn, never more than the limit, and free again when a process dies."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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


def _in(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_waiters_are_served_in_their_order(slots: HostSlots) -> None:
    order: list[int] = []
    running = 0

    async def call(number: int) -> None:
        nonlocal running
        async with slots.hold("vendor", 1, _in(10)):
            running += 1
            assert running == 1
            order.append(number)
            await asyncio.sleep(0.001)
            running -= 1

    await asyncio.gather(*(call(number) for number in range(20)))
    assert order == list(range(20))


async def test_a_free_slot_is_had_without_waiting(slots: HostSlots) -> None:
    hold = slots.hold("vendor", 2, _in(-1))
    with pytest.raises(StopIteration):
        hold.__aenter__().send(None)
    await hold.__aexit__(None, None, None)


@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_no_more_than_the_limit_and_zero_is_none(slots: HostSlots, limit: int) -> None:
    running = most = 0

    async def call() -> None:
        nonlocal running, most
        async with slots.hold("vendor", limit, _in(10)):
            running += 1
            most = max(most, running)
            await asyncio.sleep(0.002)
            running -= 1

    await asyncio.gather(*(call() for _ in range(12)))
    assert most == (limit or 12)


async def test_the_deadline_ends_the_wait(slots: HostSlots) -> None:
    async with slots.hold("vendor", 1, _in(10)):
        with pytest.raises(TimeoutError):
            async with slots.hold("vendor", 1, _in(0.01)):
                pass
        async with slots.hold("other vendor", 1, _in(-1)):
            pass
    async with slots.hold("vendor", 1, _in(-1)):
        pass


async def test_leaving_at_any_moment_loses_no_slot(slots: HostSlots) -> None:
    """Callers are cancelled and time out at random while slots change hands; afterwards all slots are free."""
    pick = random.Random(4)
    running = 0

    async def call() -> None:
        nonlocal running
        async with slots.hold("vendor", 2, _in(pick.uniform(0, 0.01))):
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
        async with slots.hold("vendor", 2, _in(-1)), slots.hold("vendor", 2, _in(-1)):
            pass


async def test_an_error_inside_frees_the_slot(slots: HostSlots) -> None:
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with slots.hold("vendor", 1, _in(-1)):
                raise ZeroDivisionError


async def test_a_smaller_limit_holds_for_new_callers(slots: HostSlots) -> None:
    async with slots.hold("vendor", 2, _in(1)), slots.hold("vendor", 2, _in(1)):
        with pytest.raises(TimeoutError):
            async with slots.hold("vendor", 1, _in(0.01)):
                pass


async def test_a_limit_above_what_a_host_can_share_is_refused_before_anybody_calls(slots: HostSlots) -> None:
    def config(limit: int) -> Config:
        vendor = {"kind": "gigachat", "api_key": "aTpz", "models": ["GigaChat-2"], "max_concurrency": limit}
        return parse_config({"providers": {"vendor": vendor}}, "xrouter.yaml")

    most = config(1_024).providers["vendor"].max_concurrency
    assert most is not None
    async with slots.hold("vendor", most, _in(1)):
        pass
    with pytest.raises(ValueError, match="1024"):
        slots.hold("vendor", most + 1, _in(1))
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
            async with mine.hold("vendor", 1, _in(20)):
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
        async with slots.hold("vendor", 1, _in(10)):
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
    async with slots.hold("../vendor/secret", 1, _in(1)):
        files: list[Any] = list((tmp_path / "slots").iterdir())
    assert files
    assert not [path for path in files if "vendor" in path.name or path.stat().st_mode & 0o077]
