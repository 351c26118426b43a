"""An answer that breaks off after content was shown is gone on with by whoever can; else it ends with its error."""

import dataclasses
from collections.abc import Callable
from math import inf
from typing import Any

import msgspec
import pytest
from tests.gateway.script import FAST, Script, Step, World, call, world

from xrouter.core.call import Call, Phase, State
from xrouter.core.chat import ChatRequest, Delta, Event, Finish, Reasoning, Refusal, Start, ToolDelta, Usage
from xrouter.core.closing import closing
from xrouter.core.errors import GatewayError, ProviderRefused, ProviderUnavailable
from xrouter.dialects.openai import chat_answer
from xrouter.gateway import meter, pipeline

SHOWN = "There are three reasons for the price of bread, and the first of them is"
REST = " the price of wheat. The others are salt and time."
CUT = ProviderUnavailable("cut", provider="a")
END = [Finish("stop"), Usage(20, 9)]


async def told(one: Call, place: World) -> tuple[list[Event], GatewayError | None]:
    """The events that the client gets, and the error that ends them."""
    found: list[Event] = []
    try:
        async with closing(events := pipeline.converse(one, place.gateway)):
            async for event in events:
                found.append(event)  # type: ignore[arg-type]
    except GatewayError as error:
        return found, error
    return found, None


def text(events: list[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def asked(script: Script, number: int = 0) -> ChatRequest:
    request = script.calls[number].request
    assert isinstance(request, ChatRequest)
    return request


def begun(*more: Step, shown: str = SHOWN) -> Script:
    return Script([Start(), Delta(shown[:20]), Delta(shown[20:]), *(more or (CUT,))])


def exact(place: World, *names: str) -> World:
    """The same, with deployments that go on with a beginning."""
    served = {
        model: tuple(dataclasses.replace(one, prefill=one.provider in names) for one in found)
        for model, found in place.gateway.catalog.served.items()
    }
    place.gateway = dataclasses.replace(
        place.gateway, catalog=dataclasses.replace(place.gateway.catalog, served=served)
    )
    return place


@pytest.mark.parametrize("cut", [CUT, inf], ids=["error", "stall"])
async def test_another_deployment_goes_on_with_the_beginning_of_the_answer(cut: Step) -> None:
    rest = Script([Start("other"), Delta(REST), *END])
    place, one = exact(world(a=begun(cut), b=rest), "b"), call()
    events, error = await told(one, place)
    assert error is None
    assert text(events) == SHOWN + REST
    assert [event for event in events if isinstance(event, Start | Finish)] == [Start(), Finish("stop")]
    request = asked(rest)
    assert request.prefilled
    assert request.field("messages") == [
        {"role": "user", "content": "hello there"},
        {"role": "assistant", "content": SHOWN},
    ]
    assert one.served_model == "any"
    assert [(attempt.state, attempt.phase) for attempt in place.books.ends] == [
        (State.FAILED, Phase.SHOWN),
        (State.SUCCEEDED, Phase.SHOWN),
    ]
    assert place.gateway.providers["a"].closed == 1  # type: ignore[attr-defined]


async def test_the_bill_holds_both_attempts_and_the_usage_is_their_sum() -> None:
    place, one = world(a=begun(), b=Script([Delta(REST), *END])), call()
    await told(one, place)
    first, second = place.books.ends
    assert first.usage is not None
    assert first.usage.estimated
    assert first.usage.output_tokens == meter.estimate_tokens(len(SHOWN.encode()))
    assert second.usage == Usage(20, 9)
    assert min(first.cost_micro, second.cost_micro) > 0
    used = meter.used(one)
    assert used is not None
    assert (used.input_tokens, used.output_tokens) == (
        first.usage.input_tokens + 20,
        first.usage.output_tokens + 9,
    )
    assert used.estimated
    assert one.cost_micro == first.cost_micro + second.cost_micro


async def test_the_last_chunks_tell_who_gave_the_answer() -> None:
    place, one = world(a=begun(), b=Script([Delta(REST), *END])), call()
    writer = chat_answer.ChunkWriter(one)
    events, _ = await told(one, place)
    chunks = [msgspec.json.decode(data[6:]) for event in events if (data := writer.chunk(event))]
    assert [chunk for chunk in chunks[:-1] if "xrouter" in chunk] == []
    assert {chunk["id"] for chunk in chunks} == {one.id}
    resumed = chunks[-1]["xrouter"]["resumed"]
    assert [(part["provider"], part["model"], part["error"]) for part in resumed] == [
        ("a", "a/m", "provider_unavailable"),
        ("b", "b/m", None),
    ]
    assert [part["attempt_id"] for part in resumed] == [attempt.id for attempt in one.attempts]
    assert msgspec.json.decode(writer.usage()[6:])["xrouter"] == chunks[-1]["xrouter"]


@pytest.mark.parametrize(
    ("shown", "language"), [(SHOWN, "Go on"), ("Есть три причины цены на хлеб. Первая из них", "Продолжи")]
)
@pytest.mark.parametrize("repeated", [0, 40])
async def test_who_takes_no_beginning_is_asked_in_words_and_what_it_repeats_is_not_shown_twice(
    shown: str, language: str, repeated: int
) -> None:
    said = (shown + REST)[len(shown) - repeated :]
    rest = Script([Start(), *[Delta(char) for char in said], *END])
    place, one = world(a=begun(shown=shown), b=rest), call()
    events, error = await told(one, place)
    assert error is None
    assert text(events) == shown + REST
    *_, beginning, wish = asked(rest).field("messages")
    assert beginning == {"role": "assistant", "content": shown}
    assert language in wish["content"]
    assert shown[-20:] in wish["content"]
    assert not asked(rest).prefilled


async def test_an_answer_that_was_complete_but_for_its_end_stays_as_it_is() -> None:
    for word in ("[DONE]", " [DO"), (SHOWN[-45:],), ():
        rest = Script([*[Delta(piece) for piece in word], *END])
        if word and word[-1] == " [DO":
            rest = Script([Delta("[DO"), Delta("NE]"), *END])
        events, error = await told(call(), world(a=begun(), b=rest))
        assert error is None
        assert text(events) == SHOWN
        assert Finish("stop") in events


async def test_white_space_at_the_end_does_not_leave_and_comes_once() -> None:
    rest = Script([Delta("\n"), Delta("\n- one"), *END])
    place = exact(world(a=begun(shown=SHOWN + ":\n"), b=rest), "b")
    events, _ = await told(call(), place)
    assert text(events) == SHOWN + ":\n\n- one"
    assert asked(rest).field("messages")[-1]["content"] == SHOWN + ":"


@pytest.mark.parametrize("prefill", [True, False])
async def test_reasoning_is_not_shown_twice(prefill: bool) -> None:
    rest = Script([Reasoning("again "), 0.05, Reasoning("and again"), Delta(REST), *END])
    place = world(a=Script([Reasoning("hm"), Delta(SHOWN), CUT]), b=rest)
    events, error = await told(call(), exact(place, "b") if prefill else place)
    assert error is None
    assert [event.text for event in events if isinstance(event, Reasoning)] == ["hm"]
    assert text(events) == SHOWN + REST


async def test_who_thinks_again_for_longer_than_the_first_limit_is_alive() -> None:
    slow = Script([*[step for _ in range(8) for step in (0.06, Reasoning("hm"))], Delta(REST), *END])  # type: ignore[list-item]
    events, error = await told(call(), world(a=begun(), b=slow))
    assert error is None
    assert text(events) == SHOWN + REST


async def test_where_only_reasoning_was_shown_the_same_is_asked_again() -> None:
    rest = Script([Reasoning("hm"), Delta("all of it"), ToolDelta(0, "c", "f", "{}"), *END])
    events, error = await told(call(max_tokens=7), world(a=Script([Reasoning("hm"), CUT]), b=rest))
    assert error is None
    assert events[:2] == [Reasoning("hm"), Delta("all of it")]
    assert asked(rest).field("messages") == [{"role": "user", "content": "hello there"}]
    assert asked(rest).max_tokens == 7


async def test_a_tool_may_be_called_after_the_text() -> None:
    rest = Script([Delta(REST), ToolDelta(0, "call_1", "f", "{}"), Finish("tool_calls")])
    events, error = await told(call(), world(a=begun(), b=rest))
    assert error is None
    assert ToolDelta(0, "call_1", "f", "{}") in events


@pytest.mark.parametrize(
    "more", [[ToolDelta(0, "call_1", "f")], [ToolDelta(0, "call_1", "f", "{}"), Delta("x")], [Refusal("no")]]
)
async def test_after_a_piece_of_a_tool_call_or_a_refusal_nobody_goes_on(more: list[Event]) -> None:
    rest = Script([Delta(REST), *END])
    events, error = await told(call(), world(a=begun(*more, CUT), b=rest))
    assert error is CUT
    assert not rest.calls
    assert not any(isinstance(event, Finish) for event in events)


SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}


@pytest.mark.parametrize(
    "fields", [{"logprobs": True}, {"n": 2}, {"response_format": SCHEMA}, {"response_format": {"type": "json_object"}}]
)
async def test_what_cannot_be_kept_whole_is_not_gone_on_with(fields: dict[str, Any]) -> None:
    rest = Script([Delta(REST), *END])
    _, error = await told(call(**fields), world(a=begun(), b=rest))
    assert error is CUT
    assert not rest.calls


async def test_the_client_or_the_operator_may_not_want_it() -> None:
    rest = Script([Delta(REST), *END])
    _, error = await told(call(may_continue=False), world(a=begun(), b=rest))
    assert error is CUT
    assert not rest.calls


@pytest.mark.parametrize(("rest", "good"), [(' 1, "b": 2}', True), (" 1, ", False), (" 1} and more", False)])
async def test_a_json_object_goes_on_exactly_and_is_checked(rest: str, good: bool) -> None:
    script = Script([Delta(rest), *END])
    place = exact(world(a=begun(shown='{"a": [1, 2, 3], "long": "enough", "n":'), b=script), "b")
    events, error = await told(call(response_format={"type": "json_object"}), place)
    assert "response_format" not in asked(script).fields
    if good:
        assert error is None
        assert msgspec.json.decode(text(events))["b"] == 2
    else:
        assert error is CUT
        assert not any(isinstance(event, Finish) for event in events)


async def test_what_was_said_counts_against_the_cap() -> None:
    rest = Script([Delta(REST), *END])
    await told(call(max_tokens=100, max_completion_tokens=10), world(a=begun(), b=rest))
    assert asked(rest).field("max_tokens") == 100 - meter.estimate_tokens(len(SHOWN))
    assert asked(rest).field("max_completion_tokens") == 1


async def test_the_same_deployment_may_go_on_where_there_is_no_other() -> None:
    alone = Script([Delta(SHOWN), CUT], [Delta(REST), *END])
    events, error = await told(call(), world(a=alone))
    assert error is None
    assert text(events) == SHOWN + REST


async def test_three_attempts_are_the_most_and_all_of_them_are_told() -> None:
    pieces = [SHOWN, " the price of wheat", ". Then there is salt"]
    scripts = {name: Script([Delta(piece), CUT]) for name, piece in zip("abc", pieces, strict=True)}
    fourth = Script([Delta(REST), *END])
    place = exact(world(**scripts, d=fourth), "a", "b", "c", "d")
    events, error = await told(call(), place)
    assert text(events) == "".join(pieces)
    assert error is CUT
    assert [one["provider"] for one in error.metadata["attempts"]] == ["a", "b", "c"]  # type: ignore[index]
    assert not fourth.calls


async def test_the_third_goes_on_with_what_two_have_shown() -> None:
    third = Script([Delta(" and time."), *END])
    place = exact(world(a=begun(), b=Script([Delta(" salt"), CUT]), c=third), "b", "c")
    one = call()
    events, error = await told(one, place)
    assert error is None
    assert text(events) == SHOWN + " salt and time."
    assert asked(third).field("messages")[-1]["content"] == SHOWN + " salt"
    assert [part["provider"] for part in chat_answer.resumed(one)] == ["a", "b", "c"]


async def test_who_fails_before_it_went_on_has_no_part_in_it() -> None:
    place, one = world(a=begun(), b=Script([CUT]), c=Script([Delta(REST), *END])), call()
    events, error = await told(one, place)
    assert error is None
    assert text(events) == SHOWN + REST
    assert [part["provider"] for part in chat_answer.resumed(one)] == ["a", "c"]


async def test_who_does_not_take_it_or_begins_anew_leaves_it_to_the_next() -> None:
    refused = ProviderRefused("no beginnings here", provider="b", upstream_status=400)
    for b in (Script([refused]), Script([Delta(SHOWN[:50]), Delta(" salt, of course."), *END])):
        events, error = await told(call(), world(a=begun(), b=b, c=Script([Delta(REST), *END])))
        assert error is None
        assert text(events) == SHOWN + REST
        events, error = await told(call(), world(a=begun(), b=b))
        assert error is CUT or (error is not None and error.code == "provider_unavailable")
        assert text(events) == SHOWN


async def test_a_refusal_of_the_request_itself_is_final() -> None:
    refused = ProviderRefused("that is forbidden", provider="a", upstream_status=400)
    rest = Script([Delta(REST), *END])
    _, error = await told(call(), world(a=begun(refused), b=rest))
    assert error is refused
    assert not rest.calls


async def test_an_error_after_the_finish_is_not_gone_on_with() -> None:
    rest = Script([Delta(REST), *END])
    _, error = await told(call(), world(a=begun(Finish("stop"), CUT), b=rest))
    assert error is CUT
    assert not rest.calls


async def test_the_deadline_holds_for_all_attempts_together() -> None:
    timeouts = dataclasses.replace(FAST, total_stream_s=1.1)
    rest = Script([Delta(REST), *END])
    _, error = await told(call(), world(a=begun(inf), b=rest, timeouts=timeouts))
    assert error is not None
    assert not rest.calls, "with less than a second left nobody is asked"


async def test_leaving_while_another_goes_on_cuts_that_one() -> None:
    rest = Script([Delta(REST), inf])
    place, one = world(a=begun(), b=rest), call()
    async with closing(events := pipeline.converse(one, place.gateway)):
        async for event in events:
            if isinstance(event, Delta) and event.text == REST:
                break
    assert rest.closed == 1
    assert [attempt.state for attempt in place.books.ends] == [State.FAILED, State.CANCELLED]
    assert all(attempt.cost_micro for attempt in place.books.ends)


THOUGHT = "<think>\nThe user wants the rest. </thin\n</think>\n\n"


@pytest.mark.parametrize("prefill", [False, True])
@pytest.mark.parametrize("size", [1, 3, 500])
async def test_a_thought_in_tags_is_not_shown_in_the_middle_of_the_answer(size: int, prefill: bool) -> None:
    rest = "the price of <think> wheat." if prefill else SHOWN[-20:] + " the price of <think> wheat."
    shown = SHOWN + " " if prefill else SHOWN
    b = Script([Start(), *_split(size)(THOUGHT + rest), *END])
    place = world(a=begun(shown=shown), b=b)
    events, error = await told(call(), exact(place, "b") if prefill else place)
    assert error is None
    assert text(events) == SHOWN + " the price of <think> wheat."


@pytest.mark.parametrize("said", ["<think>I could go on for", "<think>", "<think>a</think"])
async def test_who_only_thinks_aloud_leaves_it_to_the_next(said: str) -> None:
    place = world(a=begun(), b=Script([*_split(2)(said), *END]), c=Script([Delta(REST), *END]))
    events, error = await told(call(), place)
    assert error is None
    assert text(events) == SHOWN + REST
    assert [attempt.error for attempt in place.books.ends] == ["provider_unavailable", "continuation_unfit", None]


@pytest.mark.parametrize("said", ["<thin ice> and salt", "<", "< think>", "and <think> is a tag"])
async def test_what_only_looks_like_a_thought_is_the_answer(said: str) -> None:
    place = world(a=begun(shown=SHOWN + " "), b=Script([*_split(1)(said), *END]))
    events, error = await told(call(), place)
    assert error is None
    assert text(events) == SHOWN + " " + said


async def test_a_thought_that_was_shown_in_part_is_gone_on_with() -> None:
    """The client reads the tags of a server that does not part them, and gets all of them."""
    shown = "<think>The user wants to know about bread, and"
    place = exact(world(a=begun(shown=shown), b=Script([*_split(2)(" salt.</think>Salt."), *END])), "b")
    events, error = await told(call(), place)
    assert error is None
    assert text(events) == shown + " salt.</think>Salt."


def _split(size: int) -> Callable[[str], list[Delta]]:
    return lambda said: [Delta(said[at : at + size]) for at in range(0, len(said), size)]


@pytest.mark.parametrize("size", [1, 4, 9])
@pytest.mark.parametrize("prefill", [True, False])
async def test_cut_anywhere_the_joined_text_is_the_whole(size: int, prefill: bool) -> None:
    pieces = _split(size)
    whole = SHOWN + REST
    for cut in range(1, len(pieces(whole))):
        shown = whole[: cut * size]
        said = (shown.rstrip() if prefill else shown, whole)
        rest = Script([*pieces(whole[len(said[0]) :]), *END])
        place = world(a=Script([*pieces(shown), CUT]), b=rest)
        events, error = await told(call(), exact(place, "b") if prefill else place)
        assert error is None
        assert text(events) == whole
