"""An answer that the vendor's content filter has taken away opens the models that the route keeps for that."""

from contextlib import aclosing

import pytest
from tests.gateway.script import Script, Step, World, call, world

from xrouter.core.call import Call, State
from xrouter.core.chat import Answer, AnswerMessage, Choice, Delta, Event, Finish, Start, Usage
from xrouter.core.errors import ProviderUnavailable
from xrouter.core.policy import Policy
from xrouter.core.preferences import Preferences
from xrouter.gateway import pipeline

KEPT = Policy(models=("a/m", "b/m"), fallbacks={"content_policy": ("c/m",)})
NOBODY = Policy(models=("a/m", "b/m"))


def whole(text: str, *finishes: str) -> Answer:
    choices = [Choice(place, AnswerMessage(text), finish) for place, finish in enumerate(finishes)]  # type: ignore[arg-type]
    return Answer(tuple(choices), Usage(7, 2))


REFUSAL = whole("I would rather not.", "content_filter")
GOOD = whole("Here you are.", "stop")


def place(policy: Policy = KEPT, *, a: list[Step], c: list[Step]) -> World:
    return world(policies={"any": policy}, a=Script(a), b=Script([whole("b", "stop")]), c=Script(c))


async def collect(one: Call, where: World) -> list[Event]:
    async with aclosing(pipeline.converse(one, where.gateway)) as events:
        return [event async for event in events]


async def test_a_whole_answer_that_is_a_refusal_opens_them_and_is_billed() -> None:
    one, where = call(stream=False), place(a=[REFUSAL], c=[GOOD])
    assert await collect(one, where) == [GOOD]
    told = [(end.deployment.id, end.state, end.error, end.cost_micro) for end in where.books.ends]
    assert told == [("a/m", State.FAILED, "content_filter", 9 * 65), ("c/m", State.SUCCEEDED, None, 9 * 65)]
    vitals = where.gateway.health.of(where.books.ends[0].deployment)
    assert vitals.failures == 0, "a refusal says nothing about the vendor's health"


async def test_whoever_it_opens_may_refuse_as_well() -> None:
    assert await collect(call(stream=False), place(a=[REFUSAL], c=[REFUSAL])) == [REFUSAL]


@pytest.mark.parametrize("policy", [NOBODY, Policy(models=("a/m",), fallbacks={"context_length": ("c/m",)})])
async def test_without_the_class_the_refusal_is_the_answer(policy: Policy) -> None:
    where = place(policy, a=[REFUSAL], c=[GOOD])
    assert await collect(call(stream=False), where) == [REFUSAL]
    assert len(where.books.ends) == 1


async def test_so_it_is_where_the_client_wants_no_fallbacks_or_nobody_does_well() -> None:
    one = call(stream=False)
    one.preferences = Preferences(allow_fallbacks=False)
    assert await collect(one, place(a=[REFUSAL], c=[GOOD])) == [REFUSAL]
    where = place(a=[REFUSAL], c=[GOOD])
    ill = where.gateway.catalog.served["c/m"][0]
    where.gateway.health.of(ill).failures = 1
    assert await collect(call(stream=False), where) == [REFUSAL]


async def test_so_it_is_where_a_choice_came_through() -> None:
    half = whole("one of two", "content_filter", "stop")
    assert await collect(call(stream=False, n=2), place(a=[half], c=[GOOD])) == [half]
    none = whole("none of two", "content_filter", "content_filter")
    assert await collect(call(stream=False, n=2), place(a=[none], c=[GOOD])) == [GOOD]


STREAM: list[Event] = [Start(), Delta("Here"), Finish("stop"), Usage(7, 2)]


async def test_a_stream_that_ends_before_any_content_opens_them() -> None:
    where = place(a=[Start(), Finish("content_filter"), Usage(5, 0)], c=[*STREAM])
    assert await collect(call(), where) == STREAM
    assert [end.cost_micro for end in where.books.ends] == [5 * 65, 9 * 65]


async def test_a_refusal_that_was_shown_is_the_answer() -> None:
    shown: list[Step] = [Start(), Delta("I would rather not."), Finish("content_filter"), Usage(7, 2)]
    where = place(a=shown, c=[*STREAM])
    assert await collect(call(), where) == shown
    assert len(where.books.ends) == 1


async def test_when_whoever_it_opens_fails_the_rest_of_the_route_is_asked() -> None:
    where = place(a=[REFUSAL], c=[ProviderUnavailable("down", provider="c", upstream_status=500)])
    assert await collect(call(stream=False), where) == [whole("b", "stop")]
