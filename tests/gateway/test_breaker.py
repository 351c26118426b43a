"""The circuit breaker: each rule by itself, then all of them against the campaign's reference model."""

from itertools import product
from math import inf
from random import Random

import pytest
from campaigns.breaker import Model, run

from xrouter.core.vitals import Vitals
from xrouter.gateway.breaker import Breaker, standing

SEQUENCES = 20_000
DEPTH = 4


def opened(now: float = 100.0, seed: int = 1) -> tuple[Breaker, Random]:
    breaker, chance = Breaker(), Random(seed)
    for _ in range(5):
        breaker.failed("a", now, now, chance)
    return breaker, chance


def test_it_equals_the_reference_model_over_many_sequences() -> None:
    found = run(SEQUENCES, Random().randrange(2**32))
    assert found is None, found


def test_five_failures_in_a_row_open_it_for_ten_seconds_give_or_take_one() -> None:
    lasting = set()
    for seed in range(200):
        breaker, _ = opened(seed=seed)
        state = breaker.state(100.0)
        assert (state.name, state.reason, state.ejections) == ("open", "failures", 1)
        lasting.add(state.until - 100.0)
    assert 9.0 <= min(lasting) < 9.2
    assert 10.8 < max(lasting) <= 11.0
    assert opened(seed=7)[0].until == opened(seed=7)[0].until


def test_a_success_between_four_failures_keeps_it_closed() -> None:
    breaker, chance = Breaker(), Random(1)
    for number in range(40):  # below half
        failed = number % 5 in (0, 1)
        breaker.failed("a", 1.0, 1.0, chance) if failed else breaker.succeeded("a", 1.0, 1.0)
    assert breaker.state(1.0).name == "closed"


@pytest.mark.parametrize(("pause_s", "name"), [(29.0, "open"), (31.0, "closed")])
def test_half_of_ten_attempts_within_thirty_seconds_open_it(pause_s: float, name: str) -> None:
    breaker, chance = Breaker(), Random(1)
    breaker.failed("a", 0.0, 0.0, chance)
    for number in range(9):
        if number % 2 == 0:
            breaker.failed("a", pause_s, pause_s, chance)
        else:
            breaker.succeeded("a", pause_s, pause_s)
    assert breaker.state(pause_s).name == name


def test_each_ejection_in_a_row_is_longer_up_to_five_minutes() -> None:
    breaker, chance = opened()
    lasted = [breaker.until - 100.0]
    for _ in range(60):
        now = breaker.until
        breaker.began("p", now)
        breaker.failed("p", now, now, chance)
        lasted.append(breaker.until - now)
    for number, lasting_s in enumerate(lasted, 1):
        assert 0.9 <= lasting_s / min(300.0, 10.0 * number) <= 1.1
    assert breaker.ejections == 61


def test_a_later_failure_extends_and_nothing_told_shortens() -> None:
    breaker, chance = opened()
    first = breaker.until
    breaker.failed("straggler", 99.0, 105.0, chance)
    assert first < breaker.until
    later = breaker.until
    breaker.adopt(106.0, 107.0, "failures")
    assert breaker.until == later
    breaker.adopt(106.0, 900.0, "failures")
    breaker.eject("x", 107.0, "auth_failed")
    assert breaker.until == 900.0


def test_one_call_at_a_time_tries_it_and_two_successes_close_it() -> None:
    breaker, chance = opened()
    breaker.began("early", breaker.until - 0.1)
    assert breaker.probe is None
    now = breaker.until
    breaker.began("one", now)
    breaker.began("two", now)
    assert breaker.probe == "one"
    breaker.succeeded("one", now, now + 1)
    assert breaker.state(now + 1).name == "half_open"
    breaker.began("three", now + 1)
    assert breaker.probe == "three"
    breaker.succeeded("three", now + 1, now + 2)
    assert breaker.state(now + 2) == ("closed", None, -inf, 0)
    for _ in range(4):
        breaker.failed("x", now + 2, now + 2, chance)
    assert breaker.state(now + 2).name == "closed", "what was before is forgotten"


def test_a_probe_that_says_nothing_makes_room_for_the_next() -> None:
    breaker, _ = opened()
    now = breaker.until
    breaker.began("left", now)
    breaker.passed("other")
    assert breaker.probe == "left"
    breaker.passed("left")
    breaker.began("next", now)
    assert breaker.probe == "next"


def test_calls_from_before_the_ejection_prove_nothing() -> None:
    breaker, chance = opened()
    breaker.succeeded("old", 99.0, 101.0)
    breaker.succeeded("old", 99.0, 101.0)
    assert breaker.state(101.0).name == "open"
    now = breaker.until
    breaker.failed("old", 99.0, now, chance)
    assert breaker.state(now).name == "half_open"


def test_traffic_that_had_nowhere_else_to_go_closes_it() -> None:
    breaker, _ = opened()
    breaker.succeeded("forced", 101.0, 102.0)
    assert breaker.state(102.0).name == "half_open"
    breaker.succeeded("forced", 101.0, 102.0)
    assert breaker.state(102.0).name == "closed"


def test_a_check_half_opens_and_never_closes() -> None:
    breaker, _ = opened()
    for now in (101.0, 102.0, 103.0):
        breaker.shorten(now)
        assert breaker.state(now).name == "half_open"
    closed = Breaker()
    closed.shorten(1.0)
    assert closed.state(1.0).name == "closed"


@pytest.mark.parametrize("reason", ["auth_failed", "quota_exhausted"])
def test_what_must_be_mended_is_ejected_at_once_for_five_minutes(reason: str) -> None:
    breaker = Breaker()
    breaker.eject("a", 50.0, reason)
    assert breaker.state(50.0) == ("open", reason, 350.0, 1)


def test_a_name_without_an_address_is_ejected_for_five_minutes_when_that_goes_on() -> None:
    breaker, chance = Breaker(), Random(1)
    for number in range(5):
        assert breaker.state(0.0).name == "closed", number
        breaker.failed("a", 0.0, 0.0, chance, "dns")
    assert breaker.state(0.0) == ("open", "dns", 300.0, 1)


EVENTS = ("begin", "success", "failures", "old failure", "nothing", "auth_failed", "pause", "check", "hear")


@pytest.mark.parametrize(("failures", "pause_s"), [(0, 0.0), (4, 0.0), (5, 0.0), (5, 11.5)])
def test_every_short_story_is_told_as_the_model_tells_it(failures: int, pause_s: float) -> None:
    """All sequences of `DEPTH` events, from a closed, an almost opened, an opened and a half-open start."""
    for story in product(EVENTS, repeat=DEPTH):
        breaker, model, here = Breaker(), Model(Turns()), Turns()
        for number in range(failures):
            breaker.failed(str(number), 1.0, 1.0, here)
            model.end(str(number), 1.0, 1.0, "failures")
        _tell(story, breaker, model, here, 1.0 + pause_s)


class Turns(Random):
    """Any numbers will do, if both get the same: making a real one takes longer than a whole story."""

    def __new__(cls) -> "Turns":
        return super().__new__(cls, 0)

    def __init__(self) -> None:
        self.turn = 0

    def random(self) -> float:
        self.turn += 1
        return self.turn % 7 / 7


def _tell(story: tuple[str, ...], breaker: Breaker, model: Model, here: Random, now: float) -> None:
    running: list[tuple[str, float]] = []
    for number, event in enumerate(story):
        if event == "begin":
            running.append((name := f"n{number}", now))
            breaker.began(name, now)
            model.begin(name, now)
        elif event == "pause":
            now += 11.5
        elif event == "check":
            breaker.shorten(now)
            model.check(now)
        elif event == "hear":
            breaker.adopt(now, now + 30.0, "failures")
            model.hear(now, now + 30.0)
        else:
            name, began = running.pop(0 if event == "old failure" else -1) if running else ("none", now)
            outcome = "failures" if event == "old failure" else event
            if outcome == "success":
                breaker.succeeded(name, began, now)
            elif outcome == "failures":
                breaker.failed(name, began, now, here)
            elif outcome == "nothing":
                breaker.passed(name)
            else:
                breaker.eject(name, now, outcome)
            model.end(name, began, now, outcome)
        said = (*breaker.state(now), breaker.reason is None or (now >= breaker.until and breaker.probe is None))
        assert said == model.says(now), story


# ── a group ──────────────────────────────────────────────────────────────────────────────────────────────


def group(*reasons: str | None) -> list[Vitals]:
    """In the order of their last failure."""
    return [
        Vitals(str(place), ejected=reason, ejected_until=10.0 if reason else -inf, last_failure_at=float(place))
        for place, reason in enumerate(reasons)
    ]


def test_a_healthy_group_is_left_alone() -> None:
    assert standing(group(None, None), 5.0) is None
    assert standing(group("failures", "dns"), 10.0) is None, "their time has come"


def test_half_of_a_group_may_be_ejected_for_failures() -> None:
    assert standing(group(None, "failures"), 5.0) == ([0], [], [1], False)
    assert standing(group(None, "failures", "failures"), 5.0) == ([0], [1], [2], False)
    assert standing(group("failures", "failures", "failures", None), 5.0) == ([3], [0], [1, 2], False)


@pytest.mark.parametrize("reason", ["auth_failed", "forbidden", "quota_exhausted", "dns", "rate_limited"])
def test_what_cannot_serve_is_ejected_however_many_they_are(reason: str) -> None:
    assert standing(group(None, reason, reason, reason), 5.0) == ([0], [], [1, 2, 3], False)


def test_where_nobody_is_healthy_the_least_recent_failure_is_tried_first() -> None:
    everybody = group("failures", "auth_failed", "probing")
    everybody[0].last_failure_at = 9.0
    assert standing(everybody, 5.0) == ([], [1, 2, 0], [], True)
