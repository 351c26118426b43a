"""From the journal to the books: every attempt once, whoever dies and whatever is away."""

import asyncio
import contextlib
import json
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import make_url

from xrouter.core.call import State
from xrouter.core.chat import Usage
from xrouter.core.clock import ManualClock
from xrouter.core.ids import ulid
from xrouter.core.records import AttemptFilter
from xrouter.stores.flusher import Flusher
from xrouter.stores.frames import Entry
from xrouter.stores.journal import FileJournal
from xrouter.stores.segments import Owner
from xrouter.stores.sql.attempts import SqlAttempts
from xrouter.stores.sql.booking import book
from xrouter.stores.sql.database import Database, DatabaseUnavailable

_PROGRAMS = Path(__file__).parent / "programs"


@pytest.fixture
def journal(journal_root: Path, clock: ManualClock) -> Iterator[FileJournal]:
    opened = FileJournal(journal_root, clock)
    yield opened
    opened.close()


@pytest.fixture
def flusher(journal_root: Path, database: Database, clock: ManualClock) -> Iterator[Flusher]:
    made = Flusher(journal_root, database, clock, 0.01)
    yield made
    made.close()


def _names(root: Path) -> list[str]:
    return [path.name for path in root.iterdir()]


def _only_segment(root: Path) -> Path:
    (segment,) = root.glob("*/*.log")
    return segment


def _kept_aside(root: Path) -> list[bytes]:
    return [path.read_bytes() for path in root.glob("corrupt/*.corrupt")]


def _settled(make_attempt: Any, journal: FileJournal, **changes: Any) -> Any:
    attempt = make_attempt(journal, **changes)
    attempt.sending()
    attempt.state, attempt.usage, attempt.cost_micro, attempt.ended_at = State.SUCCEEDED, Usage(7, 11), 99, 5.0
    journal.settle(attempt)
    return attempt


async def test_an_attempt_is_open_in_the_books_while_it_runs_and_complete_after(
    journal: FileJournal, flusher: Flusher, database: Database, make_attempt: Any
) -> None:
    log = SqlAttempts(database)
    attempt = make_attempt(journal, client_request_id="mine")
    attempt.sending()
    await flusher.flush_all()
    (row,) = await log.of_call(attempt.call.id)
    assert (row.id, row.state, row.phase, row.owner) == (attempt.id, State.OPEN, "sent", journal.owner)
    attempt.state, attempt.usage, attempt.cost_micro = State.FAILED, Usage(1, 2, estimated=True), 5
    attempt.error, attempt.ended_at = "timeout", 9.5
    journal.settle(attempt)
    await flusher.flush_all()
    (row,) = await log.of_call(attempt.call.id)
    assert (row.state, row.input_tokens, row.output_tokens, row.estimated) == (State.FAILED, 1, 2, True)
    assert (row.cost_micro, row.error, row.ended_at, row.client_request_id) == (5, "timeout", 9.5, "mine")


async def test_run_moves_what_comes(
    journal: FileJournal, flusher: Flusher, database: Database, make_attempt: Any, eventually: Any, rows_of: Any
) -> None:
    running = asyncio.create_task(flusher.run())
    ids = {_settled(make_attempt, journal).id for _ in range(450)}

    async def all_booked() -> bool:
        return set(await rows_of(database)) == ids

    await eventually(all_booked)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_dead_process_is_read_to_its_end_and_what_it_left_open_is_interrupted(
    journal_root: Path, flusher: Flusher, database: Database, clock: ManualClock, make_attempt: Any, rows_of: Any
) -> None:
    dead = FileJournal(journal_root, clock)
    early = make_attempt(dead)
    early.sending()
    await flusher.flush_all()  # this one is open in the database already
    late = make_attempt(dead)
    late.sending()
    done = _settled(make_attempt, dead)
    dead.close()
    await flusher.flush_all()
    rows = await rows_of(database)
    assert {rows[item.id].state for item in (early, late)} == {State.INTERRUPTED}
    assert (rows[late.id].ended_at, rows[late.id].cost_micro, rows[late.id].estimated) == (clock.now(), 0, True)
    assert (rows[done.id].state, rows[done.id].cost_micro) == (State.SUCCEEDED, 99)
    assert _names(journal_root) == []
    assert flusher.interrupted == 2


async def test_the_directory_of_a_process_that_died_while_making_it_goes_after_a_minute(
    journal_root: Path, database: Database
) -> None:
    unborn = journal_root / "01M7YQSAF5NAFJ0B6KAC301EAY.new"
    unborn.mkdir(parents=True)
    clock = ManualClock(now=unborn.stat().st_mtime + 59)
    flusher = Flusher(journal_root, database, clock)
    await flusher.flush_all()
    assert _names(journal_root) == [unborn.name]
    clock.advance(2)
    await flusher.flush_all()
    assert _names(journal_root) == []


async def test_a_living_process_keeps_its_open_attempts(
    journal: FileJournal, journal_root: Path, database: Database, clock: ManualClock, make_attempt: Any, rows_of: Any
) -> None:
    attempt = make_attempt(journal)
    attempt.sending()
    for _ in range(3):
        await Flusher(journal_root, database, clock).flush_all()
    assert (await rows_of(database))[attempt.id].state == State.OPEN
    assert (journal_root / journal.owner / "lock").exists()


@given(order=st.permutations([State.OPEN, State.OPEN, State.INTERRUPTED, State.SUCCEEDED, State.SUCCEEDED]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
async def test_a_row_only_moves_forward_whatever_the_order(
    database: Database, journal: FileJournal, flusher: Flusher, make_attempt: Any, rows_of: Any, order: list[State]
) -> None:
    """The same attempt is written in every state, late and repeated; the vendor's word wins over ours."""
    _settled(make_attempt, journal)
    await flusher.flush_all()
    pattern = next(iter((await rows_of(database)).values()))._asdict()
    row = pattern | {"id": ulid()}
    for state in order:
        changed = row | {"state": state.value, "cost_micro": 5 if state is State.SUCCEEDED else 0}
        await database.write(partial(book, entries=[msgspec.convert(tuple(changed.values()), Entry)]))
    booked = (await rows_of(database))[row["id"]]
    assert (booked.state, booked.cost_micro) == (State.SUCCEEDED, 5)


@given(
    steps=st.lists(st.tuples(st.integers(0, 3), st.sampled_from(["step", "flush", "restart", "again"])), max_size=25)
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
async def test_any_interleaving_books_each_attempt_once_in_its_last_state(
    tmp_path_factory: pytest.TempPathFactory,
    database: Database,
    clock: ManualClock,
    make_attempt: Any,
    rows_of: Any,
    steps: list[tuple[int, str]],
) -> None:
    """Four attempts step from intent to outcome while flushers work, are replaced, and read old segments again."""
    root = tmp_path_factory.mktemp("journal")
    journal = FileJournal(root, clock)
    flusher = Flusher(root, database, clock)
    attempts = [make_attempt(journal) for _ in range(4)]
    for number, action in steps:
        attempt = attempts[number]
        if action == "step" and not attempt.journaled:
            attempt.sending()
        elif action == "step" and attempt.state is State.OPEN:
            attempt.state, attempt.cost_micro = State.SUCCEEDED, 7
            journal.settle(attempt)
        elif action == "flush":
            await flusher.flush_all()
        elif action == "restart":
            flusher = Flusher(root, database, clock)
        elif action == "again":
            await Flusher(root, database, clock).flush_all()
    journal.close()
    await flusher.flush_all()
    rows = await rows_of(database)
    for attempt in attempts:
        if not attempt.journaled:
            assert attempt.id not in rows
        elif attempt.state is State.OPEN:
            assert rows[attempt.id].state == State.INTERRUPTED
        else:
            assert (rows[attempt.id].state, rows[attempt.id].cost_micro) == (State.SUCCEEDED, 7)


async def test_200_processes_killed_at_random_lose_nothing_and_double_nothing(
    journal_root: Path, database: Database, flusher: Flusher, rows_of: Any
) -> None:
    command = [sys.executable, str(_PROGRAMS / "journal_writer.py"), str(journal_root), "200", "1"]
    told = json.loads((await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)).stdout)
    await flusher.flush_all()
    rows = await rows_of(database)  # fails on a double
    assert len(told["outcomes"]) > 200, "the processes did no work"
    assert set(told["intents"]) <= set(rows)
    assert {rows[name].state for name in told["outcomes"]} == {State.SUCCEEDED}
    assert {row.state for row in rows.values()} <= {State.SUCCEEDED, State.INTERRUPTED}
    assert flusher.damaged == 0
    assert not [name for name in _names(journal_root) if len(name) == 26]


async def test_flushers_killed_at_random_lose_nothing_and_double_nothing(
    journal: FileJournal, journal_root: Path, flusher: Flusher, database_url: str, database: Database,
    make_attempt: Any, rows_of: Any,
) -> None:  # fmt: skip
    ids = set()
    moments = random.Random(7)
    command = [sys.executable, str(_PROGRAMS / "flush_for_ever.py"), str(journal_root), database_url]
    for _ in range(6):
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        try:
            assert process.stdout is not None
            await process.stdout.readline()
            for _ in range(moments.randint(1, 20)):
                ids |= {_settled(make_attempt, journal).id for _ in range(100)}
                await asyncio.sleep(moments.uniform(0, 0.004))
        finally:
            process.send_signal(signal.SIGKILL)
            await process.wait()
    journal.close()
    await flusher.flush_all()
    rows = await rows_of(database)
    assert set(rows) == ids
    assert {row.state for row in rows.values()} == {State.SUCCEEDED}
    assert sum(row.cost_micro for row in rows.values()) == 99 * len(ids)


async def test_a_crash_between_commit_and_deletion_books_nothing_twice(
    journal_root: Path,
    database: Database,
    clock: ManualClock,
    make_attempt: Any,
    rows_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    journal = FileJournal(journal_root, clock)
    ids = {_settled(make_attempt, journal).id for _ in range(300)}
    journal.close()
    crashing = Flusher(journal_root, database, clock)
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "finish", _crash)
        with pytest.raises(OSError, match="crash"):
            await crashing.flush_all()
    crashing.close()  # as the kernel does at death
    before = await rows_of(database)
    assert set(before) == ids
    await Flusher(journal_root, database, clock).flush_all()
    assert await rows_of(database) == before
    assert _names(journal_root) == []


def _crash(*_: object) -> None:
    raise OSError("crash")


async def test_racing_flushers_share_the_work(
    journal_root: Path, database: Database, clock: ManualClock, make_attempt: Any, rows_of: Any
) -> None:
    ids = set()
    for _ in range(5):
        journal = FileJournal(journal_root, clock)
        ids |= {_settled(make_attempt, journal).id for _ in range(150)}
        journal.close()
    flushers = [Flusher(journal_root, database, clock) for _ in range(4)]
    await asyncio.gather(*(flusher.flush_all() for flusher in flushers))
    await flushers[0].flush_all()
    rows = await rows_of(database)
    assert set(rows) == ids
    assert {row.state for row in rows.values()} == {State.SUCCEEDED}
    assert _names(journal_root) == []


async def test_one_of_several_is_elected_and_another_takes_over(
    journal: FileJournal, journal_root: Path, database: Database, clock: ManualClock, make_attempt: Any, eventually: Any
) -> None:
    first, second = (Flusher(journal_root, database, clock, 0.005) for _ in range(2))
    running = asyncio.create_task(first.run())
    _settled(make_attempt, journal)
    await eventually(lambda: first.booked == 2)
    other = asyncio.create_task(second.run())
    _settled(make_attempt, journal)
    await eventually(lambda: first.booked == 4)
    assert second.booked == 0
    running.cancel()
    await eventually(lambda: second.booked > 0)
    other.cancel()
    await asyncio.gather(running, other, return_exceptions=True)


async def test_with_the_database_away_the_journal_keeps_everything(
    journal: FileJournal, journal_root: Path, switchable: Any, clock: ManualClock, make_attempt: Any,
    eventually: Any, rows_of: Any,
) -> None:  # fmt: skip
    switchable.away = True
    flusher = Flusher(journal_root, switchable, clock, 0.005)
    running = asyncio.create_task(flusher.run())
    ids = {_settled(make_attempt, journal).id for _ in range(500)}
    await eventually(lambda: flusher.failing)
    with pytest.raises(DatabaseUnavailable):
        await flusher.flush_all()
    switchable.away = False
    await eventually(lambda: not flusher.failing)
    assert set(await rows_of(switchable)) == ids
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_with_the_database_locked_by_another_program_flushing_waits_and_goes_on(
    journal: FileJournal, flusher: Flusher, database: Database, database_url: str, make_attempt: Any, rows_of: Any
) -> None:
    path = make_url(database_url).database
    if not database_url.startswith("sqlite") or path is None:
        pytest.skip("only SQLite has one lock for all writers")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        attempt = _settled(make_attempt, journal)
        flushing = asyncio.create_task(flusher.flush_all())
        done, _ = await asyncio.wait([flushing], timeout=0.3)
        assert not done
        other.execute("COMMIT")
    await flushing
    assert attempt.id in await rows_of(database)


async def test_a_damaged_record_is_reported_and_its_segment_kept_aside(
    journal_root: Path,
    flusher: Flusher,
    database: Database,
    clock: ManualClock,
    make_attempt: Any,
    rows_of: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    journal = FileJournal(journal_root, clock)
    attempts = [_settled(make_attempt, journal) for _ in range(3)]
    journal.close()
    segment = _only_segment(journal_root)
    data = bytearray(segment.read_bytes())
    hurt = data.index(attempts[1].id.encode())  # the intent; the outcome behind it is whole
    data[hurt] ^= 1
    segment.write_bytes(data)
    await flusher.flush_all()
    assert {row.state for row in (await rows_of(database)).values()} == {State.SUCCEEDED}
    assert set(await rows_of(database)) == {attempt.id for attempt in attempts}
    assert flusher.damaged == 1
    assert "are no record" in caplog.text
    assert _kept_aside(journal_root) == [data]


@pytest.mark.parametrize("size", [600_000, 262_144 + 10, 5])
async def test_a_hole_of_any_size_does_not_hide_what_follows(
    journal_root: Path, flusher: Flusher, database: Database, clock: ManualClock, make_attempt: Any, rows_of: Any,
    size: int,
) -> None:  # fmt: skip
    journal = FileJournal(journal_root, clock)
    first = _settled(make_attempt, journal)
    segment = _only_segment(journal_root)
    with segment.open("ab") as file:
        file.write(bytes(size))
    second = _settled(make_attempt, journal)
    journal.close()
    await flusher.flush_all()
    assert set(await rows_of(database)) == {first.id, second.id}
    assert flusher.damaged > 0


async def test_the_last_record_of_a_dead_process_may_be_torn_at_any_byte(
    journal_root: Path, database: Database, clock: ManualClock, make_attempt: Any, rows_of: Any
) -> None:
    journal = FileJournal(journal_root, clock)
    whole = _settled(make_attempt, journal)
    segment = _only_segment(journal_root)
    good = segment.read_bytes()
    torn = make_attempt(journal)
    torn.sending()
    data = segment.read_bytes()
    journal.close()
    for cut in range(len(good) + 1, len(data), 7):
        segment.parent.mkdir(exist_ok=True)
        segment.write_bytes(data[:cut])
        flusher = Flusher(journal_root, database, clock)
        await flusher.flush_all()
        assert set(await rows_of(database)) == {whole.id}
        assert (flusher.torn, flusher.damaged) == (1, 0)


async def test_a_half_written_record_of_a_living_process_is_waited_for(
    journal: FileJournal, journal_root: Path, flusher: Flusher, database: Database, make_attempt: Any, rows_of: Any
) -> None:
    attempt = _settled(make_attempt, journal)
    segment = _only_segment(journal_root)
    data = segment.read_bytes()
    segment.write_bytes(data[:-5])
    await flusher.flush_all()
    assert (await rows_of(database))[attempt.id].state == State.OPEN
    segment.write_bytes(data)
    await flusher.flush_all()
    assert (await rows_of(database))[attempt.id].state == State.SUCCEEDED
    assert flusher.damaged == 0


async def test_a_row_that_the_database_refuses_does_not_stop_the_others(
    journal_root: Path, flusher: Flusher, database: Database, clock: ManualClock, make_attempt: Any, rows_of: Any
) -> None:
    journal = FileJournal(journal_root, clock)
    good = [_settled(make_attempt, journal, model="a\0b"), _settled(make_attempt, journal)]
    _settled(make_attempt, journal, started_at=None)
    journal.close()
    segment = _only_segment(journal_root)
    data = segment.read_bytes()
    await flusher.flush_all()
    rows = await rows_of(database)
    assert {attempt.id for attempt in good} == set(rows)
    assert rows[good[0].id].model == "a\ufffdb"
    assert _kept_aside(journal_root) == [data]


@pytest.fixture
def many_rows(journal_root: Path, flusher: Flusher, clock: ManualClock, make_attempt: Any) -> Callable[..., Any]:
    async def make(count: int) -> None:
        journal = FileJournal(journal_root, clock)
        pick = random.Random(3)
        for _ in range(count):
            attempt = make_attempt(journal, started_at=float(pick.randint(1, 20)), model=pick.choice("ab"))
            attempt.call.request_id = pick.choice(["r1", "r2"])
            attempt.sending()
            attempt.state = pick.choice([State.SUCCEEDED, State.FAILED])
            journal.settle(attempt)
        journal.close()
        await flusher.flush_all()

    return make


async def test_pages_equal_the_sorted_list_for_any_filter_and_page_size(
    many_rows: Any, database: Database, rows_of: Any
) -> None:
    await many_rows(250)
    log = SqlAttempts(database)
    rows = list((await rows_of(database)).values())
    pick = random.Random(5)
    for _ in range(40):
        wanted = AttemptFilter(
            since=pick.choice([None, 5.0]),
            until=pick.choice([None, 15.0]),
            state=pick.choice([None, State.FAILED]),
            model=pick.choice([None, "a"]),
            request_id=pick.choice([None, "r1", "un\0known"]),
            key_id=pick.choice([None, "k1"]),
        )
        expected = sorted(
            (
                row
                for row in rows
                if (wanted.since is None or row.started_at >= wanted.since)
                and (wanted.until is None or row.started_at < wanted.until)
                and all(
                    getattr(wanted, name) in (None, getattr(row, name))
                    for name in ("state", "model", "request_id", "key_id")
                )
            ),
            key=lambda row: (row.started_at, row.id),
            reverse=True,
        )
        size, cursor, seen = pick.randint(1, 90), None, []
        while True:
            page = await log.page(wanted, cursor, size)
            assert len(page.items) == size or page.next_cursor is None
            seen += page.items
            cursor = page.next_cursor
            if cursor is None:
                break
        assert [item.id for item in seen] == [row.id for row in expected]


@given(cursor=st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: raw.hex()))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
async def test_foreign_cursors_are_refused(database: Database, cursor: str) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await SqlAttempts(database).page(AttemptFilter(), cursor, 10)
