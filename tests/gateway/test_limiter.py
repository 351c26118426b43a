"""The limiter, with virtual time: never above the limit, whatever happens; and nothing lost of it in the long run."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from xrouter.core.call import Caller, Scope
from xrouter.core.clock import ManualClock
from xrouter.core.gcra import MemoryCounters
from xrouter.core.limits import DAY_S, MINUTE_S, Level, Limit, Unit
from xrouter.gateway.limiter import TICK_S, Held, Limiter, Refusal


def limit(
    unit: Unit = Unit.REQUESTS,
    amount: int = 20,
    window_s: int = MINUTE_S,
    level: Level = Level.KEY,
    model: str | None = None,
    exact: bool = False,
) -> Limit:
    window_s = 0 if unit is Unit.CONCURRENT else window_s
    return Limit(level, "s1", f"{level} 's1'", unit, amount, window_s, model, exact)


def caller(*limits: Limit, key: str = "k") -> Caller:
    return Caller(key, "test", frozenset({Scope.MODELS}), limits=limits)


def no_more_names(models: str | tuple[str, ...]) -> Sequence[str]:
    return [models] if isinstance(models, str) else models


class Host:
    """Several processes over the same counters."""

    def __init__(self, processes: int = 1) -> None:
        self.clock = ManualClock()
        tats: dict[str, tuple[float, float]] = {}
        held: dict[str, dict[int, int]] = {}
        self.limiters = [Limiter(MemoryCounters(self.clock, tats, held), self.clock) for _ in range(processes)]

    def ask(self, one: Caller, tokens: int = 0, process: int = 0, model: str = "m") -> Held | Refusal:
        limiter = self.limiters[process]
        plan = limiter.plan(one, model, no_more_names)
        if not limiter.take(plan, tokens):
            refusal = limiter.take_near(plan, tokens)
            if refusal is not None:
                return refusal
        return Held(limiter, plan, tokens)

    def admits(self, one: Caller, tokens: int = 0, process: int = 0, model: str = "m") -> bool:
        return isinstance(self.ask(one, tokens, process, model), Held)

    def tick(self) -> None:
        self.clock.advance(TICK_S)
        for limiter in self.limiters:
            limiter.tick()


class Ideal:
    """A store that fills evenly, and from which nobody takes in advance."""

    def __init__(self, amount: int, window_s: int, now: float) -> None:
        self.amount, self.rate, self.left, self.at = amount, amount / window_s, float(amount), now

    def fill(self, now: float) -> None:
        self.left = min(float(self.amount), self.left + (now - self.at) * self.rate)
        self.at = now

    def admits(self, now: float, units: float = 1) -> bool:
        self.fill(now)
        if self.left + 1e-6 < min(units, self.amount):
            return False
        self.left -= units
        return True


def test_a_full_store_is_given_out_to_the_last_unit_and_then_one_by_one() -> None:
    host, key = Host(), caller(limit(amount=7))
    assert [host.admits(key) for _ in range(8)] == [True] * 7 + [False]
    refusal = host.ask(key)
    assert isinstance(refusal, Refusal)
    assert refusal.wait_s == pytest.approx(MINUTE_S / 7)
    host.clock.advance(refusal.wait_s - 0.01)
    assert not host.admits(key)
    host.clock.advance(0.01)
    assert [host.admits(key) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("processes", [1, 2, 5])
@pytest.mark.parametrize(("amount", "window_s"), [(20, MINUTE_S), (1_000, MINUTE_S), (200, DAY_S), (7, MINUTE_S)])
def test_fifty_virtual_hours_differ_from_the_ideal_by_a_thousandth(amount: int, window_s: int, processes: int) -> None:
    host, key = Host(processes), caller(limit(amount=amount, window_s=window_s))
    ideal = Ideal(amount, window_s, host.clock.monotonic())
    pick = random.Random(amount)
    began, ticked = host.clock.monotonic(), host.clock.monotonic()
    admitted = wanted = 0
    mean_s = window_s / amount / 2  # twice of what is allowed, in bursts and pauses
    while host.clock.monotonic() - began < 50 * 3_600 and wanted < 60_000:
        host.clock.advance(pick.expovariate(1 / mean_s) * pick.choice((0.01, 0.01, 1, 2.98)))
        if host.clock.monotonic() - ticked > TICK_S:
            ticked = host.clock.monotonic()
            for limiter in host.limiters:
                limiter.tick()
        wanted += ideal.admits(host.clock.monotonic())
        admitted += host.admits(key, process=pick.randrange(processes))
        assert admitted <= amount + (host.clock.monotonic() - began) * amount / window_s + 1e-6
    assert abs(admitted - wanted) <= max(1, wanted * 0.001)


@pytest.mark.parametrize("processes", [1, 3])
def test_fifty_virtual_hours_of_tokens_settle_to_what_the_ideal_allows(processes: int) -> None:
    """Calls reserve more or less than they use in the end, and 1.5 times of what is allowed is asked for."""
    amount = 100_000
    host, key = Host(processes), caller(limit(Unit.TOKENS, amount))
    began = host.clock.monotonic()
    ideal = Ideal(amount, MINUTE_S, began)
    pick = random.Random(1)
    used = allowed = 0
    running: list[tuple[float, Held | None, int, int]] = []
    while host.clock.monotonic() - began < 50 * 3_600:
        host.clock.advance(pick.expovariate(1 / 1.5))
        for limiter in host.limiters:
            limiter.tick()
        now = host.clock.monotonic()
        for ended in [one for one in running if one[0] <= now]:
            running.remove(ended)
            _, hold, back, actual = ended
            if hold is not None:
                hold.settle(actual)
            ideal.fill(now)
            ideal.left += back
        reserved = pick.randint(100, 6_000)
        actual = int(reserved * pick.choice((0.1, 0.5, 1.0, 1.5)))
        ends_at = now + pick.expovariate(1 / 10)
        asked = host.ask(key, reserved, pick.randrange(processes))
        held = asked if isinstance(asked, Held) else None
        used += actual if held else 0
        back = 0
        if ideal.admits(now, reserved):
            allowed += actual
            back = reserved - actual
        running.append((ends_at, held, back, actual))
    assert used > 0.9 * (amount / 60 * 50 * 3_600)
    assert abs(used - allowed) <= allowed * 0.001


def test_tokens_are_given_back_and_debts_are_paid_by_the_next_window() -> None:
    host, key = Host(), caller(limit(Unit.TOKENS, 1_000))
    hold = host.ask(key, 900)
    assert isinstance(hold, Held)
    assert not host.admits(key, 200)
    hold.settle(100)
    assert host.admits(key, 900)
    host.clock.advance(MINUTE_S)
    hold = host.ask(key, 500)
    assert isinstance(hold, Held)
    hold.settle(3_000)
    refusal = host.ask(key, 1)
    assert isinstance(refusal, Refusal)
    assert refusal.wait_s == pytest.approx(2 * MINUTE_S, rel=0.01)


def test_settling_twice_gives_back_once() -> None:
    host, key = Host(), caller(limit(Unit.CONCURRENT, 1))
    hold = host.ask(key)
    assert isinstance(hold, Held)
    hold.settle(0)
    hold.settle(0)
    assert [host.admits(key), host.admits(key)] == [True, False]


def test_a_call_larger_than_the_whole_limit_waits_until_nothing_is_used() -> None:
    host, key = Host(), caller(limit(Unit.TOKENS, 1_000))
    assert host.admits(key, 5_000)
    assert not host.admits(key, 1)
    host.clock.advance(4 * MINUTE_S + 1)
    host.tick()
    assert not host.admits(key, 5_000)
    host.clock.advance(MINUTE_S)
    assert host.admits(key, 5_000)


def test_nothing_is_used_where_one_of_several_limits_refuses() -> None:
    host = Host()
    wide, narrow = limit(amount=10, level=Level.TEAM), limit(amount=2)
    both, team = caller(wide, narrow, key="a"), caller(wide, key="b")
    assert [host.admits(both) for _ in range(20)] == [True] * 2 + [False] * 18
    assert [host.admits(team) for _ in range(9)] == [True] * 8 + [False]


def test_the_limit_that_lets_wait_longest_is_named() -> None:
    host = Host()
    minute, day = limit(amount=1), limit(amount=1, window_s=DAY_S, level=Level.USER)
    assert host.admits(caller(minute, day))
    refusal = host.ask(caller(minute, day))
    assert isinstance(refusal, Refusal)
    assert refusal.limit is day
    assert refusal.wait_s == pytest.approx(DAY_S)


def test_a_limit_of_nothing_lets_nothing_pass() -> None:
    host = Host()
    for unit in Unit:
        assert not host.admits(caller(limit(unit, 0), key=unit), 1)


def test_only_matching_models_count() -> None:
    host = Host()
    key = caller(limit(amount=1, model="vendor/*"), limit(amount=3))
    assert host.admits(key, model="vendor/big")
    assert not host.admits(key, model="vendor/small")
    assert [host.admits(key, model="other/m") for _ in range(3)] == [True, True, False]


def test_a_changed_amount_is_in_force_at_once() -> None:
    host = Host()
    assert [host.admits(caller(limit(amount=2))) for _ in range(3)] == [True, True, False]
    assert [host.admits(caller(limit(amount=10))) for _ in range(9)] == [True] * 8 + [False]
    assert not host.admits(caller(limit(amount=0)))
    assert not host.admits(caller(limit(amount=4)))
    host.clock.advance(MINUTE_S / 4)
    assert host.admits(caller(limit(amount=4)))  # not a debt, though more was used than this limit has


def test_what_one_process_does_not_use_another_one_gets() -> None:
    host, key = Host(2), caller(limit(amount=1_000))
    for _ in range(3):
        for _ in range(100):
            assert host.admits(key, process=0)
        host.tick()
    assert host.admits(key, process=0)  # and holds more than that in advance
    host.tick()
    host.tick()
    left = sum(host.admits(key, process=1) for _ in range(1_000))
    assert left == pytest.approx(1_000 - 301 + 5 * TICK_S * 1_000 / 60, abs=2)


def test_everything_goes_back_when_a_process_closes() -> None:
    host, key = Host(2), caller(limit(amount=1_000), limit(Unit.CONCURRENT, 100))
    for _ in range(3):
        for _ in range(10):
            held = host.ask(key, process=0)
            assert isinstance(held, Held)
            held.settle(0)
        host.tick()
    held = host.ask(key, process=0)
    assert isinstance(held, Held)
    held.settle(0)
    host.limiters[0].close()
    running = [host.admits(caller(limit(Unit.CONCURRENT, 100)), process=1) for _ in range(101)]
    assert running == [True] * 100 + [False]


def test_what_is_told_of_what_is_left() -> None:
    host, key = Host(), caller(limit(amount=20), limit(amount=200, window_s=DAY_S), limit(Unit.TOKENS, 1_000))
    for _ in range(5):
        hold = host.ask(key, 100)
        assert isinstance(hold, Held)
        hold.settle(60)
    assert dict(hold.headers()) == {
        b"x-ratelimit-limit-requests": b"20",
        b"x-ratelimit-remaining-requests": b"15",
        b"x-ratelimit-reset-requests": b"15s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"700",
        b"x-ratelimit-reset-tokens": b"18s",
    }


class Interleavings(RuleBasedStateMachine):
    """Three processes, three limits of two keys, in any order of calls, ends, ticks, pauses, returns and deaths: what
    was admitted never passes what the ideal store had, and what runs never passes the concurrency."""

    AMOUNT, TOKENS, RUNNING = 30, 600, 4

    @initialize()
    def begin(self) -> None:
        self.host = Host(3)
        team = limit(amount=self.AMOUNT, level=Level.TEAM)
        running = limit(Unit.CONCURRENT, self.RUNNING, level=Level.TEAM)
        tokens = limit(Unit.TOKENS, self.TOKENS, level=Level.TEAM)
        self.keys = [caller(team, running, tokens, key="a"), caller(team, running, tokens, limit(amount=10), key="b")]
        self.began = self.host.clock.monotonic()
        self.requests = self.used = self.narrow = 0
        self.open: list[tuple[Held, int]] = []

    @rule(key=st.integers(0, 1), process=st.integers(0, 2), tokens=st.integers(0, 200), times=st.integers(1, 15))
    def call(self, key: int, process: int, tokens: int, times: int) -> None:
        for _ in range(times):
            hold = self.host.ask(self.keys[key], tokens, process)
            if isinstance(hold, Held):
                self.open.append((hold, tokens))
                self.requests += 1
                self.narrow += key

    @rule(which=st.integers(0, 100), part=st.sampled_from([0.0, 0.3, 1.0]))
    def end(self, which: int, part: float) -> None:
        if self.open:
            hold, tokens = self.open.pop(which % len(self.open))
            self.used += int(tokens * part)
            hold.settle(int(tokens * part))

    @rule(seconds=st.sampled_from([0.001, 0.5, 7.0, 61.0, 500.0]))
    def wait(self, seconds: float) -> None:
        self.host.clock.advance(seconds)

    @rule()
    def tick(self) -> None:
        self.host.tick()

    @rule(process=st.integers(0, 2))
    def give_everything_back(self, process: int) -> None:
        self.host.limiters[process].recalled("")

    @invariant()
    def never_above(self) -> None:
        windows = (self.host.clock.monotonic() - self.began) / MINUTE_S
        assert self.requests <= self.AMOUNT * (1 + windows) + 1e-3
        assert self.narrow <= 10 * (1 + windows) + 1e-3
        assert len(self.open) <= self.RUNNING
        reserved = sum(tokens for _, tokens in self.open)
        assert self.used + reserved <= self.TOKENS * (1 + windows) + 1e-3


TestInterleavings = Interleavings.TestCase


@given(amount=st.integers(1, 10**9), window_s=st.sampled_from([MINUTE_S, DAY_S]), uptime_s=st.floats(0, 1e8))
def test_rounding_neither_refuses_the_last_unit_nor_gives_one_more(amount: int, window_s: int, uptime_s: float) -> None:
    host = Host()
    host.clock.advance(uptime_s)
    key = caller(limit(Unit.TOKENS, amount, window_s))
    first = amount - amount // 3
    assert host.admits(key, first)
    if amount // 3:
        assert host.admits(key, amount // 3)
    assert not host.admits(key, max(1, amount // 1_000))
