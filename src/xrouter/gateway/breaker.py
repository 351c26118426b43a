"""When a deployment gets no more traffic, and when it gets some again. Pure.

    closed     every call may go there
    open       ejected, until a time: nobody should go there
    half-open  that time has come: one call at a time may try

Five failures in a row open it, or half of ten and more attempts within 30 s. Each ejection in a row lasts 10 s longer
than the one before, up to five minutes. Two successes close it. A refused credential, an empty account and a name
without an address are ejected for five minutes: they do not mend themselves.

Calls that were begun before the ejection say nothing about the time after it: their successes do not count, and their
failures only make it last longer while it is open. Calls that go there in spite of it (there was nobody else) count as
probes do: a success half-opens it at once.
"""

from collections.abc import Sequence
from math import inf
from random import Random
from typing import Final, NamedTuple

from msgspec import Struct, field

from xrouter.core.vitals import Vitals

TRIP_IN_A_ROW: Final = 5
WINDOW_S: Final = 30
TRIP_ATTEMPTS: Final = 10
TRIP_SHARE: Final = 0.5
EJECTION_S: Final = 10.0
LONGEST_EJECTION_S: Final = 300.0
JITTER: Final = 0.1
LASTING_S: Final = 300.0
"""How long an ejection lasts whose cause somebody must mend."""

CLOSING_SUCCESSES: Final = 2

FAILURES: Final = "failures"
DNS: Final = "dns"
RATE_LIMITED: Final = "rate_limited"
PROBING: Final = "probing"

_UNDER_CEILING: Final = frozenset({FAILURES, PROBING})


class State(NamedTuple):
    """What is shown of a breaker: `closed`, `open` or `half_open`, and why it is not closed, until when, how often in
    a row."""

    name: str
    reason: str | None
    until: float
    ejections: int


def _no_buckets() -> list[list[int]]:
    return [[-1, 0, 0] for _ in range(WINDOW_S)]


class Breaker(Struct, eq=False):
    """One deployment's. Times are points on one monotonic clock, in seconds; `began` is when an attempt was begun.

    `reason` is None while closed; `until` then stands for nothing. `ejections` are those in a row, 0 while closed;
    `proven` are successes since the last one. `probe` is the id of the attempt that tries it, half-open. `window` holds
    for each second its number, attempts and failures.
    """

    reason: str | None = None
    until: float = -inf
    since: float = -inf
    ejections: int = 0
    failures: int = 0
    proven: int = 0
    probe: str | None = None
    window: list[list[int]] = field(default_factory=_no_buckets)

    def state(self, now: float) -> State:
        name = "closed" if self.reason is None else "open" if now < self.until else "half_open"
        return State(name, self.reason, self.until, self.ejections)

    def began(self, attempt: str, now: float) -> None:
        """An attempt of that id goes there."""
        if self.reason is not None and self.probe is None and now >= self.until:
            self.probe = attempt

    def passed(self, attempt: str) -> None:
        """It ended, and says nothing about the deployment."""
        if self.probe == attempt:
            self.probe = None

    def succeeded(self, attempt: str, began: float, now: float) -> None:
        if self.reason is None:
            self.failures = 0
            self._count(now, 0)
            return
        self.passed(attempt)
        if began < self.since:
            return
        self.proven += 1
        if self.proven >= CLOSING_SUCCESSES:
            self._close()
        elif now < self.until:
            self.until = now

    def failed(self, attempt: str, began: float, now: float, chance: Random, reason: str = FAILURES) -> None:
        """`reason` is what an ejection that comes of it is called."""
        if self.reason is None:
            self.failures += 1
            self._count(now, 1)
            if self.failures >= TRIP_IN_A_ROW or self._mostly_fails(now):
                self._open(now, now + self._lasts(reason, 1, chance), reason, 1)
            return
        self.passed(attempt)
        if now < self.until:
            self.failures += 1
            self.proven = 0
            self.until = max(self.until, now + self._lasts(reason, self.ejections, chance))
        elif began >= self.since:
            self.failures += 1
            ejections = self.ejections + 1
            self._open(now, now + self._lasts(reason, ejections, chance), reason, ejections)

    def eject(self, attempt: str, now: float, reason: str) -> None:
        """At once, for what must be mended by somebody."""
        self.passed(attempt)
        until = now + LASTING_S
        if self.reason is not None and now < self.until:
            until = max(until, self.until)
        self._open(now, until, reason, max(1, self.ejections))

    def adopt(self, now: float, until: float, reason: str) -> None:
        """Another process has ejected it. Shortens nothing; after `until`, our own calls try it here."""
        if self.reason is not None and now < self.until:
            self.until = max(self.until, until)
        elif until > now:
            self._open(now, until, reason, max(1, self.ejections))

    def shorten(self, now: float) -> None:
        """There is reason to try it now: half-open, at most."""
        if self.reason is not None and now < self.until:
            self.until = now

    def _open(self, now: float, until: float, reason: str, ejections: int) -> None:
        self.reason, self.until, self.since, self.ejections = reason, until, now, ejections
        self.proven = 0
        self.probe = None

    def _close(self) -> None:
        self.reason, self.until, self.since, self.ejections = None, -inf, -inf, 0
        self.failures = self.proven = 0
        self.probe = None
        self.window = _no_buckets()

    @staticmethod
    def _lasts(reason: str, ejections: int, chance: Random) -> float:
        if reason != FAILURES:
            return LASTING_S
        usual_s = min(EJECTION_S * ejections, LONGEST_EJECTION_S)
        return usual_s * (1.0 + JITTER * (2.0 * chance.random() - 1.0))

    def _count(self, now: float, failed: int) -> None:
        second = int(now)
        bucket = self.window[second % WINDOW_S]
        if bucket[0] != second:
            bucket[:] = second, 1, failed
        else:
            bucket[1] += 1
            bucket[2] += failed

    def _mostly_fails(self, now: float) -> bool:
        oldest = int(now) - WINDOW_S
        attempts = failures = 0
        for second, made, failed in self.window:
            if second > oldest:
                attempts += made
                failures += failed
        return attempts >= TRIP_ATTEMPTS and failures >= attempts * TRIP_SHARE


class Standing(NamedTuple):
    """A group's deployments by what their breakers say: indexes into the group.

    `healthy` in the group's order. `reserve`, to be tried after these, is ejected, too, but only half of a group may be
    for its failures; in a `panic` nobody is healthy, and it is the whole group. Its least recent failure comes first.
    `removed` should get nothing.
    """

    healthy: list[int]
    reserve: list[int]
    removed: list[int]
    panic: bool


def standing(group: Sequence[Vitals], now: float) -> Standing | None:
    """Who of a group may be tried. None where nobody is ejected, which is nearly always so."""
    for one in group:
        if one.ejected_until > now:
            return _standing(group, now)
    return None


def _standing(group: Sequence[Vitals], now: float) -> Standing:
    healthy: list[int] = []
    out: list[int] = []
    for place, one in enumerate(group):
        (out if one.ejected_until > now else healthy).append(place)
    out.sort(key=lambda place: group[place].last_failure_at)
    if not healthy:
        return Standing(healthy, out, [], panic=True)
    bounded = [place for place in out if group[place].ejected in _UNDER_CEILING]
    reserve = bounded[: max(0, len(bounded) - len(group) // 2)]
    return Standing(healthy, reserve, [place for place in out if place not in reserve], panic=False)
