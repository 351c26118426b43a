"""Limits in the pipeline: what a call takes is given back exactly once, whichever way the call ends."""

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from tests.gateway.script import Maker, Script, World, answer, call, call_for, world
from tests.gateway.test_limiter import caller, limit

from xrouter.core.call import Call, Caller
from xrouter.core.chat import Delta, Finish, Usage
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import Forbidden, Invalid, NotFound, ProviderUnavailable, RateLimited
from xrouter.core.gcra import MemoryCounters
from xrouter.core.limits import DAY_S, Limit, Unit
from xrouter.core.operation import Operation
from xrouter.gateway import pipeline
from xrouter.gateway.limiter import Limiter
from xrouter.gateway.output_guess import FIRST_GUESS, OutputGuess


def of(who: Caller, one: Call) -> Call:
    one.caller = who
    return one


async def run(place: World, one: Call) -> list[Any]:
    """As the data plane does it."""
    try:
        async with aclosing(pipeline.converse(one, place.gateway)) as events:
            return [event async for event in events]
    finally:
        pipeline.end(one, place.gateway)


def whole(usage: Usage | None = None) -> Any:
    return msgspec.structs.replace(answer("hello"), usage=usage)


def left(place: World, who: Caller, *, model: str = "a/m") -> dict[bytes, bytes]:
    plan = place.gateway.limiter.plan(who, model, lambda models: [model])
    return dict(place.gateway.limiter.headers(plan))


async def test_a_call_above_the_limit_is_told_whose_it_is_and_when_it_passes() -> None:
    place = world(a=Script([whole()]))
    mine: Limit = replace(limit(amount=2, window_s=DAY_S, model="a/*"), owner="API key 'ci'")
    for _ in range(2):
        await run(place, of(caller(mine), call("a/m", stream=False)))
    refused = of(caller(mine), call("a/m", stream=False))
    with pytest.raises(RateLimited) as caught:
        await run(place, refused)
    error = caught.value
    assert (error.status, error.code) == (429, "rate_limit_exceeded")
    assert error.message.startswith(
        "API key 'ci' has reached its limit of 2 requests per day for models 'a/*'. Try again in 12h0m0s"
    )
    assert error.retry_after_s == pytest.approx(DAY_S / 2, abs=1)
    assert error.metadata["limit"] == {
        "level": "key", "owner": "API key 'ci'", "unit": "requests", "amount": 2, "window_s": DAY_S, "model": "a/*",
    }  # fmt: skip
    assert dict(error.headers)[b"x-ratelimit-remaining-requests"] == b"0"
    assert refused.hold is None
    assert len(place.books.ends) == 2


async def test_tokens_are_reserved_and_settled_by_what_was_used() -> None:
    place = world(a=Script([whole(Usage(30, 70))]))
    who = caller(limit(Unit.TOKENS, 1_000))
    running = of(who, call("a/m", stream=False, max_tokens=500))
    async with aclosing(pipeline.converse(running, place.gateway)) as events:
        assert 480 < int(left(place, who)[b"x-ratelimit-remaining-tokens"]) < 500
        _ = [event async for event in events]
    pipeline.end(running, place.gateway)
    pipeline.end(running, place.gateway)
    assert left(place, who)[b"x-ratelimit-remaining-tokens"] == b"900"
    with pytest.raises(RateLimited, match="1000 tokens per minute"):
        await run(place, of(who, call("a/m", stream=False, max_tokens=950)))


async def test_without_max_tokens_the_usual_length_is_reserved() -> None:
    place = world(a=Script([whole(Usage(30, 70))]))
    who = caller(limit(Unit.TOKENS, FIRST_GUESS + 200))
    for _ in range(300):
        place.gateway.output_guess.learn("a/m", 50)
    for _ in range(2):
        pipeline.converse(of(who, call("a/m", stream=False)), place.gateway)  # admitted; nobody iterates
    assert int(left(place, who)[b"x-ratelimit-remaining-tokens"]) > FIRST_GUESS


def test_nineteen_of_twenty_answers_are_within_the_guess() -> None:
    guess = OutputGuess()
    lengths = [100 + (number * 7919) % 1_000 for number in range(5_000)]  # evenly between 100 and 1,099
    for length in lengths:
        guess.learn("m", length)
    assert 0.9 < sum(length <= guess.of("m") for length in lengths) / len(lengths) <= 1.0
    assert guess.of("other") == FIRST_GUESS


ENDINGS = {
    "an answer": (Script([whole()]), None),
    "a failure": (Script([ProviderUnavailable("down", provider="a")]), ProviderUnavailable),
    "a refusal before any attempt": (Script([Invalid("no")], sends=False), Invalid),
    "a broken stream": (Script([Delta("x"), ProviderUnavailable("cut", provider="a")]), ProviderUnavailable),
}


@pytest.mark.parametrize("name", ENDINGS)
async def test_however_a_call_ends_it_runs_no_more(name: str) -> None:
    script, error = ENDINGS[name]
    place = world(a=Script(*script.plays, sends=script._sends))
    who = caller(limit(Unit.CONCURRENT, 1), limit(Unit.TOKENS, 10_000))
    for _ in range(3):
        one = of(who, call("a/m", stream=name == "a broken stream"))
        if error is None:
            await run(place, one)
        else:
            with pytest.raises(error):
                await run(place, one)
    assert int(left(place, who)[b"x-ratelimit-remaining-tokens"]) > 9_900


async def test_a_model_that_nobody_serves_gives_back_what_it_took() -> None:
    place = world(a=Script([whole()]))
    who = caller(limit(Unit.CONCURRENT, 1), limit(Unit.TOKENS, 10_000), limit(amount=10))
    for _ in range(2):
        with pytest.raises(NotFound):
            await run(place, of(who, call("nobody/m")))
    found = left(place, who)
    assert found[b"x-ratelimit-remaining-tokens"] == b"10000"
    assert found[b"x-ratelimit-remaining-requests"] == b"10"


async def test_a_client_who_leaves_gives_its_place_back() -> None:
    place = world(a=Script([Delta("hello"), float("inf")]))
    who = caller(limit(Unit.CONCURRENT, 1))
    for _ in range(2):
        one = of(who, call("a/m"))
        try:
            async with aclosing(pipeline.converse(one, place.gateway)) as events:
                assert isinstance(await anext(events), Delta)
                with pytest.raises(RateLimited, match="1 call at once") as caught:
                    pipeline.converse(of(who, call("a/m")), place.gateway)
                assert caught.value.retry_after_s == 1.0
        finally:
            pipeline.end(one, place.gateway)


async def test_every_part_of_a_call_is_paid_and_the_call_counts_once() -> None:
    place = world(a=Script([whole(Usage(10, 20))]), one_choice=("a",))
    who = caller(limit(Unit.TOKENS, 10_000, window_s=DAY_S), limit(amount=10))
    await run(place, of(who, call("a/m", stream=False, n=3, max_tokens=100)))
    assert left(place, who)[b"x-ratelimit-remaining-tokens"] == b"9910"
    assert left(place, who)[b"x-ratelimit-remaining-requests"] == b"9"


async def test_failed_attempts_that_cost_something_are_paid() -> None:
    broken = Script([Delta("four tokens of text"), Usage(100, 4), ProviderUnavailable("cut", provider="a")])
    place = world(a=broken)
    who = caller(limit(Unit.TOKENS, 10_000))
    with pytest.raises(ProviderUnavailable):
        await run(place, of(who, call("a/m", may_continue=False)))
    assert left(place, who)[b"x-ratelimit-remaining-tokens"] == b"9896"


async def test_a_limit_for_a_model_holds_under_its_aliases_and_as_a_fallback() -> None:
    place = world(a=Script([Delta("x"), Finish("stop")]), b=Script([Delta("x"), Finish("stop")]))
    who = caller(limit(amount=3, model="b/*"))
    for _ in range(3):
        await run(place, of(who, call("b/m")))
    for refused in (call("b/m"), call("any"), call("a/m", models=("b/m",))):
        with pytest.raises(RateLimited):
            await run(place, of(who, refused))
    await run(place, of(who, call("a/m")))


async def test_a_call_of_an_alias_counts_for_the_models_that_it_was_sent_to() -> None:
    place = world(a=Script([whole(Usage(30, 70))]), b=Script([whole(Usage(30, 70))]))
    who = caller(
        limit(amount=2, model="b/*"), limit(Unit.TOKENS, 1_000, model="b/*"), limit(Unit.CONCURRENT, 1, model="b/*"),
    )  # fmt: skip
    for _ in range(4):
        await run(place, of(who, call("a/m", stream=False, models=("b/m",))))
    found = left(place, who, model="b/m")
    assert found[b"x-ratelimit-remaining-requests"] == b"2"
    assert found[b"x-ratelimit-remaining-tokens"] == b"1000"
    everything = caller(limit(amount=2, model="any"))
    for _ in range(2):
        await run(place, of(everything, call("any", stream=False)))
    with pytest.raises(RateLimited):
        await run(place, of(everything, call("any", stream=False)))


async def test_a_limit_for_a_model_that_failed_is_not_given_back() -> None:
    place = world(a=Script([ProviderUnavailable("down", provider="a")]), b=Script([whole()]))
    who = caller(limit(amount=1, model="a/*"))
    await run(place, of(who, call("a/m", stream=False, models=("b/m",))))
    with pytest.raises(RateLimited):
        await run(place, of(who, call("a/m", stream=False, models=("b/m",))))


async def test_embeddings_count_their_inputs() -> None:
    place = world(a=Maker(), serves=frozenset({Operation.EMBEDDINGS}))
    who = caller(limit(Unit.TOKENS, 1_000))
    await run(place, of(who, call_for(EmbeddingsRequest("a/m", ("12345", "1234567890"), {}))))
    assert left(place, who)[b"x-ratelimit-remaining-tokens"] == b"985"


@pytest.mark.parametrize("processes", [1, 2])
async def test_what_is_refused_before_anything_is_sent_uses_nothing(processes: int) -> None:
    """A model that nobody serves (404), one that the key may not use (403)."""
    place = world(a=Script([whole()]))
    if processes > 1:  # not alone: what is left over goes back at once
        near = MemoryCounters(place.gateway.clock, {}, {})
        place = replace(place, gateway=replace(place.gateway, limiter=Limiter(near, place.gateway.clock)))
    who = caller(limit(amount=5), limit(Unit.TOKENS, 100_000), limit(Unit.CONCURRENT, 1))
    kept = replace(who, key_id="narrow", models=(("other/*",),))
    before = left(place, who)
    for _ in range(10):
        with pytest.raises(NotFound):
            await run(place, of(who, call("nobody/m", stream=False)))
        with pytest.raises(Forbidden):
            await run(place, of(kept, call("a/m", stream=False)))
    assert left(place, who) == before
    for _ in range(5):
        await run(place, of(who, call("a/m", stream=False)))
    with pytest.raises(RateLimited):
        await run(place, of(who, call("a/m", stream=False)))
