"""Who is tried after a failure, and when nobody is."""

from contextlib import aclosing
from random import Random

import pytest
from tests.gateway.script import Script, World, call, world

from xrouter.core.call import Call
from xrouter.core.chat import Delta, Event, Finish, Usage
from xrouter.core.errors import ProviderRefused, ProviderUnavailable, UpstreamError
from xrouter.gateway import pipeline

GOOD: list[Event] = [Delta("hello"), Finish("stop"), Usage(7, 2)]


def down(status: int | None = 500) -> UpstreamError:
    return ProviderUnavailable("down", provider="a", upstream_status=status)


def cut() -> UpstreamError:
    """After the request was sent, before any status: the vendor may have done the work."""
    return ProviderUnavailable("reset", provider="a")


class Cut(Script):
    """Breaks off before the status line."""

    async def chat(self, request, attempt):  # type: ignore[no-untyped-def]
        self.calls.append(attempt)
        attempt.sending()
        raise cut()
        yield


async def collect(one: Call, place: World) -> list[Event]:
    async with aclosing(pipeline.converse(one, place.gateway)) as events:
        return [event async for event in events]


async def fail(place: World, one: Call) -> UpstreamError:
    with pytest.raises(UpstreamError) as caught:
        await collect(one, place)
    return caught.value


def deployment(place: World, name: str):  # type: ignore[no-untyped-def]
    return place.gateway.catalog.served[f"{name}/m"][0]


async def test_a_request_that_may_have_been_done_twice_is_not_sent_a_third_time() -> None:
    a, b, c = Cut([]), Cut([]), Script(GOOD)
    place = world(a=a, b=b, c=c)
    await fail(place, call())
    assert (len(a.calls), len(b.calls), len(c.calls)) == (1, 1, 0)


async def test_what_acts_on_the_vendors_side_is_not_sent_twice() -> None:
    a, b = Cut([]), Script(GOOD)
    place = world(a=a, b=b)
    await fail(place, call(tools=[{"type": "web_search"}]))
    assert b.calls == []


async def test_a_conversation_that_was_too_long_goes_to_who_reads_more() -> None:
    too_long = ProviderRefused("too long", provider="a", upstream_status=400, code="context_length_exceeded")
    a, b, c = Script([too_long]), Script(GOOD), Script(GOOD)
    place = world(a=a, b=b, c=c)
    for name, tokens in (("a", 8_000), ("b", 8_000), ("c", 32_000)):
        object.__setattr__(deployment(place, name), "context_tokens", tokens)
    assert await collect(call(), place) == GOOD
    assert (len(b.calls), len(c.calls)) == (0, 1)


async def test_who_usually_answers_too_late_is_not_tried() -> None:
    a, b = Script([down(301)]), Script(GOOD)
    place = world(a=a, b=b)
    place.gateway.health.of(deployment(place, "b")).ttft_samples.add(4.0)
    await fail(place, call(timeout_s=3.0))
    assert b.calls == []
    assert await collect(call(timeout_s=5.0), place) == GOOD


async def test_failing_over_to_who_does_well_costs_no_budget() -> None:
    a, b = Script([down(301)]), Script(GOOD)
    place = world(a=a, b=b)
    for _ in range(60):
        assert await collect(call(), place) == GOOD


async def test_repeats_end_with_the_budget_and_the_error_says_so() -> None:
    scripts = {"a": Script([down(301)]), "b": Script([down(301)])}
    place = world(**scripts)
    place.gateway.health.chance = Random(1)
    errors = [await fail(place, call()) for _ in range(100)]
    assert sum(error.retry == "budget_exhausted" for error in errors) > 50
    attempts = sum(len(one.calls) for one in scripts.values())
    assert 100 < attempts <= 140, "a fifth, three at once, one each second that this takes"


async def test_who_failed_lately_is_tried_after_who_did_not() -> None:
    a, b, c = Script([down(301)]), Script([down(301)]), Script(GOOD)
    place = world(a=a, b=b, c=c)
    await collect(call(), place)
    assert (len(a.calls), len(b.calls), len(c.calls)) == (1, 1, 1)
    await collect(call(), place)
    assert (len(a.calls), len(b.calls), len(c.calls)) == (2, 1, 2)


@pytest.mark.parametrize("status", [400, 404])
@pytest.mark.parametrize("name", ["any", "a/m", "a/m:floor"])
async def test_a_model_that_the_vendor_does_not_know_is_the_mistake_of_who_named_it(name: str, status: int) -> None:
    unknown = ProviderRefused(
        "a answered: no such model", provider="a", upstream_status=status, code="model_not_found", param="model"
    )
    error = await fail(world(a=Script([unknown])), call(name))
    if name == "any":
        assert (error.http_status, error.code, error.param) == (502, "provider_model_missing", None)
        assert "no such model" in error.message
        assert "'any' lead to a/m" in error.message
    else:
        assert (error.http_status, error.code, error.param) == (status, "model_not_found", "model")
    assert [one["error"] for one in error.metadata["attempts"]] == ["model_not_found"]
