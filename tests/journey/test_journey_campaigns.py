"""The long campaigns, small: kill -9 under load, and a sample of all vendor faults. The seed is printed."""

import os
import random
from pathlib import Path

import pytest
from campaigns import crash, faults, redis_faults
from tests.redis_server import find_binary

KILLS = 3
CELLS = 40


@pytest.fixture
def seed() -> int:
    """A fresh one each time, or XROUTER_TEST_SEED to repeat a run."""
    given = os.environ.get("XROUTER_TEST_SEED")  # noqa: TID251 - a knob of the tests, not of the product
    return int(given) if given else random.randrange(2**32)


@pytest.mark.parametrize("workers", [1, 2])
def test_no_upstream_call_is_lost_or_booked_twice_by_kill_9(tmp_path: Path, workers: int, seed: int) -> None:
    found = crash.run(KILLS, seed, tmp_path, workers)
    print(f"seed {seed}: {found}")  # noqa: T201 - to repeat it
    assert found["seen"] > 0
    assert found["answered"] > 0
    assert found["wrong"] == [], f"seed {seed}"


def test_a_sample_of_all_faults_ends_in_time_with_an_answer_or_a_clear_error(tmp_path: Path, seed: int) -> None:
    everything = list(faults.cells())
    results = faults.run(tmp_path, random.Random(seed).sample(everything, CELLS))
    wrong = [f"{cell}: {reason}" for cell, _, reason in results if reason]
    print(f"seed {seed}: {len(results)} of {len(everything)} cells")  # noqa: T201 - to repeat it
    assert wrong == [], f"seed {seed}"


@pytest.mark.skipif(find_binary() is None, reason="no Redis on this machine")
def test_no_call_fails_or_hangs_whatever_redis_does_and_it_is_found_again(tmp_path: Path) -> None:
    assert redis_faults.run(1.0, tmp_path) == []
