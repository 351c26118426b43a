"""How many attempts may be repeats."""

from random import Random

import pytest

from xrouter.gateway.budget import RetryBudget


def test_whoever_has_few_calls_may_repeat_three_at_once_and_one_each_second() -> None:
    budget = RetryBudget()
    assert [budget.draw(100.0) for _ in range(4)] == [True, True, True, False]
    assert not budget.draw(100.9)
    assert budget.draw(101.1)
    assert not budget.draw(101.2)
    assert [budget.draw(200.0) for _ in range(4)] == [True, True, True, False]


def test_a_fifth_of_the_calls_of_the_last_ten_seconds_may_be_repeated() -> None:
    budget = RetryBudget()
    for _ in range(100):
        budget.called(50.0)
    assert sum(budget.draw(55.0) for _ in range(100)) == 20 + 3
    assert not budget.draw(55.5)
    assert sum(budget.draw(60.0) for _ in range(100)) == 3, "the calls are too long ago, only the floor is left"


@pytest.mark.parametrize("rps", [1, 20, 200])
def test_repeats_stay_within_share_and_floor_whatever_comes(rps: int) -> None:
    budget, draw = RetryBudget(), Random(rps)
    calls = repeats = 0
    now, seconds = 1_000.0, 60
    while now < 1_000.0 + seconds:
        now += draw.expovariate(rps)
        budget.called(now)
        calls += 1
        repeats += sum(budget.draw(now) for _ in range(2))  # every attempt fails
    assert repeats <= 0.2 * calls + seconds + 3
    assert repeats >= 0.2 * calls * 0.9
