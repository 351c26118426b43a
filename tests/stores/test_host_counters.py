"""Counters that all processes of a host share through one file: the same arithmetic, totals for all, nothing lost."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.core.clock import ManualClock
from xrouter.core.gcra import MemoryCounters
from xrouter.core.limits import Draw
from xrouter.stores import counter_file, host_counters
from xrouter.stores.counter_file import CounterFile
from xrouter.stores.host_counters import HostCounters

_TAKER = str(Path(__file__).parent / "programs" / "limit_taker.py")

Open = Callable[[], HostCounters]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def make(tmp_path: Path, clock: ManualClock) -> Iterator[Open]:
    """Each has its own open files, so to the kernel it is another process."""
    with ExitStack() as stack:

        def open_one() -> HostCounters:
            one = HostCounters(tmp_path / "limits", clock)
            stack.callback(_close, one)
            return one

        yield open_one


def _close(one: HostCounters) -> None:
    if one._locks:
        one.close()


def die(one: HostCounters) -> None:
    """As after kill -9: nothing is given back, only the kernel frees the locks."""
    for fd in one._locks.values():
        os.close(fd)
    one._locks.clear()
    one._file.close()


def rate(need: float = 1, *, back: float = 0, name: str = "r", amount: int = 10) -> Draw:
    return Draw(name, amount, 60, need, 0, back)


def running(need: float = 1, held: int = 0, *, amount: int = 3) -> Draw:
    return Draw("c", amount, 0, need, 0, 0, lambda: held)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 1),  # which process
        st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True),
        st.integers(0, 12),  # needed
        st.integers(0, 200),  # wanted
        st.integers(-20, 20),  # back
        st.sampled_from([0.0, 0.1, 7.0, 100.0]),  # seconds until then
        st.sampled_from([1.0, 0.3]),
    ),
    max_size=30,
)


@given(steps=STEPS)
def test_the_file_counts_as_memory_does(steps: list[Any], tmp_path_factory: pytest.TempPathFactory) -> None:
    clock = ManualClock()
    directory = tmp_path_factory.mktemp("limits")
    tats: dict[str, tuple[float, float]] = {}
    held: dict[str, dict[int, int]] = {}
    files = [HostCounters(directory, clock) for _ in range(2)]
    memories = [MemoryCounters(clock, tats, held) for _ in range(2)]
    mine = [0, 0]
    try:
        for process, names, need, want, back, seconds, share in steps:
            clock.advance(seconds)
            answers = []
            for counters in (files[process], memories[process]):
                counters.share = share
                draws = [
                    Draw(
                        name,
                        50 + len(names),
                        0 if name == "c" else 60,
                        need,
                        want,
                        back,
                        partial(mine.__getitem__, process),
                    )
                    for name in names
                ]
                answers.append([(one.given, one.free, one.wait_s) for one in counters.exchange(draws)])
            assert answers[0] == answers[1]
            if "c" in names:
                mine[process] += int(answers[0][names.index("c")][0])
    finally:
        for one in files:
            one.close()


def test_processes_share_one_total(make: Open) -> None:
    one, other = make(), make()
    given_out = [counters.exchange([rate()])[0].given for _ in range(6) for counters in (one, other)]
    assert sum(given_out) == 10


def test_a_restart_forgets_nothing(make: Open, clock: ManualClock) -> None:
    first = make()
    first.exchange([rate(7)])
    first.close()
    clock.advance(6.0)
    assert make().exchange([rate(0)])[0].free == pytest.approx(4)


def test_a_start_of_the_machine_begins_anew(tmp_path: Path) -> None:
    for boot, found in ((b"a" * 16, None), (b"a" * 16, (5.0, 1.0)), (b"b" * 16, None)):
        file = CounterFile(tmp_path / "counters", lambda first, second: 1, boot)
        with file:
            assert file.read("x") == found
            file.write("x", 5.0, 1.0)
        file.close()


def test_a_file_that_is_not_ours_is_replaced(tmp_path: Path, clock: ManualClock) -> None:
    (tmp_path / "limits").mkdir()
    (tmp_path / "limits" / "counters").write_bytes(b"something else" * 100)
    one = HostCounters(tmp_path / "limits", clock)
    assert one.exchange([rate(3)])[0].given == 3
    one.close()


def test_what_a_dead_process_held_is_free_for_whoever_is_refused(make: Open, clock: ManualClock) -> None:
    dead, alive = make(), make()
    assert dead.exchange([running(2)])[0].given == 2
    assert alive.exchange([running(2)])[0].given == 0
    die(dead)
    assert alive.exchange([running(2)])[0].given == 2


def test_who_takes_the_place_of_a_dead_process_holds_nothing(make: Open) -> None:
    dead, alive = make(), make()
    dead.exchange([running(3)])
    die(dead)
    newcomer = make()
    assert newcomer.exchange([running(0)])[0].free == 3
    assert alive.exchange([running(0)])[0].free == 3


def test_what_came_back_is_counted_once_though_the_dead_are_buried_in_between(make: Open) -> None:
    dead, alive = make(), make()
    dead.exchange([running(3)])
    alive.exchange([rate(5)])
    die(dead)
    draws = [rate(0, back=2), running(1)]
    assert alive.exchange(draws)[1].given == 1
    assert alive.exchange([rate(0)])[0].free == pytest.approx(7)


def test_a_process_knows_when_it_is_alone(make: Open, clock: ManualClock) -> None:
    one = make()
    one.exchange([rate()])
    assert one.alone
    other = make()
    one.exchange([rate()])
    assert not one.alone
    other.close()
    clock.advance(1.1)
    one.exchange([rate()])
    assert one.alone


def test_many_counters_find_room_and_the_unused_are_forgotten(make: Open, clock: ManualClock) -> None:
    one, other = make(), make()
    for number in range(3_000):
        one.exchange([rate(name=f"one{number}")])
    for number in range(10_000):  # more than the file began with: it grows, and the other sees it
        other.exchange([rate(name=f"two{number}")])
    assert one.exchange([rate(0, name="one17")])[0].free == pytest.approx(9)
    assert one.exchange([rate(0, name="two9999")])[0].free == pytest.approx(9)
    size = (one._directory / "counters").stat().st_size
    one.exchange([running(2)])
    for _ in range(5):
        clock.advance(60)  # everything is full again
        for number in range(4_000):
            other.exchange([rate(name=f"{clock.now()}.{number}")])
    assert (one._directory / "counters").stat().st_size == size
    assert other.exchange([running(0)])[0].free == 1


def test_at_the_most_what_matters_least_is_forgotten(make: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counter_file, "MOST_RECORDS", 4_096)
    one = make()
    one.exchange([rate(9, name="heavy")])
    for number in range(9_000):
        one.exchange([rate(name=f"light{number}")])
    assert one.exchange([rate(0, name="heavy")])[0].free == pytest.approx(1)
    assert (one._directory / "counters").stat().st_size < 4_200 * 32


def test_a_full_disk_counts_in_memory(make: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    one = make()
    for number in range(4_096):
        one.exchange([rate(name=f"n{number}")])
    monkeypatch.setattr(counter_file, "_grow", _no_room)
    assert [one.exchange([rate(5, name="late")])[0].given for _ in range(3)] == [5, 5, 0]
    assert one.exchange([rate(0, name="n7")])[0].free == pytest.approx(9)


def test_what_a_full_disk_leaves_in_memory_is_bounded(
    make: Open, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make()
    for number in range(4_096):
        one.exchange([rate(name=f"n{number}")])
    monkeypatch.setattr(host_counters, "MOST_SPILT", 100)
    monkeypatch.setattr(counter_file, "_grow", _no_room)
    for number in range(1_000):
        one.exchange([rate(5, name=f"late{number}")])
        assert len(one._spilt) <= 100
    assert one.exchange([rate(0, name="late999")])[0].free == pytest.approx(5), "the newest are kept"


def _no_room(fd: int, before: int, after: int) -> None:
    raise OSError(28, "No space left on device")


def test_the_files_are_private_and_hide_names(make: Open, tmp_path: Path) -> None:
    make().exchange([rate(name="key:secret")])
    files = list((tmp_path / "limits").iterdir())
    assert files
    assert not [path for path in files if path.stat().st_mode & 0o077]
    assert b"secret" not in (tmp_path / "limits" / "counters").read_bytes()


# ── real processes ───────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def taker(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, _TAKER, str(tmp_path / "limits"), *map(str, arguments)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def test_two_processes_under_load_use_the_limit_and_no_more(taker: Callable[..., subprocess.Popen[str]]) -> None:
    amount, seconds = 6_000, 2.0  # 100 a second, and twice as many at once at most
    both = [taker("requests", amount, seconds) for _ in range(2)]
    for process in both:
        go(process)
    figures = [process.stdout.readline().split() for process in both if process.stdout is not None]
    admitted = sum(int(count) for count, _ in figures)
    elapsed = max(float(spent) for _, spent in figures)
    assert 0.95 * (amount + 100 * seconds) <= admitted <= amount + 100 * (elapsed + 1)


def test_a_killed_process_gives_its_running_calls_back(taker: Callable[..., subprocess.Popen[str]]) -> None:
    holder = taker("concurrent", 1, 0)
    go(holder)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    counters = taker("concurrent", 1, 0.2)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    go(counters)
    assert counters.stdout is not None
    assert int(counters.stdout.readline().split()[0]) > 0
