"""What attempts make of a deployment's standing, and who is told."""

from dataclasses import replace
from math import inf
from random import Random

import pytest

from xrouter.core.call import Attempt, Call, Caller, Phase, Scope, State
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.clock import ManualClock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderQuotaExhausted,
    ProviderRateLimited,
    ProviderRefused,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.core.vitals import Change
from xrouter.gateway.health import Health


class Stage:
    """Attempts at will, on a clock that is moved."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.changes: list[tuple[str, str | None]] = []
        self.health = Health(Random(1), self._changed)

    def _changed(self, change: Change) -> None:
        self.changes.append((change.deployment.id, change.reason))

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def begin(self, deployment: Deployment, *, stream: bool = True) -> Attempt:
        request = ChatRequest(model=deployment.id, stream=stream, fields={})
        caller = Caller("k", "test", frozenset({Scope.MODELS}))
        call = Call(request=request, caller=caller, request_id="r", started_at=self.clock.now(), started=self.now)
        attempt = Attempt(call, deployment, deployment.id, 1, self.now, self.clock.now(), lambda _: None)
        self.health.began(attempt)
        return attempt

    def end(self, attempt: Attempt, error: BaseException | None = None, *, tokens: int = 10) -> None:
        attempt.ended, attempt.ended_at = self.now, self.clock.now()
        attempt.phase = Phase.SHOWN if error is None else Phase.STATUS
        attempt.usage = Usage(1, tokens)
        attempt.state = State.SUCCEEDED if error is None else State.FAILED
        self.health.ended(attempt, error)

    def fail(self, deployment: Deployment, error: BaseException, times: int = 1) -> None:
        for _ in range(times):
            self.end(self.begin(deployment), error)

    def succeed(self, deployment: Deployment, times: int = 1) -> None:
        for _ in range(times):
            self.end(self.begin(deployment))

    def why_not(self, deployment: Deployment) -> str | None:
        return self.health.ejected(deployment, self.now)


def of(account: str, model: str = "m", credential: str = "c") -> Deployment:
    return Deployment(f"{account}/{model}", account, "script", model, credential=credential)


DOWN = ProviderUnavailable("down", provider="a", upstream_status=503)
A, B = of("a"), of("b")


@pytest.fixture
def stage() -> Stage:
    return Stage()


def test_five_failures_eject_one_and_two_successes_bring_it_back(stage: Stage) -> None:
    stage.fail(A, DOWN, 4)
    assert stage.why_not(A) is None
    stage.fail(A, DOWN)
    assert stage.why_not(A) == "failures"
    assert stage.why_not(B) is None
    stage.clock.advance(11.1)
    assert stage.why_not(A) is None
    probe = stage.begin(A)
    assert stage.why_not(A) == "probing"
    stage.end(probe)
    assert stage.why_not(A) is None
    stage.succeed(A)
    assert stage.health.station(A).breaker.state(stage.now).name == "closed"
    assert stage.changes == [("a/m", "failures"), ("a/m", None)]
    assert stage.health.of(A).failures == 0


def test_an_episode_is_told_once_however_often_it_is_ejected_again(stage: Stage) -> None:
    stage.fail(A, DOWN, 9)
    for _ in range(5):
        stage.clock.advance(60.0)
        stage.fail(A, DOWN)
    assert stage.changes == [("a/m", "failures")]
    assert stage.health.station(A).breaker.ejections == 6


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ProviderAuthFailed("no", provider="a", upstream_status=401), "auth_failed"),
        (ProviderAuthFailed("no", provider="a", upstream_status=403), "forbidden"),
        (ProviderQuotaExhausted("no", provider="a", upstream_status=402), "quota_exhausted"),
    ],
)
def test_what_somebody_must_mend_is_ejected_at_once_for_five_minutes(
    stage: Stage, error: UpstreamError, reason: str
) -> None:
    stage.fail(A, error)
    assert stage.why_not(A) == reason
    stage.clock.advance(299.0)
    assert stage.why_not(A) == reason
    stage.clock.advance(1.1)
    assert stage.why_not(A) is None


def test_a_refused_credential_takes_its_whole_account_out_and_nobody_else(stage: Stage) -> None:
    sibling, other_key = of("a", "n"), of("a", credential="d")
    for one in (sibling, other_key):
        stage.health.of(one)
    stage.fail(A, ProviderAuthFailed("no", provider="a", upstream_status=401))
    later = of("a", "seen for the first time")
    stage.health.of(later)
    assert [stage.why_not(one) for one in (A, sibling, later)] == ["auth_failed"] * 3
    assert [stage.why_not(one) for one in (other_key, B)] == [None] * 2
    stage.clock.advance(301.0)
    stage.succeed(A, 2)
    assert {stage.health.station(one).breaker.state(stage.now).name for one in (sibling, later)} == {"half_open"}


def test_what_one_model_is_refused_for_is_not_its_accounts_fault(stage: Stage) -> None:
    sibling = of("a", "n")
    stage.health.of(sibling)
    stage.fail(A, ProviderAuthFailed("no", provider="a", upstream_status=403))
    stage.fail(A, ProviderQuotaExhausted("no", provider="a", upstream_status=402))
    assert stage.why_not(sibling) is None


def test_a_name_without_address_takes_its_account_out_when_that_goes_on(stage: Stage) -> None:
    sibling = of("a", "n")
    stage.health.of(sibling)
    lost = ProviderUnavailable("no name", provider="a", code="provider_name_unknown")
    stage.fail(A, lost, 4)
    assert stage.why_not(A) is None
    stage.fail(A, lost)
    assert (stage.why_not(A), stage.why_not(sibling)) == ("dns", "dns")


@pytest.mark.parametrize(("said_s", "rests_s"), [(None, 1.0), (7.0, 7.0), (3_600.0, 60.0)])
def test_a_rate_limit_is_a_rest_and_no_failure(stage: Stage, said_s: float | None, rests_s: float) -> None:
    stage.fail(A, ProviderRateLimited("slow", provider="a", upstream_status=429, retry_after_s=said_s), 20)
    assert stage.why_not(A) == "rate_limited"
    assert (stage.health.of(A).failed, stage.health.of(A).failures) == (0, 0)
    stage.clock.advance(rests_s - 0.01)
    assert stage.why_not(A) == "rate_limited"
    stage.clock.advance(0.02)
    assert stage.why_not(A) is None
    stage.succeed(A)
    assert stage.health.of(A).ejected is None
    assert stage.changes == []


def test_a_shorter_rest_does_not_end_a_longer_one(stage: Stage) -> None:
    old = stage.begin(A)
    for rest_s in (30.0, 1.0):
        stage.fail(A, ProviderRateLimited("slow", provider="a", retry_after_s=rest_s))
    stage.end(old)
    stage.clock.advance(20.0)
    assert stage.why_not(A) == "rate_limited"


def test_what_says_nothing_leaves_no_trace_but_frees_the_probe(stage: Stage) -> None:
    stage.fail(A, DOWN, 5)
    stage.clock.advance(12.0)
    for end in ("refused", "left", "withdrawn"):
        probe = stage.begin(A)
        assert stage.why_not(A) == "probing", end
        if end == "withdrawn":
            stage.health.withdrawn(probe)
        else:
            error = (
                ProviderRefused("no", provider="a", upstream_status=400) if end == "refused" else KeyboardInterrupt()
            )
            stage.end(probe, error)
        assert stage.why_not(A) is None, end
    assert stage.health.of(A).failed == 5
    assert stage.health.of(A).in_flight == 0


def test_who_fails_at_once_does_not_look_fast(stage: Stage) -> None:
    attempt = stage.begin(A)
    stage.clock.advance(0.5)
    stage.health.shown(attempt, stage.now)
    stage.end(attempt)
    assert stage.health.of(A).ttft_s == pytest.approx(0.5)
    stage.fail(A, DOWN)
    assert stage.health.of(A).ttft_s == pytest.approx(1.0)
    stage.fail(A, DOWN, 100)
    assert stage.health.of(A).ttft_s == A.timeouts.first_s


def test_a_whole_answer_is_measured_by_the_root_of_its_tokens(stage: Stage) -> None:
    attempt = stage.begin(A, stream=False)
    stage.clock.advance(4.0)
    stage.health.shown(attempt, stage.now)
    stage.end(attempt, tokens=400)
    assert stage.health.of(A).ttft_s == pytest.approx(0.2)
    assert stage.health.of(A).ttft_samples.count == 0


def test_a_fault_that_was_asked_for_is_not_held_against_anybody(stage: Stage) -> None:
    simulated = replace(A, id="a/m+status-401", upstream_model="m+status-401", fault="status-401")
    stage.fail(simulated, ProviderAuthFailed("no", provider="a", upstream_status=401), 20)
    stage.fail(simulated, DOWN, 20)
    assert [stage.why_not(one) for one in (A, simulated)] == [None] * 2
    assert stage.health.of(simulated).failures == 0
    assert list(stage.health.stations()) == []
    assert stage.changes == []


def test_vitals_of_a_healthy_one_are_plain(stage: Stage) -> None:
    stage.succeed(A, 3)
    vitals = stage.health.of(A)
    assert (vitals.succeeded, vitals.success_share, vitals.ejected, vitals.ejected_until) == (3, 1.0, None, -inf)
