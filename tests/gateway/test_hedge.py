"""The hedged first token: the quicker of two answers, one bill, a bounded number of second attempts."""

import asyncio
import random
from math import inf

import pytest
from tests.gateway.script import Script, World, call, world

from xrouter.core.beside import Hedge
from xrouter.core.call import Call, Phase, State
from xrouter.core.chat import Delta, Event, Finish, Start, Usage
from xrouter.core.closing import closing
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.errors import ProviderUnavailable, UpstreamError
from xrouter.gateway import hedge, pipeline
from xrouter.gateway.health import Health
from xrouter.gateway.hedger import MAX_CREDIT, MIN_SAMPLES, Hedger
from xrouter.gateway.route import Candidate

PATIENT = Timeouts(connect_s=5, first_s=5, idle_s=5, total_s=10, total_stream_s=10)


def says(text: str) -> list[Event]:
    return [Start(), Delta(text), Delta(" more"), Usage(10, 5), Finish("stop")]


def hedger(after_s: float | None = 0.01, credit: float = 5.0) -> Hedger:
    made = Hedger(Hedge(after_s=after_s, budget_percent=100))
    for _ in range(int(credit)):
        made.after_s(Candidate("m", Deployment("a/m", "a", "x", "m")), Health())
    return made


def hedging(**scripts: Script) -> tuple[World, Hedger]:
    place, made = world(timeouts=PATIENT, **scripts), hedger()
    place.gateway.hedgers["any"] = made  # type: ignore[index]
    return place, made


async def texts(one: Call, place: World) -> str:
    async with closing(events := pipeline.converse(one, place.gateway)):
        return "".join([event.text async for event in events if isinstance(event, Delta)])


def told(one: Call) -> list[tuple[str, State, bool, str | None]]:
    return [(made.deployment.provider, made.state, made.on_operator, made.error) for made in one.attempts]


async def test_the_second_one_answers_where_the_first_is_slow() -> None:
    place, made = hedging(a=Script([inf]), b=Script(says("b")))
    one = call()
    assert await texts(one, place) == "b more"
    assert told(one) == [
        ("a", State.CANCELLED, True, hedge.LOST),
        ("b", State.SUCCEEDED, False, None),
    ]
    assert one.served is one.attempts[1]
    assert one.served_model == "any"
    assert one.cost_micro == one.attempts[1].cost_micro > 0
    assert one.attempts[0].cost_micro > 0, "the vendor has seen it"
    assert sorted(done.number for done in place.books.ends) == [1, 2]
    assert (made.made, made.won) == (1, 1)
    assert all(not place.gateway.health.of(each.deployment).in_flight for each in one.attempts)
    assert place.gateway.health.of(one.attempts[0].deployment).ttft_samples.count == 1


async def test_the_first_one_answers_after_all_and_the_second_is_cut_off_at_once() -> None:
    slow = Script([0.05, *says("a")])
    second = Script([inf])
    place, made = hedging(a=slow, b=second)
    one = call()
    async with closing(events := pipeline.converse(one, place.gateway)):
        first = await anext(events)
        assert isinstance(first, Start)
        while not second.closed:
            await asyncio.sleep(0)
        assert one.attempts[1].state is State.CANCELLED
        rest = [event async for event in events]
    assert len(rest) == 4
    assert told(one) == [("a", State.SUCCEEDED, False, None), ("b", State.CANCELLED, True, hedge.LOST)]
    assert one.served is one.attempts[0]
    assert (made.made, made.won) == (1, 0)


async def test_a_quick_one_is_asked_alone() -> None:
    second = Script(says("b"))
    place, made = hedging(a=Script(says("a")), b=second)
    one = call()
    assert await texts(one, place) == "a more"
    assert (second.calls, made.made) == ([], 0)


async def test_what_is_not_streamed_and_what_has_one_deployment_is_not_hedged() -> None:
    place, made = hedging(a=Script([0.05, *says("a")]))
    place.gateway.hedgers["a/m"] = made  # type: ignore[index]
    assert await texts(call("a/m"), place) == "a more"
    assert made.made == 0


async def test_the_first_one_fails_while_the_second_runs() -> None:
    down = ProviderUnavailable("no", provider="a")
    third = ProviderUnavailable("no", provider="c")
    place, _ = hedging(a=Script([0.05, down]), b=Script([0.5, *says("b")]), c=Script([third]))
    # `b` fails over, too, within the first runner: it is asked twice, and the quicker of the two answers.
    assert await texts(call(), place) == "b more"


async def test_both_fail() -> None:
    place, made = hedging(
        a=Script([0.05, ProviderUnavailable("a is down", provider="a")]),
        b=Script([ProviderUnavailable("b is down", provider="b")]),
    )
    one = call()
    with pytest.raises(UpstreamError, match="is down"):
        await texts(one, place)
    assert made.made == 1
    assert [made.on_operator for made in one.attempts if made.beside] == [True]
    assert all(done.state is State.FAILED for done in one.attempts)


async def test_the_second_one_fails_and_the_first_answers() -> None:
    place, _ = hedging(a=Script([0.05, *says("a")]), b=Script([ProviderUnavailable("no", provider="b")]))
    one = call()
    assert await texts(one, place) == "a more"
    assert len([made for made in one.attempts if made.beside]) == 1, "one further attempt, no retries of it"


async def test_an_error_after_the_second_one_has_won_is_told() -> None:
    place, _ = hedging(
        a=Script([inf]), b=Script([Start(), Delta("half"), ProviderUnavailable("b broke", provider="b")])
    )
    one = call()
    one.may_continue = False
    with pytest.raises(UpstreamError, match="b broke"):
        await texts(one, place)


async def test_what_the_second_one_has_begun_is_gone_on_with() -> None:
    place, _ = hedging(
        a=Script([inf], [Start(), Delta(" whole"), Usage(10, 5), Finish("stop")]),
        b=Script([Start(), Delta("half and"), ProviderUnavailable("b broke", provider="b")]),
    )
    one = call()
    assert await texts(one, place) == "half and whole"
    assert [(made.deployment.provider, made.state, made.on_operator) for made in one.attempts] == [
        ("a", State.CANCELLED, True),
        ("b", State.FAILED, False),
        ("a", State.SUCCEEDED, False),
    ]


@pytest.mark.parametrize("stage", ["waiting", "won"])
async def test_the_client_leaves(stage: str) -> None:
    first = Script([inf])
    second = Script([inf] if stage == "waiting" else [Start(), Delta("x"), inf])
    place, _ = hedging(a=first, b=second)
    one = call()
    reading = asyncio.create_task(texts(one, place))
    while not second.calls or (stage == "won" and second.calls[0].phase is not Phase.SHOWN):
        await asyncio.sleep(0.001)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert (first.closed, second.closed) == (1, 1)
    assert sorted(made.on_operator for made in one.attempts) == [False, True], "the client pays for one of them"
    assert {made.state for made in one.attempts} == {State.CANCELLED}


async def test_many_at_once_each_get_one_whole_answer() -> None:
    """Whoever is quicker, by chance and often at the same moment: nothing is mixed, nothing lost, one pays."""
    pick = random.Random(5)

    def plays(text: str) -> list[list[Event | float]]:
        return [[pick.choice([0.0, 0.009, 0.01, 0.011, 0.03]), *says(text)] for _ in range(200)]

    place, made = hedging(a=Script(*plays("a")), b=Script(*plays("b")))
    calls = [call() for _ in range(150)]

    async def one(each: Call) -> str:
        made.after_s(Candidate("any", each_deployment), Health())
        return await texts(each, place)

    each_deployment = place.gateway.catalog.served["a/m"][0]
    answers = []
    for begin in range(0, len(calls), 10):
        answers += await asyncio.gather(*(one(each) for each in calls[begin : begin + 10]))
    assert set(answers) <= {"a more", "b more"}
    assert made.made > 10
    for each, answer in zip(calls, answers, strict=True):
        (served,) = [found for found in each.attempts if not found.on_operator]
        assert served.deployment.provider == answer[0]
        assert served.state is State.SUCCEEDED
        assert each.served is served
    for deployment in ("a/m", "b/m"):
        assert place.gateway.health.of(place.gateway.catalog.served[deployment][0]).in_flight == 0


async def test_no_second_attempt_stands_in_a_queue() -> None:
    place = world(timeouts=PATIENT, max_concurrency=1, a=Script([0.05, *says("a")]), b=Script(says("b")))
    made = hedger()
    place.gateway.hedgers["any"] = made  # type: ignore[index]
    assert place.slots.room("b", 1, 1).take() is not None
    assert await texts(call(), place) == "a more"
    assert made.made == 0


# ── the budget, in virtual time ──────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("percent", [1.0, 2.0, 5.0, 20.0])
def test_second_attempts_stay_within_the_budget(percent: float) -> None:
    made = Hedger(Hedge(after_s=0.0, budget_percent=percent))
    candidate, health = Candidate("m", Deployment("a/m", "a", "x", "m")), Health()
    for calls in range(1, 2_001):
        made.after_s(candidate, health)
        while made.spend():
            pass
        assert made.made <= calls * percent / 100 + 1e-6
    assert made.made >= 2_000 * percent / 100 - 1


def test_only_so_many_are_saved_up() -> None:
    made = hedger(credit=10_000)
    assert sum(made.spend() for _ in range(1_000)) == MAX_CREDIT


def test_the_p95_of_a_bimodal_vendor_takes_the_slow_ones_away() -> None:
    """Three of a hundred streams take 20 times as long to begin: p99 falls by more than 60 % for at most 5 % more
    calls."""
    pick, health = random.Random(9), Health()
    candidate = Candidate("m", Deployment("a/m", "a", "x", "m"))
    samples = health.of(candidate.deployment).ttft_samples
    made = Hedger(Hedge(budget_percent=5))

    def first_token_s() -> float:
        return pick.gauss(10.0, 0.5) if pick.random() < 0.03 else pick.gauss(0.5, 0.05)

    plain, hedged = [], []
    for _ in range(20_000):
        took_s = first_token_s()
        plain.append(took_s)
        after_s = made.after_s(candidate, health)
        if after_s is not None and took_s > after_s and made.spend():
            took_s = min(took_s, after_s + first_token_s())
        samples.add(took_s)
        hedged.append(took_s)
    before, after = (sorted(found)[int(len(found) * 0.99)] for found in (plain, hedged))
    assert after < 0.4 * before
    assert made.made <= 0.05 * 20_000


def test_few_samples_say_nothing() -> None:
    health, candidate = Health(), Candidate("m", Deployment("a/m", "a", "x", "m"))
    made = Hedger(Hedge())
    for _ in range(MIN_SAMPLES - 1):
        health.of(candidate.deployment).ttft_samples.add(1.0)
    assert made.after_s(candidate, health) is None
    health.of(candidate.deployment).ttft_samples.add(1.0)
    assert made.after_s(candidate, health) == 1.0
