"""The table of what is tried again, row by row as `docs/resilience.md` prints it, and the waits."""

from random import Random

import msgspec
import pytest
from tests.gateway.script import call

from xrouter.core.call import Attempt, Phase, Request
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import (
    GatewayError,
    Invalid,
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.core.images import ImagesRequest
from xrouter.gateway.retry import Signal, Verdict, judge, repeatable, signal
from xrouter.providers._http import Exchange
from xrouter.providers._http.failure import in_band, of_response
from xrouter.transport import BrokenOff, CannotConnect, TransportError

YES, NO = True, False
CHANCE = Random(1)
ERRORS = (
    ProviderAuthFailed, ProviderQuotaExhausted, ProviderRateLimited, ProviderRefused, ProviderTimeout,
    ProviderUnavailable,
)  # fmt: skip


def said(kind: type[UpstreamError], status: int | None = None, **more: object) -> UpstreamError:
    return kind("no", provider="a", upstream_status=status, **more)  # type: ignore[arg-type]


def transport(error: TransportError) -> UpstreamError:
    """What the adapters make of a broken exchange."""
    exchange = Exchange("a", None, None)  # type: ignore[arg-type]
    return exchange.unreachable(error)


def answered(status: int, word: str | None = None) -> UpstreamError:
    """What the adapters make of an answer with that status."""
    body = msgspec.json.encode({"error": {"message": "no", "code": word}})
    return of_response("a", status, {}, body, now=0.0)


def attempt(phase: Phase, *, timeout_s: float | None = None, stream: bool = True, took_s: float = 0.1) -> Attempt:
    one = call(stream=stream, timeout_s=timeout_s)
    one.deadline = one.started + (timeout_s or 60.0)
    deployment = Deployment("a/m", "a", "script", "m", timeouts=Timeouts(connect_s=3, first_s=30, idle_s=30))
    made = Attempt(one, deployment, "a/m", 1, one.started, one.started_at, lambda _: None, phase=phase)
    made.ended = one.started + took_s
    return made


CONNECTING = [
    (transport(CannotConnect("dns", "x")), Signal.NO_ADDRESS),
    (transport(CannotConnect("refused", "x")), Signal.FAILED),
    (transport(CannotConnect("tls", "x")), Signal.FAILED),
    (transport(CannotConnect("timeout", "x")), Signal.FAILED),
    (transport(CannotConnect("pool", "x")), Signal.NOTHING),
    (transport(CannotConnect("proxy", "x")), Signal.FAILED),
]

# status -> the same deployment again, another one, what it says of the deployment
ANSWERS = {
    **dict.fromkeys((400, 405, 413, 415, 422), (NO, NO, Signal.NOTHING)),
    404: (NO, YES, Signal.NOTHING),
    401: (NO, YES, Signal.REFUSES_CREDENTIAL),  # the token was renewed and tried again before: the adapter's work
    403: (NO, YES, Signal.FORBIDS),
    402: (NO, YES, Signal.EMPTY),
    **dict.fromkeys((408, 425), (YES, YES, Signal.FAILED)),
    409: (YES, NO, Signal.NOTHING),
    429: (YES, YES, Signal.SATURATED),
    **dict.fromkeys((500, 502, 503, 504, 520, 521, 522, 523, 524, 529), (YES, YES, Signal.FAILED)),
    **dict.fromkeys((501, 505), (NO, NO, Signal.NOTHING)),
    **dict.fromkeys((406, 410, 418, 451), (NO, NO, Signal.NOTHING)),
    **dict.fromkeys((301, 302, 303, 307, 308), (NO, YES, Signal.FAILED)),  # never followed
}


@pytest.mark.parametrize(("error", "meaning"), CONNECTING, ids=lambda value: str(value)[:40])
def test_nothing_was_sent(error: UpstreamError, meaning: Signal) -> None:
    verdict = judge(error, Phase.CONNECTING, 1, CHANCE)
    assert (verdict.same, verdict.other, verdict.ambiguous) == (YES, YES, NO)
    assert signal(error, attempt(Phase.CONNECTING)) is meaning


def test_an_address_that_may_not_be_dialled_stays_forbidden() -> None:
    verdict = judge(transport(CannotConnect("forbidden_address", "x")), Phase.CONNECTING, 1, CHANCE)
    assert (verdict.same, verdict.other) == (NO, YES)


@pytest.mark.parametrize("error", [transport(BrokenOff("reset", "x")), said(ProviderTimeout)], ids=str)
def test_sent_without_an_answer(error: UpstreamError) -> None:
    verdict = judge(error, Phase.SENT, 1, CHANCE)
    assert (verdict.same, verdict.other, verdict.ambiguous) == (NO, YES, YES)
    assert not judge(error, Phase.SENT, 1, CHANCE, repeatable=False).other
    assert signal(error, attempt(Phase.SENT, took_s=31.0)) is Signal.FAILED


@pytest.mark.parametrize(("status", "expected"), ANSWERS.items())
def test_an_answer_by_its_status(status: int, expected: tuple[bool, bool, Signal]) -> None:
    error = answered(status)
    verdict = judge(error, Phase.STATUS, 1, CHANCE)
    assert (verdict.same, verdict.other, signal(error, attempt(Phase.STATUS))) == expected


def test_no_status_is_forgotten() -> None:
    for status in range(300, 600):
        verdict = judge(answered(status), Phase.STATUS, 1, CHANCE)
        if status not in ANSWERS and status < 500:
            assert not verdict.same, status
            assert verdict.other is (status < 400), status


@pytest.mark.parametrize("status", [400, 403, 429])
def test_an_empty_account_is_known_by_its_word(status: int) -> None:
    error = answered(status, "insufficient_quota")
    verdict = judge(error, Phase.STATUS, 1, CHANCE)
    assert (verdict.same, verdict.other, signal(error, attempt(Phase.STATUS))) == (NO, YES, Signal.EMPTY)


@pytest.mark.parametrize("word", ["context_length_exceeded", "model_not_found"])
def test_what_another_model_may_do_goes_there(word: str) -> None:
    error = answered(400, word)
    verdict = judge(error, Phase.STATUS, 1, CHANCE)
    assert (verdict.same, verdict.other, signal(error, attempt(Phase.STATUS))) == (NO, YES, Signal.NOTHING)


@pytest.mark.parametrize(
    "error",
    [
        in_band("a", {"error": {"message": "no", "code": 500}}),
        in_band("a", {"error": {"message": "no", "type": "overloaded_error"}}),
        Exchange("a", None, None).nonsense("with an empty body"),  # type: ignore[arg-type]
        transport(BrokenOff("reset", "x")),
        said(ProviderTimeout),
    ],
    ids=str,
)
def test_the_answer_began_and_nothing_was_shown(error: UpstreamError) -> None:
    verdict = judge(error, Phase.BODY, 1, CHANCE)
    assert (verdict.same, verdict.other) == (NO, YES)
    assert signal(error, attempt(Phase.BODY, took_s=31.0)) is Signal.FAILED


@pytest.mark.parametrize("kind", ERRORS)
def test_a_phase_decides_before_the_error_does(kind: type[UpstreamError]) -> None:
    for status in (None, 400, 429, 503):
        shown = judge(said(kind, status), Phase.SHOWN, 1, CHANCE)
        assert (shown.same, shown.other) == (NO, NO)
        for phase in (Phase.SENT, Phase.BODY):
            sent = judge(said(kind, status), phase, 1, CHANCE)
            assert (sent.same, sent.other) == (NO, YES)


@pytest.mark.parametrize("status", [420, 429, 503, None])
def test_a_rate_limit_is_waited_out_whatever_status_told_it(status: int | None) -> None:
    verdict = judge(said(ProviderRateLimited, status), Phase.STATUS, 1, CHANCE)
    assert verdict == Verdict(same=YES, other=YES, wait_s=1.0, other_wait_s=0.0)
    advised = judge(said(ProviderRateLimited, status, retry_after_s=4.0), Phase.STATUS, 1, CHANCE)
    assert (advised.same, advised.wait_s) == (YES, 4.0)
    assert not judge(said(ProviderRateLimited, status, retry_after_s=10.5), Phase.STATUS, 1, CHANCE).same


def test_a_vendor_that_is_down_says_when_it_will_be_back() -> None:
    soon = judge(said(ProviderUnavailable, 503, retry_after_s=2.0), Phase.STATUS, 1, CHANCE)
    assert (soon.same, soon.wait_s) == (YES, 2.0)
    assert not judge(said(ProviderUnavailable, 503, retry_after_s=11.0), Phase.STATUS, 1, CHANCE).same


@pytest.mark.parametrize(("tries", "longest_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0), (9, 8.0)])
def test_a_wait_is_full_jitter_that_doubles_up_to_eight_seconds(tries: int, longest_s: float) -> None:
    waits = [judge(said(ProviderUnavailable, 503), Phase.STATUS, tries, CHANCE).wait_s for _ in range(200)]
    assert 0 <= min(waits) < longest_s / 4
    assert longest_s * 3 / 4 < max(waits) <= longest_s


def test_another_deployment_is_asked_within_25_ms_and_one_seed_gives_the_same_waits() -> None:
    waits = [judge(said(ProviderUnavailable, 503), Phase.STATUS, 1, CHANCE).other_wait_s for _ in range(200)]
    assert 0 <= min(waits) < 0.005
    assert 0.020 < max(waits) <= 0.025
    one, two = (judge(said(ProviderUnavailable, 503), Phase.STATUS, 1, Random(7)) for _ in range(2))
    assert one == two


def test_what_cannot_be_expressed_goes_elsewhere() -> None:
    error = Invalid("n must be 1", param="n")
    verdict = judge(error, Phase.CONNECTING, 1, CHANCE)
    assert (verdict.same, verdict.other, verdict.other_wait_s) == (NO, YES, 0.0)
    assert signal(error, attempt(Phase.CONNECTING)) is Signal.NOTHING


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (call().request, YES),
        (call(tools=[{"type": "function", "function": {"name": "f"}}]).request, YES),
        (call(tools=[]).request, YES),
        (call(tools=[{"type": "web_search"}]).request, NO),
        (call(tools=["odd"]).request, NO),
        (EmbeddingsRequest(model="m", inputs=("a",), fields={}), YES),
        (ImagesRequest(model="m", prompt="a cat", fields={}), NO),
    ],
    ids=str,
)
def test_what_may_be_sent_twice(request_: Request, expected: bool) -> None:
    assert repeatable(request_) is expected


@pytest.mark.parametrize("error", [GatewayError("ours"), ValueError("ours"), KeyboardInterrupt()], ids=repr)
def test_what_is_not_the_vendors_doing_says_nothing(error: BaseException) -> None:
    assert signal(error, attempt(Phase.SENT)) is Signal.NOTHING


@pytest.mark.parametrize(
    ("phase", "stream", "timeout_s", "took_s", "expected"),
    [
        (Phase.CONNECTING, YES, 0.5, 0.5, Signal.NOTHING),
        (Phase.CONNECTING, YES, 5.0, 3.0, Signal.FAILED),
        (Phase.SENT, YES, 2.0, 2.0, Signal.NOTHING),
        (Phase.SENT, YES, 40.0, 30.0, Signal.FAILED),
        (Phase.SENT, YES, None, 30.0, Signal.FAILED),
        (Phase.SENT, NO, 2.0, 1.0, Signal.NOTHING),
        (Phase.SENT, NO, None, 1.0, Signal.FAILED),
        (Phase.SENT, NO, 100.0, 60.0, Signal.FAILED),
        (Phase.SHOWN, YES, 50.0, 50.0, Signal.NOTHING),
        (Phase.SHOWN, YES, 50.0, 35.0, Signal.FAILED),
    ],
)
def test_a_client_in_a_hurry_is_no_reason_to_think_ill_of_a_vendor(
    phase: Phase, stream: bool, timeout_s: float | None, took_s: float, expected: Signal
) -> None:
    made = attempt(phase, stream=stream, timeout_s=timeout_s, took_s=took_s)
    assert signal(said(ProviderTimeout), made) is expected
