"""The window of calls in virtual time: it finds what a vendor bears, keeps near it, and follows when that changes."""

import heapq
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.window import ENDLESS, Window


class Vendor:
    """Bears `bears(now)` calls at once; answers one more with 429 at once, the others after about a second. Always
    fifty want to call."""

    def __init__(self, window: Window, bears: Callable[[float], int], seed: int = 7) -> None:
        self._window = window
        self._bears = bears
        self._pick = random.Random(seed)
        self._ends: list[tuple[float, int, float, bool]] = []
        self._number = self._accepted = self.running = 0
        self.now = 0.0
        self.seen: list[tuple[float, int]] = []
        self.good = self.refused = 0

    def run(self, until: float) -> None:
        while self.now < until:
            while self.running < min(self._window.limit, 50):
                self._call()
            self.now, _, began, accepted = heapq.heappop(self._ends)
            if accepted:
                self._window.succeeded(self.running)
                self.good += 1
                self._accepted -= 1
            else:
                self._window.refused(began, self.now, self.running)
                self.refused += 1
            self.running -= 1
            self.seen.append((self.now, self._window.limit))

    def _call(self) -> None:
        accepted = self._accepted < self._bears(self.now)
        self._accepted += accepted
        took = self._pick.uniform(0.5, 1.5) if accepted else 0.02
        self._number += 1
        self.running += 1
        heapq.heappush(self._ends, (self.now + took, self._number, self.now, accepted))

    def mean(self, since: float) -> float:
        found = [limit for at, limit in self.seen if at >= since]
        return sum(found) / len(found)


@pytest.mark.parametrize("start", [0, 8])
@pytest.mark.parametrize("bears", [3, 10, 30])
def test_it_finds_what_the_vendor_bears(start: int, bears: int) -> None:
    vendor = Vendor(Window(start), lambda now: bears)
    vendor.run(60)
    vendor.good = vendor.refused = 0
    vendor.run(300)
    assert 0.75 * bears <= vendor.mean(since=60) <= 1.1 * bears + 1
    assert max(limit for at, limit in vendor.seen if at > 60) <= bears + 1
    assert vendor.good >= 0.75 * bears * 240
    assert vendor.refused < vendor.good / bears, "about one refusal for each tour up and down"


def test_it_follows_when_the_vendor_bears_more_and_less() -> None:
    vendor = Vendor(Window(8), lambda now: 20 if 200 <= now < 400 else 5)
    vendor.run(200)
    assert vendor.mean(since=100) < 6.5
    vendor.run(400)
    assert vendor.mean(since=300) > 14
    vendor.run(600)
    assert vendor.mean(since=450) < 6.5


def test_nobody_is_slowed_down_before_the_first_refusal() -> None:
    window = Window()
    for running in range(1, 500):
        window.succeeded(running)
        window.timed_out(0.0, 1.0)
    assert window.limit == ENDLESS
    window.refused(0.0, 1.0, 100)
    assert window.limit == 80


def test_one_crowd_of_refusals_shrinks_it_once() -> None:
    window = Window(100)
    for _ in range(100):
        window.refused(began=1.0, now=2.0, running=100)
    assert (window.limit, window.shrinks) == (80, 1)
    window.refused(began=2.0, now=3.0, running=80)
    assert (window.limit, window.shrinks) == (64, 2)


@pytest.mark.parametrize(("start", "ceiling"), [(0, 0), (0, 10), (8, 10)])
def test_a_refusal_of_the_only_call_says_nothing(start: int, ceiling: int) -> None:
    """A limit for each minute refuses one call after another, too: that one ran does not mean that two are too many."""
    window = Window(start, ceiling)
    before = window.limit
    for second in range(100):
        window.refused(began=second, now=second + 0.1, running=1)
    assert (window.limit, window.shrinks) == (before, 0)
    window.refused(began=200.0, now=201.0, running=5)
    assert (window.limit, window.shrinks) == (4, 1)


def test_after_an_outage_it_is_back_within_as_many_successes() -> None:
    """Timeouts say less than a 429: what was borne before is tried again without delay."""
    window = Window(64, 64)
    for second in range(60):
        window.timed_out(began=second, now=second + 0.5)
    assert window.limit == 1
    for _ in range(64):
        window.succeeded(window.limit)
    assert window.limit == 64


def test_a_window_that_is_not_used_does_not_grow() -> None:
    window = Window(10)
    for _ in range(1_000):
        window.succeeded(2)
    assert window.limit == 10


def test_the_operators_limit_may_change() -> None:
    window = Window(0, 10)
    window.bound(20)
    assert window.limit == 20, "nothing was learnt yet"
    window.refused(1.0, 2.0, 20)
    assert window.limit == 16
    window.bound(12)
    assert window.limit == 12
    window.bound(0)
    assert window.limit == ENDLESS


_Event = st.tuples(st.sampled_from(["good", "refused", "late"]), st.integers(1, 64), st.floats(0, 5))


@given(st.integers(0, 20), st.integers(0, 40), st.lists(_Event, max_size=200))
def test_never_below_one_and_never_above_the_ceiling(
    start: int, ceiling: int, events: list[tuple[str, int, float]]
) -> None:
    window, now = Window(start, ceiling), 10.0
    for kind, running, took in events:
        now += 0.1
        before = window.limit
        if kind == "good":
            window.succeeded(running)
            assert window.limit >= before
        elif kind == "refused":
            window.refused(now - took, now, running)
            assert window.limit <= before
        else:
            window.timed_out(now - took, now)
            assert window.limit <= before
        assert 1 <= window.limit <= (ceiling or ENDLESS)
