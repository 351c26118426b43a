"""Failover, time limits and records: what `converse` promises, against scripted providers."""

import asyncio
import dataclasses
from contextlib import aclosing
from math import inf

import pytest
from msgspec import Raw
from tests.gateway.script import Script, World, answer, call, world

from xrouter.core.call import Call, Phase, State
from xrouter.core.chat import Delta, Event, Finish, Reasoning, Start, ToolDelta, Usage
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.errors import (
    Invalid,
    NotFound,
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.gateway import catalog, pipeline
from xrouter.simulators import faults

PATIENT = Timeouts()
GOOD: list[Event] = [Start(), Delta("hel"), Delta("lo"), Finish("stop"), Usage(7, 2)]


async def collect(one: Call, place: World) -> list[Event]:
    async with aclosing(pipeline.converse(one, place.gateway)) as events:
        return [event async for event in events]


def down(status: int | None = 500, **more: object) -> UpstreamError:
    return ProviderUnavailable("down", provider="a", upstream_status=status, **more)  # type: ignore[arg-type]


async def test_a_stream_comes_through_in_order_and_is_recorded() -> None:
    place, one = world(a=Script(GOOD)), call()
    assert await collect(one, place) == GOOD
    (attempt,) = place.books.ends
    assert place.books.intents == [attempt]
    assert (attempt.state, attempt.phase, attempt.usage) == (State.SUCCEEDED, Phase.SHOWN, Usage(7, 2))
    assert attempt.cost_micro == 9 * 65
    assert one.served_model == "any"
    assert len(place.books.first) == 1


@pytest.mark.parametrize(
    "failure",
    [
        down(500), down(502), down(503), down(529), down(301), down(None),
        ProviderAuthFailed("no", provider="a", upstream_status=401),
        ProviderQuotaExhausted("no", provider="a", upstream_status=402),
        ProviderRateLimited("no", provider="a", upstream_status=429),
        ProviderRefused("no", provider="a", upstream_status=404),
        ProviderRefused("no", provider="a", upstream_status=400, code="context_length_exceeded"),
    ],
)  # fmt: skip
async def test_before_content_another_deployment_takes_over(failure: UpstreamError) -> None:
    place, one = world(a=Script([Start(), failure]), b=Script(GOOD)), call()
    assert await collect(one, place) == GOOD
    assert [attempt.state for attempt in place.books.ends] == [State.FAILED, State.SUCCEEDED]
    assert [attempt.cost_micro for attempt in one.attempts] == [0, 9 * 65]


async def test_a_wrong_request_is_not_tried_elsewhere() -> None:
    refusal = ProviderRefused("bad schema", provider="a", upstream_status=422)
    place = world(a=Script([refusal]), b=Script(GOOD))
    with pytest.raises(ProviderRefused) as caught:
        await collect(call(), place)
    assert caught.value.http_status == 400
    assert not place.gateway.providers["b"].calls  # type: ignore[attr-defined]


async def test_after_content_an_error_is_final_and_what_was_shown_is_charged() -> None:
    place, one = world(a=Script([Delta("a" * 50), down(None)]), b=Script(GOOD)), call(may_continue=False)
    shown: list[Event] = []
    with pytest.raises(ProviderUnavailable):
        async with aclosing(pipeline.converse(one, place.gateway)) as events:
            async for event in events:
                shown.append(event)
    assert shown == [Delta("a" * 50)]
    (attempt,) = place.books.ends
    assert attempt.state is State.FAILED
    assert attempt.usage is not None
    assert attempt.usage.estimated
    assert attempt.usage.output_tokens == 10
    assert attempt.cost_micro > 0


@pytest.mark.parametrize("last", [Delta("x"), Reasoning("x"), ToolDelta(0, "call_1", "f", "{}")])
async def test_every_kind_of_content_commits(last: Event) -> None:
    place = world(a=Script([Start(), last, down(None)]), b=Script(GOOD))
    with pytest.raises(ProviderUnavailable):
        await collect(call(may_continue=False), place)


async def test_a_stream_without_a_finish_is_never_complete() -> None:
    place = world(a=Script([Delta("half")]))
    with pytest.raises(ProviderUnavailable) as caught:
        await collect(call(), place)
    assert caught.value.code == "provider_truncated"


async def test_an_empty_stream_fails_over() -> None:
    place = world(a=Script([Start()]), b=Script(GOOD))
    assert await collect(call(), place) == GOOD


async def test_events_without_content_are_not_held_for_ever_and_what_they_hold_is_named() -> None:
    unread = {"thinking": Raw(b'"hm"'), "bad name\n": Raw(b"1")}
    place = world(a=Script([Start(extra={"fingerprint": Raw(b"1")}), *[Delta("", extra=unread)] * 300]))
    with pytest.raises(ProviderUnavailable) as caught:
        await collect(call(), place)
    assert caught.value.message == (
        "a sent 256 events without any content. It filled fields that are not read: thinking."
    )


async def test_an_address_that_may_not_be_dialled_is_not_dialled_twice() -> None:
    forbidden = ProviderUnavailable("no", provider="a", code="provider_address_forbidden")
    place = world(a=Script([forbidden], sends=False))
    with pytest.raises(ProviderUnavailable):
        await collect(call(), place)
    assert len(place.gateway.providers["a"].calls) == 1  # type: ignore[attr-defined]
    place = world(a=Script([forbidden], sends=False), b=Script(GOOD))
    assert await collect(call(), place) == GOOD


async def test_an_answer_without_text_is_an_answer() -> None:
    place = world(a=Script([Start(), Finish("content_filter"), Usage(3, 0)]))
    assert await collect(call(), place) == [Start(), Finish("content_filter"), Usage(3, 0)]


@pytest.mark.parametrize("play", [[inf], [Start(), inf], [Start(), Delta(""), inf]])
async def test_no_content_in_time_goes_elsewhere(play: list[object]) -> None:
    place, one = world(a=Script(play), b=Script(GOOD)), call()  # type: ignore[arg-type]
    assert await collect(one, place) == GOOD
    assert place.books.ends[0].error == "provider_timeout"
    assert place.gateway.providers["a"].closed == 1  # type: ignore[attr-defined]


async def test_a_stall_ends_with_a_timeout_even_if_pings_come() -> None:
    pings: list[object] = [Delta("x")]
    for _ in range(40):
        pings += [0.02, Delta("")]
    place = world(a=Script([*pings, Finish("stop")]))  # type: ignore[list-item]
    with pytest.raises(ProviderTimeout, match="stalled"):
        await collect(call(may_continue=False), place)


async def test_a_slow_reader_is_not_the_vendors_stall() -> None:
    place = world(a=Script([Delta("a"), Delta("b"), Finish("stop")]), timeouts=Timeouts(first_s=0.05, idle_s=0.05))
    seen: list[Event] = []
    async with aclosing(pipeline.converse(call(), place.gateway)) as events:
        async for event in events:
            seen.append(event)
            await asyncio.sleep(0.12)
    assert seen == [Delta("a"), Delta("b"), Finish("stop")]


async def test_the_call_ends_at_its_own_deadline() -> None:
    place = world(a=Script([inf]), timeouts=Timeouts())
    with pytest.raises(ProviderTimeout, match="deadline") as caught:
        await collect(call(stream=False, timeout_s=0.05), place)
    assert caught.value.http_status == 504


async def test_nothing_sent_may_be_repeated_on_the_same_deployment() -> None:
    script = Script([down(None)], GOOD, sends=False)  # type: ignore[arg-type]
    place, one = world(a=script), call()
    assert await collect(one, place) == GOOD
    assert len(script.calls) == 2


async def test_sent_without_an_answer_is_not_repeated_on_the_same_deployment() -> None:
    class Silent(Script):
        async def chat(self, request, attempt):  # type: ignore[no-untyped-def,override]
            self.calls.append(attempt)
            attempt.sending()
            raise down(None)
            yield

    script = Silent([])
    with pytest.raises(ProviderUnavailable):
        await collect(call(), world(a=script))
    assert len(script.calls) == 1


async def test_at_most_three_attempts_and_all_of_them_are_told() -> None:
    place, one = world(a=Script([down()]), b=Script([down()]), c=Script([down()]), d=Script(GOOD)), call()
    with pytest.raises(ProviderUnavailable) as caught:
        await collect(one, place)
    assert [told["provider"] for told in caught.value.metadata["attempts"]] == ["a", "b", "c"]
    assert len(place.books.ends) == 3


async def test_a_long_retry_after_is_not_waited_for() -> None:
    limited = ProviderRateLimited("wait", provider="a", upstream_status=429, retry_after_s=60)
    script = Script([limited], GOOD)  # type: ignore[arg-type]
    with pytest.raises(ProviderRateLimited):
        await collect(call(), world(a=script))
    assert len(script.calls) == 1


async def test_the_client_leaving_closes_the_vendor_and_charges_what_came() -> None:
    script = Script([Delta("x" * 20), inf])
    place, one = world(a=script), call()

    async def read() -> None:
        await collect(one, place)

    task = asyncio.create_task(read())
    while not place.books.first:
        await asyncio.sleep(0.001)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert script.closed == 1
    (attempt,) = place.books.ends
    assert attempt.state is State.CANCELLED
    assert attempt.usage is not None
    assert attempt.usage.output_tokens == 4


async def test_closing_half_way_closes_the_vendor() -> None:
    script = Script(GOOD)
    place = world(a=script)
    async with aclosing(pipeline.converse(call(), place.gateway)) as events:
        async for _ in events:
            break
    assert script.closed == 1
    assert place.books.ends[0].state is State.CANCELLED


async def test_one_slot_serves_twenty_in_turn() -> None:
    place = world(a=Script([0.002, *GOOD]), max_concurrency=1, timeouts=Timeouts(first_s=60))
    await asyncio.gather(*(collect(call(), place) for _ in range(20)))
    assert place.slots.most == 1
    assert len(place.books.ends) == 20


async def test_no_slot_before_the_deadline_is_a_503_and_no_attempt() -> None:
    place = world(a=Script([inf]), max_concurrency=1, timeouts=Timeouts(first_s=60))
    busy = asyncio.create_task(collect(call(), place))
    while not place.slots.now:
        await asyncio.sleep(0.001)
    one = call(timeout_s=0.05)
    with pytest.raises(ProviderRateLimited) as caught:
        await collect(one, place)
    assert one.upstream_calls == 0
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    assert caught.value.http_status == 503
    assert caught.value.retry_after_s


async def test_only_what_left_is_an_upstream_call() -> None:
    place = world(a=Script(GOOD), b=Script([down()], GOOD), max_concurrency=1)
    full = place.gateway.catalog.served["a/m"][0]
    assert place.gateway.slots.room(full.credential, 1, 0).take() is not None
    object.__setattr__(full, "max_waiting", 0)
    one = call()
    assert await collect(one, place) == GOOD
    assert [attempt.error for attempt in one.attempts] == ["provider_queue_full", "provider_unavailable", None]
    assert one.upstream_calls == 2


async def test_models_are_tried_in_order_and_the_reply_names_the_one_that_served() -> None:
    place = world(a=Script([down()]), b=Script(GOOD))
    one = call("a/m", models=("a/m", "b/m"))
    await collect(one, place)
    assert one.served_model == "b/m"


def test_a_model_without_its_provider_is_found_among_aliases() -> None:
    served = [Deployment(f"gigachat/{name}", "gigachat", "gigachat", name) for name in ("GigaChat-2", "GigaChat-2-Max")]
    aliases = {alias: ["gigachat/GigaChat-2"] for alias in ("gigachat", "gigachat-pro", "gigachat-max")}
    with pytest.raises(NotFound, match="Did you mean: gigachat/GigaChat-2, "):
        catalog.build(served, aliases).deployments("GigaChat-2")


async def test_an_unknown_model_lists_near_names() -> None:
    place = world(gigachat=Script(GOOD))
    with pytest.raises(NotFound, match="gigachat/m") as caught:
        await collect(call("gigacat/m"), place)
    assert caught.value.param == "model"
    with pytest.raises(NotFound) as caught:
        await collect(call("any", models=("nobody",)), place)
    assert caught.value.param == "models[0]"


async def test_a_whole_answer_is_one_event() -> None:
    place, one = world(a=Script([down(500)]), b=Script([answer("hi")])), call(stream=False)
    assert await collect(one, place) == [answer("hi")]
    assert place.books.ends[1].usage is not None
    assert place.books.ends[1].usage.estimated


NO_IMAGES = Invalid("no images", param="messages[0].content")
NO_CHOICES = Invalid("one choice", param="n")


async def test_what_one_vendor_cannot_express_another_may_serve_and_it_was_no_attempt() -> None:
    place, one = world(a=Script([NO_IMAGES], sends=False), b=Script(GOOD)), call(timeout_s=0.9)
    assert await collect(one, place) == GOOD
    assert one.attempts == place.books.ends == place.books.counted
    assert [(attempt.deployment.id, attempt.number) for attempt in one.attempts] == [("b/m", 1)]


async def test_what_no_vendor_can_express_is_the_clients_error() -> None:
    place, one = world(a=Script([NO_IMAGES], sends=False), b=Script([NO_CHOICES], sends=False)), call()
    with pytest.raises(Invalid) as caught:
        await collect(one, place)
    assert caught.value is NO_IMAGES, "the words of the model that was asked for first"
    assert one.attempts == place.books.ends == place.books.counted == []


async def test_a_request_that_only_a_broken_vendor_can_express_fails_with_that_vendors_error() -> None:
    place = world(a=Script([NO_IMAGES], sends=False), b=Script([down(500)]))
    with pytest.raises(ProviderUnavailable) as caught:
        await collect(call(), place)
    assert [told["provider"] for told in caught.value.metadata["attempts"]] == ["b", "b"]


async def test_an_attempt_that_never_began_is_counted_nowhere() -> None:
    place = world(a=Script([inf]), max_concurrency=1, timeouts=Timeouts(first_s=60))
    busy, queued = call(), call()
    tasks = [asyncio.create_task(collect(busy, place))]
    while not place.slots.now:
        await asyncio.sleep(0.001)
    tasks.append(asyncio.create_task(collect(queued, place)))
    while not queued.attempts:
        await asyncio.sleep(0.001)
    for task in reversed(tasks):
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert queued.attempts == []
    assert place.books.ends == place.books.counted == busy.attempts


async def test_after_content_nothing_is_repeated_not_even_what_failed_before() -> None:
    first = Script([down(503)], GOOD)  # type: ignore[arg-type]
    place = world(a=first, b=Script([Delta("x"), down(None)]))
    with pytest.raises(ProviderUnavailable):
        await collect(call(may_continue=False), place)
    assert len(first.calls) == 1


async def test_a_model_named_twice_is_tried_as_one() -> None:
    place = world(a=Script([down(503)]), b=Script(GOOD))
    place.gateway = dataclasses.replace(
        place.gateway, catalog=dataclasses.replace(place.gateway.catalog, simulated=True)
    )
    one = call("a/m+status-503", models=("a/m+status-503", "b/m"))
    assert await collect(one, place) == GOOD
    assert [attempt.deployment.id for attempt in one.attempts] == ["a/m+status-503", "b/m"]


async def test_a_silent_vendor_leaves_time_for_the_next() -> None:
    place = world(a=Script([inf]), b=Script([answer("hi")]), timeouts=Timeouts(total_s=2.8))
    assert await collect(call(stream=False), place) == [answer("hi")]


@pytest.mark.parametrize(
    ("timeout_s", "usual_s"), [(1.9, None), (2.1, None), (5.0, 3.0)], ids=["a second", "barely", "its usual time"]
)
async def test_no_time_is_kept_for_who_could_not_be_asked_then(timeout_s: float, usual_s: float | None) -> None:
    """An answer in more than half of the time is one, where a fallback would need more than the other half."""
    place = world(a=Script([timeout_s * 0.55, answer("hi")]), b=Script([answer("not needed")]), timeouts=PATIENT)
    if usual_s is not None:
        place.gateway.health.of(place.gateway.catalog.served["b/m"][0]).ttft_samples.add(usual_s)
    one = call(stream=False, timeout_s=timeout_s)
    assert await collect(one, place) == [answer("hi")]
    assert [attempt.deployment.provider for attempt in one.attempts] == ["a"]


async def test_no_time_is_kept_after_a_wait_for_a_slot_that_left_too_little() -> None:
    """A slot comes free when 1.6 s of 2.5 s are left: half of them would be too short for the other one."""
    place = world(a=Script([0.9, answer("hi")]), b=Script([answer("no")]), timeouts=PATIENT, max_concurrency=1)
    deployment = place.gateway.catalog.served["a/m"][0]
    room = place.gateway.slots.room(deployment.credential, 1, 9)
    index = room.take()
    assert index is not None
    asyncio.get_running_loop().call_later(0.9, room.give_back, index)
    one = call("a/m", models=("a/m", "b/m"), stream=False, timeout_s=2.5)
    assert await collect(one, place) == [answer("hi")]
    assert [attempt.deployment.provider for attempt in one.attempts] == ["a"]


async def test_no_time_is_kept_where_nothing_may_be_sent_twice() -> None:
    place = world(a=Script([1.6, answer("hi")]), b=Script([answer("no")]), timeouts=PATIENT)
    one = call(stream=False, timeout_s=2.8, tools=[{"type": "web_search"}])
    assert await collect(one, place) == [answer("hi")]


async def test_a_deployment_that_an_alias_names_twice_is_tried_as_one() -> None:
    place = world(a=Script([down(501)]))
    (deployment,) = place.gateway.catalog.served["a/m"]
    place.gateway = dataclasses.replace(place.gateway, catalog=catalog.build([deployment] * 2, {"it": ["a/m", "a/m"]}))
    for model in ("a/m", "it"):
        with pytest.raises(ProviderUnavailable):
            await collect(one := call(model), place)
        assert len(one.attempts) == 1


@pytest.mark.parametrize(("aliases", "why"), [({"it": []}, "no model"), ({"a/m": ["b/m"]}, "own id")])
def test_a_catalog_refuses_an_alias_that_cannot_be_meant(aliases: dict[str, list[str]], why: str) -> None:
    served = world(a=Script([]), b=Script([])).gateway.catalog.served
    with pytest.raises(ValueError, match=why):
        catalog.build([*served["a/m"], *served["b/m"]], aliases)


async def test_a_misspelt_fault_is_told_at_once() -> None:
    place = world(a=Script(GOOD))
    served = [one for found in place.gateway.catalog.served.values() for one in found]
    known = catalog.build(served, {}, simulated=True, fault_hint=faults.hint)
    assert known.deployments("a/m+stall-3")[0].upstream_model == "m+stall-3"
    with pytest.raises(NotFound, match="did you mean stall-K") as caught:
        known.deployments("a/m+stal-3")
    assert caught.value.code == "unknown_fault"
    with pytest.raises(NotFound, match=r"docs/cli.md lists them"):
        known.deployments("a/m+zzzzzzzzzzz")
