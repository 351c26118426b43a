"""What vendors take in pieces only: many attempts, one answer."""

import asyncio
import dataclasses
from contextlib import aclosing
from math import inf
from typing import Any

import msgspec
import pytest
from tests.gateway.script import EVERYTHING, Maker, Script, World, answer, call, call_for, world

from xrouter.core.call import Attempt, Call, Piece, State
from xrouter.core.chat import Answer, ChatRequest, Delta, Event, Finish, Start, Usage
from xrouter.core.deployment import Timeouts
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid, ProviderUnavailable, UpstreamError
from xrouter.core.images import Images, ImagesRequest
from xrouter.gateway import fan_out, pipeline, route

GOOD: list[Event] = [Start(), Delta("hel"), Delta("lo"), Finish("stop"), Usage(7, 2)]
SLOW = Timeouts(first_s=5, idle_s=5, total_s=5, total_stream_s=5)


async def collect(one: Call, place: World) -> list[Piece]:
    async with aclosing(pipeline.converse(one, place.gateway)) as events:
        return [event async for event in events]


def down() -> UpstreamError:
    return ProviderUnavailable("down", provider="a", upstream_status=500)


def texts(events: list[Piece]) -> dict[int, str]:
    found: dict[int, str] = {}
    for event in events:
        if isinstance(event, Delta):
            found[event.choice] = found.get(event.choice, "") + event.text
    return found


def prompts(*wanted: str, stream: bool = False, **fields: Any) -> Call:
    """A call as `/v1/completions` makes it."""
    request = call("a/m", stream=stream, **fields).request
    assert isinstance(request, ChatRequest)
    return call_for(msgspec.structs.replace(request, prompt=wanted[0], prompts=wanted))


async def test_choices_are_streamed_side_by_side_and_counted_through() -> None:
    place, one = world(a=Script(GOOD), one_choice=("a",)), call("a/m", n=3)
    events = await collect(one, place)
    assert texts(events) == {0: "hello", 1: "hello", 2: "hello"}
    assert [event.choice for event in events if isinstance(event, Finish)] != []
    assert sorted(event.choice for event in events if isinstance(event, Finish)) == [0, 1, 2]
    assert [event for event in events if isinstance(event, Start)] == [Start()]
    assert events[-1] == Usage(21, 6)
    assert len(place.books.intents) == len(place.books.ends) == 3
    assert sorted(attempt.number for attempt in one.attempts) == [1, 2, 3]
    assert all(attempt.cost_micro == 9 * 65 for attempt in one.attempts)
    assert len(place.books.first) == 1, "the first content of a call is counted once"


async def test_a_part_does_not_ask_for_several_choices() -> None:
    place = world(a=Script(GOOD), one_choice=("a",))
    await collect(call("a/m", n=2, temperature=1), place)
    asked = [attempt.request for attempt in place.books.intents]
    assert all(isinstance(one, ChatRequest) and {"messages", "temperature"} == set(one.fields) for one in asked)


async def test_whole_choices_become_one_answer() -> None:
    place, one = world(a=Script([answer("x")], [answer("y")]), one_choice=("a",)), call("a/m", stream=False, n=2)
    (whole,) = await collect(one, place)
    assert isinstance(whole, Answer)
    assert [(choice.index, choice.message.content) for choice in whole.choices] == [(0, "x"), (1, "y")]
    assert whole.usage is not None
    assert whole.usage.estimated
    assert whole.usage.output_tokens == 2


@pytest.mark.parametrize("fields", [{}, {"n": 1}])
async def test_one_choice_takes_the_usual_way(fields: dict[str, Any]) -> None:
    place, one = world(a=Script(GOOD), one_choice=("a",)), call("a/m", **fields)
    assert await collect(one, place) == GOOD
    assert one.attempts[0].part is None


async def test_who_can_give_several_choices_is_asked_for_them_at_once() -> None:
    place, one = world(a=Script(GOOD)), call("a/m", n=3)
    await collect(one, place)
    (attempt,) = one.attempts
    assert attempt.request is one.request


async def test_every_part_may_fail_over() -> None:
    place, one = world(a=Script([Start(), down()]), b=Script(GOOD), one_choice=("a", "b")), call(n=2)
    assert texts(await collect(one, place)) == {0: "hello", 1: "hello"}
    assert sorted(attempt.state for attempt in place.books.ends) == [State.FAILED] * 2 + [State.SUCCEEDED] * 2


async def test_a_part_that_fails_fails_the_call_and_ends_the_others() -> None:
    class Mixed(Script):
        async def chat(self, request, attempt):  # type: ignore[no-untyped-def,override]
            self.calls.append(attempt)
            attempt.sending()
            attempt.answered(200, None)
            yield Delta("x" * 10)
            if len(self.calls) < 2:
                await asyncio.sleep(0.02)
                raise down()
            await asyncio.sleep(3600)

    place, one = world(a=Mixed(), timeouts=SLOW, one_choice=("a",)), call("a/m", n=3)
    shown: list[Piece] = []
    with pytest.raises(ProviderUnavailable):
        async with aclosing(pipeline.converse(one, place.gateway)) as events:
            async for event in events:
                shown.append(event)
    assert shown
    ends = {attempt.state: attempt for attempt in place.books.ends}
    assert set(ends) == {State.FAILED, State.CANCELLED}
    assert ends[State.CANCELLED].error == "part_failed"
    assert ends[State.CANCELLED].cost_micro > 0, "what was shown is charged"


async def test_closing_ends_every_part_before_it_returns() -> None:
    script = Script([Delta("x"), inf])
    place, one = world(a=script, timeouts=SLOW, one_choice=("a",)), call("a/m", n=4)
    async with aclosing(pipeline.converse(one, place.gateway)) as events:
        assert await anext(events) == Delta("x")
        while len(script.calls) < 4:
            await asyncio.sleep(0.001)
    assert script.closed == 4
    assert [attempt.state for attempt in place.books.ends] == [State.CANCELLED] * 4
    assert {attempt.error for attempt in place.books.ends} == {"client_left"}


async def test_the_vendors_slots_bound_the_parts() -> None:
    place = world(a=Script([0.001, *GOOD]), max_concurrency=2, timeouts=SLOW, one_choice=("a",))
    assert len(texts(await collect(call("a/m", n=9), place))) == 9
    assert place.slots.most == 2


async def test_a_slow_reader_holds_up_the_parts() -> None:
    script = Script([*[Delta("x")] * 200, Finish("stop")])
    place, one = world(a=script, one_choice=("a",)), call("a/m", n=2)
    async with aclosing(pipeline.converse(one, place.gateway)) as events:
        await anext(events)
        await asyncio.sleep(0.05)
        assert sum(attempt.received_bytes for attempt in one.attempts) < 40
        assert len([event async for event in events]) == 399 + 2 + 1, "the deltas left, two ends, the usage"


async def test_each_prompt_is_a_call_and_its_choices_follow_each_other() -> None:
    place, one = world(a=Script([answer("x")]), one_choice=("a",)), prompts("p", "q", n=2)
    (whole,) = await collect(one, place)
    assert isinstance(whole, Answer)
    assert [choice.index for choice in whole.choices] == [0, 1, 2, 3]
    said = [attempt.request for attempt in sorted(one.attempts, key=lambda attempt: attempt.number)]
    assert [one.prompt for one in said if isinstance(one, ChatRequest)] == ["p", "p", "q", "q"]
    assert all(isinstance(one, ChatRequest) and not one.prompts for one in said)
    assert [one.messages()[0].content for one in said if isinstance(one, ChatRequest)] == ["p", "p", "q", "q"]


async def test_too_many_answers_are_refused() -> None:
    with pytest.raises(Invalid) as caught:
        await collect(prompts(*"abcdefgh", n=20), world(a=Script(GOOD)))
    assert caught.value.param == "n"


def texts_in(*inputs: str, model: str = "a/m") -> Call:
    return call_for(EmbeddingsRequest(model=model, inputs=inputs, fields={}))


async def test_texts_go_one_by_one_where_the_vendor_wants_it_so() -> None:
    maker = Maker()
    place, one = world(a=maker, serves=EVERYTHING, one_input=("a",)), texts_in("a", "bb", "ccc")
    assert await collect(one, place) == [Embeddings(((1.0,), (2.0,), (3.0,)), Usage(6, 0))]
    assert len(maker.calls) == 3
    assert sum(attempt.cost_micro for attempt in one.attempts) == 6 * 65


async def test_parts_of_one_answer_come_from_one_model() -> None:
    a, b = Maker(fails=down()), Maker()
    place = world(a=a, b=b, serves=EVERYTHING, one_input=("a", "b"))
    (whole,) = await collect(texts_in("x", "yy", model="any"), place)  # one model, two accounts: may take over
    assert whole == Embeddings(((1.0,), (2.0,)), Usage(3, 0))
    first, second = place.gateway.catalog.served["any"]
    other = dataclasses.replace(second, upstream_model="another")
    plan = (route.Candidate("any", first), route.Candidate("any", other))
    assert fan_out.split(texts_in("x", "yy").request, plan)[1] == plan[:1]
    native = dataclasses.replace(first, one_input=False)
    plan = (route.Candidate("any", native), route.Candidate("any", second))
    assert fan_out.split(texts_in("x", "yy").request, plan) == ((), plan[:1])


async def test_pictures_are_drawn_one_by_one_where_the_vendor_wants_it_so() -> None:
    maker = Maker()
    place = world(a=maker, serves=EVERYTHING, one_choice=("a",))
    one = call_for(ImagesRequest(model="a/m", prompt="a cat", fields={}, n=3))
    (whole,) = await collect(one, place)
    assert isinstance(whole, Images)
    assert len(whole.images) == len(maker.calls) == 3
    assert [attempt.units for attempt in one.attempts] == [1, 1, 1]


async def test_an_unexpected_fault_in_a_part_is_not_lost() -> None:
    class Broken(Script):
        async def chat(self, request: ChatRequest, attempt: Attempt) -> Any:
            raise ZeroDivisionError
            yield

    with pytest.raises(ZeroDivisionError):
        await collect(call("a/m", n=2), world(a=Broken(), one_choice=("a",)))
