"""Limits for each end user and each tag: counted apart, in words, and bounded in memory."""

import gc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.script import Script, World, call, world
from tests.gateway.test_limiter import Host, Ideal, limit, no_more_names
from tests.gateway.test_limits_step import of, run, whole

from xrouter.core.call import Call, Caller, Scope
from xrouter.core.chat import Usage
from xrouter.core.clock import ManualClock
from xrouter.core.errors import RateLimited
from xrouter.core.gcra import MemoryCounters
from xrouter.core.limits import DAY_S, MINUTE_S, Grant, Level, Limit, Unit
from xrouter.gateway import limiter as limiting
from xrouter.gateway.limiter import TICK_S, Held, Limiter

ANNA, BORIS = "eu_" + "a" * 32, "eu_" + "b" * 32


def each(unit: Unit = Unit.REQUESTS, amount: int = 2, level: Level = Level.END_USER, model: str | None = None) -> Limit:
    return replace(limit(unit, amount, level=level, model=model), subject="k", owner="API key 'ci'")


def caller(*templates: Limit, own: tuple[Limit, ...] = ()) -> Caller:
    return Caller("k", "ci", frozenset({Scope.MODELS}), limits=own, each=templates)


def of_whom(who: Caller, end_user: str | None = None, *tags: str, **fields: Any) -> Call:
    one = of(who, call("a/m", stream=False, **fields))
    one.end_user, one.tags = end_user, tags
    return one


def admits(limiter: Limiter, who: Caller, end_user: str | None = None, *tags: str, model: str = "m") -> bool:
    plan = limiter.plan(who, model, no_more_names, end_user, tags)
    return limiter.take(plan, 0) or limiter.take_near(plan, 0) is None


async def outcomes(place: World, who: Caller, *calls: tuple[str | None, tuple[str, ...]]) -> list[bool]:
    found = []
    for end_user, tags in calls:
        try:
            await run(place, of_whom(who, end_user, *tags))
        except RateLimited:
            found.append(False)
        else:
            found.append(True)
    return found


async def test_each_end_user_has_the_whole_amount_and_calls_without_one_pass() -> None:
    place, who = world(a=Script([whole()])), caller(each())
    anna, boris, nobody = ((ANNA, ()), (BORIS, ()), (None, ()))
    assert await outcomes(place, who, anna, anna, anna, boris, boris, boris) == [True, True, False] * 2
    assert all(await outcomes(place, who, *[nobody] * 5))


async def test_every_tag_of_a_call_must_have_room_and_a_refused_call_has_used_nothing() -> None:
    place, who = world(a=Script([whole()])), caller(each(level=Level.TAG))
    x, y, both, other = ((None, tags) for tags in (("x",), ("y",), ("x", "y"), ("z",)))
    assert await outcomes(place, who, x, x, both, both, y, y, y, other) == [
        True, True, False, False, True, True, False, True,
    ]  # fmt: skip
    assert all(await outcomes(place, who, *[(ANNA, ())] * 5))


async def test_the_limits_of_the_key_hold_besides() -> None:
    place, who = world(a=Script([whole()])), caller(each(amount=2), own=(limit(amount=3),))
    anna, boris = (ANNA, ()), (BORIS, ())
    assert await outcomes(place, who, anna, anna, anna, boris, boris) == [True, True, False, True, False]
    assert await outcomes(place, who, (None, ())) == [False]


async def test_the_refusal_says_of_whom_without_the_whole_pseudonym() -> None:
    place, who = world(a=Script([whole()])), caller(each(amount=1), each(Unit.CONCURRENT, 0, Level.TAG))
    await run(place, of_whom(who, ANNA))
    with pytest.raises(RateLimited) as caught:
        await run(place, of_whom(who, ANNA))
    assert caught.value.message.startswith(
        "end user 'eu_aaaaaaaa...' of API key 'ci' has reached its limit of 1 request per minute. Try again in "
    )
    assert ANNA not in f"{caught.value.message}{caught.value.metadata}"
    assert caught.value.metadata["limit"]["level"] == "end_user"
    with pytest.raises(RateLimited, match=r"^tag 'checkout' of API key 'ci' has reached its limit of 0 calls at once"):
        await run(place, of_whom(who, None, "checkout"))


async def test_tokens_and_models_count_for_each_end_user() -> None:
    place = world(a=Script([whole(Usage(30, 70))]))
    who = caller(each(Unit.TOKENS, 150, model="a/*"))
    await run(place, of_whom(who, ANNA, max_tokens=100))
    with pytest.raises(RateLimited, match="150 tokens per minute for models 'a/\\*'"):
        await run(place, of_whom(who, ANNA, max_tokens=100))
    await run(place, of_whom(who, BORIS, max_tokens=100))
    limiter = place.gateway.limiter
    assert not limiter.plan(who, "other/m", lambda asked: ["other/m"], ANNA).hands


def test_a_changed_limit_holds_for_who_was_counted_before() -> None:
    limiter = Limiter(MemoryCounters(ManualClock()), ManualClock())
    assert [admits(limiter, caller(each(amount=2)), ANNA) for _ in range(3)] == [True, True, False]
    assert [admits(limiter, caller(each(amount=4)), ANNA) for _ in range(3)] == [True, True, False]
    assert [admits(limiter, caller(), ANNA) for _ in range(3)] == [True] * 3


CALLS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.sampled_from([None, ANNA, BORIS]),
        st.lists(st.sampled_from("xyz"), max_size=3, unique=True),
        st.sampled_from([0.0, 0.01, 1.0, 20.0]),
        st.booleans(),
    ),
    max_size=60,
)


@given(CALLS, st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_nobody_is_ever_above_what_an_ideal_store_gives(calls: Any, user: int, tag: int, own: int) -> None:
    """Two processes and everything in a mixture; and of a refused call nothing is used anywhere."""
    host = Host(2)
    who = caller(each(amount=user), each(amount=tag, level=Level.TAG), own=(limit(amount=own),))
    amounts = {"eu": user, "tag": tag, "own": own}
    ideals: dict[str, Ideal] = {}
    for process, end_user, tags, pause_s, tick in calls:
        host.clock.advance(pause_s)
        if tick:
            host.tick()
        now = host.clock.monotonic()
        names = ["own", *(["eu" + end_user] if end_user else []), *("tag" + one for one in tags)]
        stores = [
            ideals.setdefault(name, Ideal(next(amounts[key] for key in amounts if name.startswith(key)), MINUTE_S, now))
            for name in names
        ]
        for store in stores:
            store.fill(now)
        free = all(store.left > 1 - 1e-6 for store in stores)
        if admits(host.limiters[process], who, end_user, *tags):
            assert free
            for store in stores:
                store.left -= 1


@pytest.mark.parametrize("unit", Unit)
def test_what_is_kept_of_end_users_who_come_once_is_bounded(unit: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_NAMED", 100)
    clock = ManualClock()
    limiter = Limiter(MemoryCounters(clock), clock)
    who = caller(each(unit, 1000))
    for number in range(1_000):
        plan = limiter.plan(who, "m", no_more_names, f"eu_{number}")
        assert limiter.take_near(plan, 7) is None
        Held(limiter, plan, 7).settle(5)
    for _ in range(4):
        clock.advance(TICK_S)
        limiter.tick()
    del plan
    gc.collect()
    assert (limiter.active, len(limiter._named), len(limiter._hands)) == (0, 100, 100)


def test_plans_with_many_tags_are_bounded_by_what_they_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_NAMED", 100)
    limiter = Limiter(MemoryCounters(ManualClock()), ManualClock())
    who = caller(each(level=Level.TAG), each(Unit.TOKENS, level=Level.TAG))
    for turn in range(3):
        changed = replace(who, each=(each(amount=turn, level=Level.TAG), who.each[1]))
        for number in range(100):
            limiter.plan(changed, "m", no_more_names, tags=tuple(f"{number}-{tag}" for tag in range(10)))
            assert len(limiter._named) <= 5
        assert limiter._compiled == 100
    gc.collect()
    assert len(limiter._hands) == 100


def test_a_part_of_a_unit_does_not_keep_a_counter_in_hand() -> None:
    """The size of a slice is no whole number: what it leaves over goes back when nobody uses it."""
    host, who = Host(2), caller(each(amount=1_000))
    for count in (5, 2, 5, 0, 0, 0, 0, 0):
        for _ in range(count):
            assert admits(host.limiters[0], who, ANNA)
        host.tick()
    assert host.limiters[0].active == 0
    plan = host.limiters[0].plan(who, "m", no_more_names, ANNA)
    assert [hand.have for hand in plan.hands] == [0.0]


def test_tokens_of_a_long_call_are_not_lost_with_its_end_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_NAMED", 1)
    host, who = Host(), caller(each(Unit.TOKENS, 100))
    host.limiters[0]._near.alone = True  # type: ignore[attr-defined]
    plan = host.limiters[0].plan(who, "m", no_more_names, ANNA)
    assert host.limiters[0].take_near(plan, 100) is None
    held = Held(host.limiters[0], plan, 100)
    for _ in range(4):
        host.tick()
    assert host.limiters[0].active == 0, "it runs for longer than what was drawn is remembered"
    held.settle(0)
    del plan, held
    assert admits(host.limiters[0], who, BORIS), "which takes the place of the other one's plan"
    gc.collect()
    host.tick()
    again = host.limiters[0].plan(who, "m", no_more_names, ANNA)
    assert host.limiters[0].take_near(again, 100) is None


class Away:
    """Shared counters, first away and then back; they remember what they are told."""

    def __init__(self) -> None:
        self.away = True
        self.on_back: Any = None
        self.told: dict[str, float] = {}

    def exchange(self, draws: Any, then: Any) -> None:
        then([Grant(0.0, float(draw.amount)) for draw in draws])

    def tell(self, draws: Any) -> None:
        for draw in draws:
            self.told[draw.counter] = self.told.get(draw.counter, 0.0) - draw.back

    def recall(self, counters: Any) -> None: ...


def test_what_end_users_used_while_redis_was_away_is_told_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MOST_OWED", 50)
    clock, shared = ManualClock(), Away()
    limiter = Limiter(MemoryCounters(clock), clock, shared)
    who = caller(replace(each(amount=1_000), window_s=DAY_S))
    for number in range(80):
        assert admits(limiter, who, f"eu_{number}")
    for _ in range(4):
        clock.advance(TICK_S)
        limiter.tick()
    assert limiter.active == 0, "a tick does not walk over whoever was there since Redis went"
    shared.away = False
    limiter.tick()
    owed = {name: units for name, units in shared.told.items() if units > 0}
    assert len(owed) == 50
    assert list(owed.values()) == pytest.approx([1.0] * 50, abs=0.01)
    limiter.tick()
    limiter.tick()
    assert limiter.active == 0
