"""Copies of calls: drawn by chance, bounded in number and money, and never where the route forbids."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway.script import Script, World, answer, call, world

from xrouter.core.beside import Shadow
from xrouter.core.call import Caller, Scope
from xrouter.core.chat import Answer, AnswerMessage, Choice, Usage
from xrouter.core.clock import Clock, ManualClock, SystemClock
from xrouter.core.conditions import parse
from xrouter.core.policy import Policy, Rule
from xrouter.gateway import catalog, pipeline
from xrouter.gateway.shadower import BOOKED_AFTER_S, DAY_S, MAX_TOGETHER, Shadower

RICH = 10**12


def shadower(
    percent: float = 100, most_micro: int = RICH, clock: Clock | None = None, *, looked: bool = True
) -> Shadower:
    made = Shadower("a/m", Shadow("b/m", percent, most_micro), clock or SystemClock(), seed=3)
    if looked:
        made.booked(made.look(), 0)
    return made


def shaded(made: Shadower, regions: Iterable[str] | None = None, rule: Rule | None = None, **scripts: Script) -> World:
    """`a/m` with a shadow `b/m`, which stands in no region that anybody has told; `c/m` stands in `ru`."""
    place = world(**scripts)
    found = [
        replace(one, region="ru" if one.provider != "b" else None)
        for each in place.gateway.catalog.served.values()
        for one in each
    ]
    policy = Policy(regions=None if regions is None else frozenset(regions), rules=() if rule is None else (rule,))
    served = catalog.build(dict.fromkeys(found), {}, policies={"a/m": policy})
    place.gateway = replace(place.gateway, catalog=served)
    place.gateway.shadows["a/m"] = made  # type: ignore[index]
    return place


async def asked(place: World, caller: Caller | None = None, **fields: object) -> str | None:
    one = call("a/m", stream=False, **fields)
    if caller is not None:
        one.caller = caller
    found = [event async for event in pipeline.converse(one, place.gateway)]
    assert isinstance(found[0], Answer)
    assert len(one.attempts) == 1
    return found[0].choices[0].message.content


async def idle(made: Shadower) -> None:
    async with asyncio.timeout(20):
        while made.running:
            await asyncio.sleep(0.001)


async def test_a_copy_goes_out_and_its_answer_is_thrown_away() -> None:
    made, shadow = shadower(), Script([Answer((Choice(0, AnswerMessage("b"), "stop"),), Usage(10, 20))])
    place = shaded(made, a=Script([answer("a")]), b=shadow)
    assert await asked(place) == "a"
    await idle(made)
    (copy,) = [done for done in place.books.ends if done.on_operator]
    assert (copy.deployment.id, copy.call.caller.key_id, copy.number) == ("b/m", "shadow:a/m", 1)
    assert copy.call.id.startswith("shadow-")
    assert made.spent_micro() == copy.cost_micro > 0
    assert len(shadow.calls) == 1


async def test_it_never_holds_a_call_up_and_only_so_many_are_under_way() -> None:
    made, shadow = shadower(), Script([inf])
    place = shaded(made, a=Script([answer("a")]), b=shadow)
    for _ in range(MAX_TOGETHER + 5):
        assert await asked(place) == "a"
    await asyncio.sleep(0)
    assert (len(made.running), made.skipped) == (MAX_TOGETHER, 5)
    for task in made.running:
        task.cancel()
    await idle(made)
    assert made.spent_micro() > 0, "the vendors saw them"


async def test_a_shadow_that_fails_fails_nobody() -> None:
    made = shadower()
    place = shaded(made, a=Script([answer("a")]), b=Script([ValueError("broken adapter")]))
    assert await asked(place) == "a"
    (copy,) = made.running
    await asyncio.wait([copy])
    assert copy.exception() is None, "nobody would ever look at it"
    assert [done.error for done in place.books.ends if done.on_operator] == ["internal_error"]


@pytest.mark.parametrize(
    ("regions", "rule", "copies"),
    [
        (None, None, 1),
        (["ru"], None, 0),
        (None, Rule("personal", parse({"tags": "personal"}), regions=frozenset({"ru"})), 0),
        (None, Rule("other", parse({"tags": "other"}), regions=frozenset({"ru"})), 1),
    ],
)
async def test_it_stays_where_the_route_keeps_the_call(
    regions: list[str] | None, rule: Rule | None, copies: int
) -> None:
    made = shadower()
    place = shaded(made, regions, rule, a=Script([answer("a")]), b=Script([answer("b")]))
    one = call("a/m", stream=False)
    one.tags = ("personal",)
    assert len([event async for event in pipeline.converse(one, place.gateway)]) == 1
    await idle(made)
    assert made.copies == copies


async def test_what_a_key_may_not_use_gets_no_copy_of_its_calls() -> None:
    made = shadower()
    place = shaded(made, a=Script([answer("a")]), b=Script([answer("b")]))
    bound = Caller("k", "bound", frozenset({Scope.MODELS}), models=(("a/*",),))
    assert await asked(place, bound) == "a"
    assert made.copies == 0


async def test_slots_that_clients_need_are_left_alone() -> None:
    made = shadower()
    place = shaded(made, a=Script([answer("a")]), b=Script([answer("b")]))
    found = {
        name: tuple(replace(one, max_concurrency=2) for one in each)
        for name, each in place.gateway.catalog.served.items()
    }
    place.gateway = replace(place.gateway, catalog=catalog.build([one for each in found.values() for one in each], {}))
    place.gateway.shadows["a/m"] = made  # type: ignore[index]
    room = place.slots.room("b", 2, 10)
    room.take()
    assert await asked(place) == "a"
    assert made.copies == 0


def test_as_many_are_drawn_as_the_route_says() -> None:
    made = shadower(percent=10)
    assert 900 < sum(made.is_drawn() for _ in range(10_000)) < 1_100


# ── money, in virtual time ───────────────────────────────────────────────────────────────────────────────


def test_nothing_is_copied_before_the_books_were_read() -> None:
    made = shadower(looked=False)
    assert not made.reserve("one", 1)
    made.booked(made.look(), 0)
    assert made.reserve("one", 1)


def test_the_days_money_holds_with_what_is_under_way_and_over_restarts() -> None:
    clock = ManualClock()
    made = shadower(most_micro=100, clock=clock)
    assert [made.reserve("one", 40), made.reserve("two", 40), made.reserve("three", 40)] == [True, True, False]
    made.ended("one", 10)
    assert made.spent_micro() == 50
    assert made.reserve("three", 40)
    again = shadower(most_micro=100, clock=clock, looked=False)  # a new process
    again.booked(again.look(), 95)
    assert not again.reserve("four", 10)
    assert again.reserve("four", 5)


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("begin"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("look"), st.integers(0, 3)),
        st.tuples(st.just("wait"), st.floats(0.1, 9.0)),
    ),
    max_size=60,
)


@given(_STEPS, st.floats(0.0, BOOKED_AFTER_S - 0.1))
def test_no_copy_is_ever_counted_twice_or_left_out(steps: list[tuple[str, float]], booked_after_s: float) -> None:
    """The reference knows every copy; the books get it `booked_after_s` after its end, and a look may take its time,
    in which further copies begin and end."""
    clock = ManualClock()
    made = shadower(clock=clock)
    costs: dict[str, int] = {}  # what each counts at present
    running: list[str] = []
    ended: dict[str, float] = {}

    def begin(expected: float) -> None:
        if len(running) < MAX_TOGETHER:
            name = f"shadow-{len(costs)}"
            assert made.reserve(name, int(expected))
            costs[name] = int(expected)
            running.append(name)

    def end(cost: float) -> None:
        if running:
            name = running.pop(0)
            made.ended(name, int(cost))
            costs[name], ended[name] = int(cost), clock.now()

    for what, amount in steps:
        if what == "begin":
            begin(amount)
        elif what == "end":
            end(amount)
        elif what == "wait":
            clock.advance(amount)
        else:
            look = made.look()
            sums = sum(
                costs[name] for name, at in ended.items() if at + booked_after_s <= clock.now() and name not in look.but
            )
            for _ in range(int(amount)):
                begin(7)
                end(3)
            made.booked(look, sums)
        assert made.spent_micro() == sum(costs.values())


def test_a_new_day_begins_with_a_look_into_the_books() -> None:
    clock = ManualClock()
    made = shadower(most_micro=100, clock=clock)
    assert made.reserve("one", 100)
    made.ended("one", 100)
    clock.advance(DAY_S)
    assert not made.reserve("two", 1), "nobody has looked yet"
    made.booked(made.look(), 0)
    assert made.reserve("two", 100)
