"""The journal: what it takes is in its files at once; what the disk refuses is said or kept."""

import contextlib
import os
import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xrouter.core.call import Phase, State
from xrouter.core.chat import Usage
from xrouter.core.clock import ManualClock
from xrouter.core.errors import Overloaded
from xrouter.stores.frames import Entry, read_frames
from xrouter.stores.journal import FileJournal


@pytest.fixture
def journal(journal_root: Path, clock: ManualClock) -> Iterator[FileJournal]:
    opened = FileJournal(journal_root, clock)
    yield opened
    opened.close()


def _segments(journal_root: Path) -> list[Path]:
    return sorted(journal_root.glob("*/*.log"))


def _entries(journal_root: Path) -> list[Entry]:
    found = [read_frames(path.read_bytes(), 1_000_000) for path in _segments(journal_root)]
    assert not any(read.tail or read.damage for read in found)
    return [entry for read in found for entry in read.entries]


def test_intent_and_outcome_are_in_the_file_when_the_call_returns(
    journal: FileJournal, journal_root: Path, make_attempt: Any
) -> None:
    attempt = make_attempt(journal)
    attempt.sending()
    (intent,) = _entries(journal_root)
    assert (intent.id, intent.state, intent.phase) == (attempt.id, State.OPEN, Phase.SENT)
    assert intent.owner == journal.owner
    attempt.answered(200, "up-1")
    attempt.state, attempt.phase, attempt.usage = State.SUCCEEDED, Phase.SHOWN, Usage(3, 5, 1, 0, 2)
    attempt.cost_micro, attempt.ended_at = 77, 3.0
    journal.settle(attempt)
    outcome = _entries(journal_root)[1]
    assert (outcome.id, outcome.state, outcome.phase) == (attempt.id, State.SUCCEEDED, Phase.SHOWN)
    tokens = (outcome.input_tokens, outcome.output_tokens, outcome.cached_tokens, outcome.reasoning_tokens)
    assert tokens == (3, 5, 1, 2)
    assert (outcome.cost_micro, outcome.ended_at, outcome.upstream_status) == (77, 3.0, 200)
    assert outcome.unpriced


def test_an_attempt_that_never_left_is_recorded(journal: FileJournal, journal_root: Path, make_attempt: Any) -> None:
    failed = make_attempt(journal, state=State.FAILED, error="refused")
    journal.settle(failed)
    (entry,) = _entries(journal_root)
    assert (entry.id, entry.state, entry.phase, entry.cost_micro) == (failed.id, State.FAILED, Phase.CONNECTING, 0)


@given(
    model=st.text(st.characters(codec=None), max_size=2_000),
    tokens=st.integers(-(2**80), 2**80),
    request_id=st.sampled_from([None, "r" * 70_000]),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=30)
def test_no_text_or_number_is_too_strange_to_record(
    journal: FileJournal, journal_root: Path, make_attempt: Any, model: str, tokens: int, request_id: str | None
) -> None:
    usage = Usage(tokens, tokens)
    attempt = make_attempt(journal, model=model, client_request_id=request_id, usage=usage, state=State.SUCCEEDED)
    attempt.sending()
    journal.settle(attempt)
    assert [entry.id for entry in _entries(journal_root)][-2:] == [attempt.id] * 2


@contextlib.contextmanager
def _full_disk(journal_root: Path) -> Iterator[None]:
    """Every write to the newest segment ends in ENOSPC, from the kernel."""
    target = _segments(journal_root)[-1]
    links = {int(entry.name): entry for entry in Path("/proc/self/fd").iterdir()}
    (fd,) = (number for number, link in links.items() if link.exists() and link.resolve() == target.resolve())
    saved = os.dup(fd)
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        os.dup2(full.fileno(), fd)
    try:
        yield
    finally:
        os.dup2(saved, fd)
        os.close(saved)


async def test_with_a_full_disk_new_calls_are_refused_and_outcomes_wait(
    journal: FileJournal, journal_root: Path, make_attempt: Any, eventually: Callable[..., Any]
) -> None:
    running, refused = make_attempt(journal), make_attempt(journal)
    running.sending()
    with _full_disk(journal_root):
        with pytest.raises(Overloaded):
            refused.sending()
        assert not refused.journaled
        running.state = State.SUCCEEDED
        journal.settle(running)
        assert journal.waiting == 1
    await eventually(lambda: journal.waiting == 0)
    assert [(entry.id, entry.state) for entry in _entries(journal_root)] == [
        (running.id, State.OPEN),
        (running.id, State.SUCCEEDED),
    ]
    assert journal.failed_writes == 2


def test_half_a_record_is_taken_back(journal: FileJournal, journal_root: Path, make_attempt: Any) -> None:
    make_attempt(journal).sending()
    size = _segments(journal_root)[0].stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, before[1]))
    try:
        with pytest.raises(Overloaded):
            make_attempt(journal).sending()
        assert _segments(journal_root)[0].stat().st_size == size
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    make_attempt(journal).sending()
    assert len(_entries(journal_root)) == 2


async def test_segments_are_rotated_and_nothing_is_lost_between_them(
    journal: FileJournal, journal_root: Path, clock: ManualClock, make_attempt: Any, eventually: Callable[..., Any]
) -> None:
    ids = []
    while len(_segments(journal_root)) < 4:
        for _ in range(500):
            attempt = make_attempt(journal)
            attempt.sending()
            ids.append(attempt.id)
        clock.advance(6)
        count = len(_segments(journal_root))
        await eventually(lambda count=count: len(_segments(journal_root)) > count)
    assert [entry.id for entry in _entries(journal_root)] == ids


def test_the_outcome_of_a_running_attempt_is_never_recorded_as_open(
    journal: FileJournal, journal_root: Path, make_attempt: Any
) -> None:
    attempt = make_attempt(journal)
    attempt.sending()
    journal.settle(attempt)
    assert [entry.state for entry in _entries(journal_root)] == [State.OPEN, State.INTERRUPTED]


def test_files_are_for_their_owner_only(journal: FileJournal, journal_root: Path) -> None:
    paths = [journal_root, *journal_root.rglob("*")]
    assert len(paths) == 4
    assert all(path.stat().st_mode & 0o077 == 0 for path in paths)
