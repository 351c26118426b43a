"""How each deployment does, told from the attempts that this process makes. Pure: no clock of its own, no I/O.

`gateway/record.py` and `gateway/dispatch.py` tell what happens (`began`, `shown`, `ended`, `withdrawn`); whoever
chooses asks `of` and `ejected`; what other processes tell comes in through `gateway/gossip.py`. It runs for every
attempt, so it finds a deployment by a precomputed key and only counts.
"""

from collections.abc import Callable, Iterable
from math import inf, sqrt
from random import Random
from typing import Final

from msgspec import Struct, field

from xrouter.core.call import Attempt, Phase, State
from xrouter.core.deployment import Deployment
from xrouter.core.errors import UpstreamError
from xrouter.core.vitals import Change, Vitals
from xrouter.gateway import breaker, retry
from xrouter.gateway.breaker import Breaker
from xrouter.gateway.budget import RetryBudget
from xrouter.gateway.retry import Signal

COOLING_S: Final = 1.0
LONGEST_COOLING_S: Final = 60.0
"""How long a deployment rests after a 429: as long as the vendor says, at most a minute; a second where it says
nothing."""

_MOST_TOLD: Final = 8  # samples of a kind between two messages to other processes
_SHORTEST_S: Final = 0.001  # what comes in one piece has no speed
_LASTING: Final = frozenset({Signal.REFUSES_CREDENTIAL, Signal.FORBIDS, Signal.EMPTY})
_WHOLE_ACCOUNT: Final = frozenset({Signal.REFUSES_CREDENTIAL.value, Signal.NO_ADDRESS.value})
"""Ejections that hold for every deployment of the account: none of them will let us in, or be found."""


class Measured(Struct, eq=False):
    """Samples taken here that were not yet told to others: seconds to the first content of streams, what stands for
    it in whole answers, output tokens per second."""

    streams: list[float] = field(default_factory=list)
    wholes: list[float] = field(default_factory=list)
    rates: list[float] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.streams or self.wholes or self.rates)


class Station(Struct, eq=False):
    """All that is kept of one deployment.

    `adopted`: its ejection is another process's; `rest_adopted` the same of its rest after a 429, which
    `cooled_until` ends. `ejected_at` is when the episode began, which ends when it serves again. Both are points on the
    monotonic clock.
    """

    deployment: Deployment
    vitals: Vitals
    breaker: Breaker = field(default_factory=Breaker)
    budget: RetryBudget = field(default_factory=RetryBudget)
    measured: Measured = field(default_factory=Measured)
    cooled_until: float = -inf
    rest_adopted: bool = False
    adopted: bool = False
    ejected_at: float = -inf

    def publish(self) -> None:
        """Bring what is told of its breaker and of its rest into its vitals."""
        vitals, state = self.vitals, self.breaker
        if state.reason is None:
            vitals.ejected, vitals.ejected_until = None, -inf
        elif state.probe is None:
            vitals.ejected, vitals.ejected_until = state.reason, state.until
        else:
            vitals.ejected, vitals.ejected_until = breaker.PROBING, inf
        if self.cooled_until > vitals.ejected_until:
            vitals.ejected, vitals.ejected_until = breaker.RATE_LIMITED, self.cooled_until


def _nobody(_: Change) -> None: ...


class Health:
    """The vitals of every deployment that was asked about, by `Deployment.key`.

    `chance` draws all jitter. `on_change` is called when a deployment is ejected and when it serves again, once each;
    it runs inside a call, so it must not wait or raise.
    """

    __slots__ = ("_accounts", "_known", "chance", "on_change")

    def __init__(self, chance: Random | None = None, on_change: Callable[[Change], None] = _nobody) -> None:
        self.chance = chance or Random()  # noqa: S311 - spreads load, guards nothing
        self.on_change = on_change
        self._known: dict[str, Station] = {}
        self._accounts: dict[str, list[Station]] = {}

    def of(self, deployment: Deployment) -> Vitals:
        """The live object: it changes with every attempt. To be read only."""
        station = self._known.get(deployment.key)
        return self._new(deployment).vitals if station is None else station.vitals

    def ejected(self, deployment: Deployment, now: float) -> str | None:
        """Why it should get no traffic at the monotonic `now`, one of `core.vitals.EJECTED`; None where it may."""
        station = self._known.get(deployment.key)
        return None if station is None or station.vitals.ejected_until <= now else station.vitals.ejected

    def station(self, deployment: Deployment) -> Station:
        station = self._known.get(deployment.key)
        return self._new(deployment) if station is None else station

    def stations(self) -> Iterable[Station]:
        return self._known.values()

    def known(self, key: str) -> Station | None:
        return self._known.get(key)

    def _new(self, deployment: Deployment) -> Station:
        station = Station(deployment, Vitals(deployment.key))
        if deployment.fault:
            return station  # clients may ask for any number of them
        self._known[deployment.key] = station
        siblings = self._accounts.setdefault(_account(deployment), [])
        for sibling in siblings:
            reason = sibling.breaker.reason
            if reason is not None and reason in _WHOLE_ACCOUNT:
                self._adopt(station, sibling.breaker.since, sibling.breaker.until, reason)
                break
        siblings.append(station)
        return station

    # ── what happens to an attempt ───────────────────────────────────────────────────────────────────────

    def began(self, attempt: Attempt) -> None:
        """An attempt was made; it may still wait for a slot."""
        station = self._known.get(attempt.deployment.key) or self._new(attempt.deployment)
        vitals = station.vitals
        vitals.in_flight += 1
        if attempt.number == 1:
            station.budget.called(attempt.began)
        if vitals.ejected is not None:
            station.breaker.began(attempt.id, attempt.began)
            station.publish()

    def shown(self, attempt: Attempt, now: float) -> None:
        """The first content of an answer came."""
        if attempt.call.request.stream:
            station = self._known.get(attempt.deployment.key) or self._new(attempt.deployment)
            vitals, took_s = station.vitals, now - attempt.began
            vitals.took(took_s, now)
            vitals.ttft_samples.add(took_s)
            _note(station.measured.streams, took_s)

    def withdrawn(self, attempt: Attempt) -> None:
        """It was no attempt after all: nothing left this machine, and nobody is to blame."""
        station = self.station(attempt.deployment)
        station.vitals.in_flight -= 1
        station.breaker.passed(attempt.id)
        station.publish()

    def ended(self, attempt: Attempt, error: BaseException | None) -> None:
        """It is over, with its fields final."""
        station = self._known.get(attempt.deployment.key) or self._new(attempt.deployment)
        vitals, ended = station.vitals, attempt.ended
        vitals.in_flight -= 1
        now = attempt.began if ended is None else ended
        if attempt.state is State.SUCCEEDED:
            vitals.succeeded += 1
            vitals.failures = 0
            station.breaker.succeeded(attempt.id, attempt.began, now)
            if vitals.ejected is not None:
                self._recovers(station, now)
            _speed(attempt, station, now)
        elif error is not None and not attempt.deployment.fault:
            self._failed(attempt, error, station, now)

    def _failed(self, attempt: Attempt, error: BaseException, station: Station, now: float) -> None:
        vitals, state, said = station.vitals, station.breaker, retry.signal(error, attempt)
        if said is Signal.NOTHING or said is Signal.SATURATED:
            state.passed(attempt.id)
            if said is Signal.SATURATED and isinstance(error, UpstreamError):
                rest_s = COOLING_S if error.retry_after_s is None else error.retry_after_s
                until = now + min(rest_s, LONGEST_COOLING_S)
                if until > station.cooled_until:
                    station.cooled_until, station.rest_adopted = until, False
            station.publish()
            return
        vitals.failed += 1
        vitals.failures += 1
        vitals.last_failure_at = now
        if vitals.ttft_s is not None:  # who fails at once must not look fast
            patience_s = attempt.deployment.timeouts.first_s
            vitals.took(min(max(now - attempt.began, 2 * vitals.ttft_s), patience_s), now)
        before = state.since
        if said in _LASTING:
            state.eject(attempt.id, now, said.value)
        else:
            state.failed(attempt.id, attempt.began, now, self.chance, said.value)
        self._ejects(station, now, before)

    def _ejects(self, station: Station, now: float, before: float) -> None:
        """A failure was counted. What that made of its breaker is told, and told to the whole account where it must
        be; `before` is when it was last ejected until then."""
        state = station.breaker
        station.publish()
        if state.reason is None or state.since == before:
            return
        station.adopted = False
        self._began_episode(station, now)
        if state.reason in _WHOLE_ACCOUNT:
            self._adopt_account(station, now, state.until, state.reason)

    def _recovers(self, station: Station, now: float) -> None:
        """A success of one that was ejected."""
        state = station.breaker
        if station.cooled_until <= now:
            station.cooled_until = -inf
        station.publish()
        for sibling in self._accounts[_account(station.deployment)]:
            if sibling is not station and sibling.breaker.reason in _WHOLE_ACCOUNT:
                self.may_be_tried(sibling, now)
        if state.reason is None and station.ejected_at > -inf:
            self.on_change(Change(station.deployment, None, now - station.ejected_at))
            station.ejected_at = -inf
            station.adopted = False

    # ── what others find out ─────────────────────────────────────────────────────────────────────────────

    def told(self, station: Station, now: float, until: float, reason: str) -> None:
        """Another process has ejected it until the monotonic `until`. What we have found out ourselves is not
        changed: else two processes could go on extending each other's ejections."""
        if station.breaker.reason is None or station.adopted or now >= station.breaker.until:
            self._adopt(station, now, until, reason)
            if reason in _WHOLE_ACCOUNT:
                self._adopt_account(station, now, until, reason)

    def rests(self, station: Station, now: float, until: float) -> None:
        """Another process was told by the vendor to wait until the monotonic `until`."""
        if until > station.cooled_until and (station.rest_adopted or now >= station.cooled_until):
            station.cooled_until, station.rest_adopted = until, True
            station.publish()

    def may_be_tried(self, station: Station, now: float) -> None:
        """There is reason to try it: from now on one call at a time may."""
        station.breaker.shorten(now)
        station.publish()

    def _adopt(self, station: Station, now: float, until: float, reason: str) -> None:
        before = station.breaker.since
        station.breaker.adopt(now, until, reason)
        station.publish()
        if station.breaker.since != before:
            station.adopted = True
            self._began_episode(station, now)

    def _adopt_account(self, station: Station, now: float, until: float, reason: str) -> None:
        for sibling in self._accounts[_account(station.deployment)]:
            if sibling is not station:
                self._adopt(sibling, now, until, reason)

    def _began_episode(self, station: Station, now: float) -> None:
        state = station.breaker
        if station.ejected_at == -inf:
            station.ejected_at = now
            self.on_change(Change(station.deployment, state.reason, state.until - now, station.adopted))


def _account(deployment: Deployment) -> str:
    """What stands and falls together: a credential at an address."""
    return " ".join((deployment.provider, deployment.credential, deployment.base_url))


def _note(samples: list[float], sample: float) -> None:
    if len(samples) < _MOST_TOLD:
        samples.append(sample)


def _speed(attempt: Attempt, station: Station, now: float) -> None:
    usage = attempt.usage
    if usage is None or attempt.phase is not Phase.SHOWN:
        return
    if not attempt.call.request.stream:
        took_s = (now - attempt.began) / sqrt(max(1, usage.output_tokens))
        station.vitals.took(took_s, now)
        _note(station.measured.wholes, took_s)
    elif attempt.first_content_at is not None and attempt.ended_at is not None:
        wrote_s = attempt.ended_at - attempt.first_content_at
        if wrote_s > _SHORTEST_S and usage.output_tokens:
            rate = usage.output_tokens / wrote_s
            station.vitals.wrote(rate)
            _note(station.measured.rates, rate)
