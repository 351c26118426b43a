"""The line before a worker that is full: bounded in number and time, the newest first."""

import asyncio
import random

import pytest

from xrouter.core.errors import Overloaded
from xrouter.edge.door import Door


def door(most: int = 1, most_waiting: int = 2, wait_s: float = 2.0) -> Door:
    return Door(most=most, most_waiting=most_waiting, wait_s=wait_s, max_lag_s=0.5)


async def visit(place: Door) -> None:
    wait = place.enter()
    if wait is not None:
        await wait


async def comes(place: Door) -> "asyncio.Task[None]":
    task = asyncio.create_task(visit(place))
    await asyncio.sleep(0)
    return task


async def test_the_newest_goes_first_and_the_oldest_of_too_many_is_refused() -> None:
    place = door()
    assert place.enter() is None
    first, second, third = [await comes(place) for _ in range(3)]
    with pytest.raises(Overloaded, match="already serves 1 requests") as caught:
        await first
    assert caught.value.retry_after_s == 1.0
    place.leave()
    await third
    assert not second.done()
    place.leave()
    await second
    place.leave()
    assert (place.inside, place.waiting) == (0, 0)


async def test_nobody_waits_for_longer_than_the_limit() -> None:
    place = door(wait_s=0.01)
    assert place.enter() is None
    with pytest.raises(Overloaded):
        await visit(place)
    assert (place.inside, place.waiting) == (1, 0)


async def test_no_line_at_all_refuses_at_once() -> None:
    place = door(most_waiting=0)
    assert place.enter() is None
    with pytest.raises(Overloaded):
        await visit(place)


async def test_a_late_event_loop_lets_nobody_new_in_until_it_has_caught_up() -> None:
    place = door(most=10)
    place.was_late(0.9)
    assert place.enter() is None, "once may be a pause of the machine"
    place.was_late(0.9)
    waiting = await comes(place)
    assert not waiting.done()
    place.leave()
    await asyncio.sleep(0)
    assert not waiting.done(), "who leaves makes no processor time"
    place.was_late(0.0)
    await waiting
    assert (place.inside, place.enter()) == (1, None)


async def test_who_waited_for_a_late_loop_is_told_so() -> None:
    place = door(most=10, wait_s=0.01)
    place.was_late(0.9)
    place.was_late(0.9)
    with pytest.raises(Overloaded, match="more work than it can do"):
        await visit(place)


async def test_it_measures_how_late_the_loop_is() -> None:
    place = Door(most=1, most_waiting=1, wait_s=2, max_lag_s=1e-9)
    running = asyncio.create_task(place.run())
    async with asyncio.timeout(20):
        while not place.lagging:  # any lateness is too much for this one
            await asyncio.sleep(0.01)
    running.cancel()


async def test_whoever_comes_and_leaves_none_is_lost_and_no_limit_passed() -> None:
    pick = random.Random(3)
    place = door(most=3, most_waiting=4, wait_s=0.005)
    served = refused = 0

    async def request() -> None:
        nonlocal served, refused
        try:
            await visit(place)
        except Overloaded:
            refused += 1
            return
        try:
            assert place.inside <= 3
            await asyncio.sleep(pick.uniform(0, 0.002))
            served += 1
        finally:
            place.leave()

    for _ in range(60):
        requests = [asyncio.create_task(request()) for _ in range(pick.randint(1, 12))]
        await asyncio.sleep(pick.uniform(0, 0.002))
        assert place.waiting <= 4
        place.was_late(pick.choice([0.0, 0.0, 0.9]))
        for leaving in pick.sample(requests, len(requests) // 4):
            leaving.cancel()
        ended = await asyncio.gather(*requests, return_exceptions=True)
        assert not [one for one in ended if isinstance(one, AssertionError)]
        assert (place.inside, place.waiting) == (0, 0)
    assert served
    assert refused
