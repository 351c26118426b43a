"""SQLite to PostgreSQL: every row of every table, what the journal still holds, and all of it or nothing."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select
from tests.postgres_server import execute
from tests.stores.rows import made_up

from xrouter.core.call import State
from xrouter.core.clock import ManualClock
from xrouter.core.secret import Secret
from xrouter.stores.flusher import Flusher
from xrouter.stores.journal import FileJournal
from xrouter.stores.moving import move_installation
from xrouter.stores.sql import move as move_module
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.fingerprint import SqlFingerprint
from xrouter.stores.sql.move import CannotMove
from xrouter.stores.sql.schema import attempts, key_version, metadata

PEPPER = Secret("p" * 32)
_MANY = 30_000
_SOME = 1_200


def _quiet(table: str, rows: int) -> None:
    pass


@pytest.fixture
def source_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'old.db'}"


@pytest.fixture
async def source(source_url: str) -> AsyncIterator[Database]:
    database = open_database(source_url)
    await database.migrate()
    yield database
    await database.close()


@pytest.fixture
async def target(postgres_url: str) -> AsyncIterator[Database]:
    database = open_database(postgres_url)
    yield database
    await database.close()


@pytest.fixture
def run_move(source_url: str, target: Database, journal_root: Path) -> Callable[..., Any]:
    return lambda progress=_quiet: move_installation(journal_root, PEPPER, source_url, target, progress)


async def _fill(database: Database, count: int, but: frozenset[str] = frozenset()) -> None:
    """`count` rows in every table, and the key version that they would have brought it to."""

    def work(connection: Connection) -> None:
        for table in metadata.sorted_tables:
            if table is not key_version and table.name not in but:
                connection.execute(insert(table), [made_up(table, number) for number in range(count)])
        connection.execute(key_version.update().values(version=count))

    await database.write(work)


async def _everything(database: Database) -> dict[str, set[tuple[Any, ...]]]:
    def work(connection: Connection) -> dict[str, set[tuple[Any, ...]]]:
        return {
            table.name: {tuple(row) for row in connection.execute(select(table))} for table in metadata.tables.values()
        }

    return await database.read(work)


async def test_tens_of_thousands_of_rows_arrive_as_they_were(
    source: Database, target: Database, run_move: Callable[..., Any]
) -> None:
    await _fill(source, _SOME)
    more = [made_up(attempts, number) for number in range(_SOME, _MANY)]
    await source.write(lambda connection: connection.execute(insert(attempts), more).close())
    told: dict[str, int] = {}
    moved = await run_move(told.__setitem__)
    assert moved["attempts"] == _MANY
    assert told == moved
    there = await _everything(target)
    assert there == await _everything(source)
    assert there["key_version"] == {(1, _SOME)}


async def test_what_the_journal_holds_comes_along(
    source: Database,
    target: Database,
    run_move: Callable[..., Any],
    journal_root: Path,
    clock: ManualClock,
    make_attempt: Any,
) -> None:
    """One attempt is settled in the books, one stands open there and is settled in the journal, two are in the journal
    alone, one of them without an outcome."""
    journal = FileJournal(journal_root, clock)
    flusher = Flusher(journal_root, source, clock)
    booked, half, settled, left_open = (make_attempt(journal) for _ in range(4))
    for attempt in (booked, half):
        attempt.sending()
    booked.state, booked.cost_micro = State.SUCCEEDED, 11
    journal.settle(booked)
    await flusher.flush_all()
    flusher.close()
    for attempt in (settled, left_open):
        attempt.sending()
    for attempt, cost in ((half, 22), (settled, 33)):
        attempt.state, attempt.cost_micro = State.SUCCEEDED, cost
        journal.settle(attempt)
    journal.close()
    assert (await run_move())["attempts"] == 4
    rows = await target.read(lambda connection: connection.execute(select(attempts)).all())
    assert {row.id: (row.state, row.cost_micro) for row in rows} == {
        booked.id: ("succeeded", 11),
        half.id: ("succeeded", 22),
        settled.id: ("succeeded", 33),
        left_open.id: ("interrupted", 0),
    }
    assert _segments(journal_root) == []


def _segments(root: Path) -> list[Path]:
    return list(root.glob("*/*.log"))


async def test_a_target_with_empty_tables_will_do(
    source: Database, target: Database, run_move: Callable[..., Any]
) -> None:
    await _fill(source, 5)
    await target.migrate()
    await run_move()
    assert await _everything(target) == await _everything(source)


async def test_a_target_that_holds_something_is_refused(
    source: Database, target: Database, run_move: Callable[..., Any]
) -> None:
    await _fill(source, 5)
    await run_move()
    before = await _everything(target)
    with pytest.raises(CannotMove, match="not empty"):
        await run_move()
    assert await _everything(target) == before


async def test_a_gateway_that_runs_keeps_its_database(
    source: Database, target: Database, run_move: Callable[..., Any], journal_root: Path, clock: ManualClock
) -> None:
    running = Flusher(journal_root, source, clock)
    assert running.claim()
    with pytest.raises(CannotMove, match="stop it first"):
        await run_move()
    running.close()
    orphan = FileJournal(journal_root, clock)
    with pytest.raises(CannotMove, match="still writes"):
        await run_move()
    orphan.close()
    assert await target.revision() is None
    await run_move()


async def test_another_data_directory_than_the_files_own_is_refused(
    source: Database, source_url: str, target: Database, tmp_path: Path
) -> None:
    """Its journal is another one: what the file's own gateway has not booked yet would be left behind."""
    other = tmp_path / "other"
    with pytest.raises(CannotMove, match=f"XROUTER_DATA_DIR={tmp_path} xrouter migrate --from") as refused:
        await move_installation(other / "journal", PEPPER, source_url, target, _quiet)
    assert str(other) in str(refused.value)
    assert not other.exists()
    assert await target.revision() is None


@pytest.mark.parametrize(("pepper", "why"), [(Secret("q" * 32), "another pepper"), (None, "no pepper")])
async def test_another_pepper_is_said_before_anything_is_copied(
    source: Database, source_url: str, target: Database, journal_root: Path, pepper: Secret | None, why: str
) -> None:
    await SqlFingerprint(source, PEPPER).claim()
    with pytest.raises(CannotMove, match=why) as refused:
        await move_installation(journal_root, pepper, source_url, target, _quiet)
    assert "XROUTER_PEPPER" in str(refused.value)
    assert await target.revision() is None
    await move_installation(journal_root, PEPPER, source_url, target, _quiet)


async def test_nobody_writes_to_the_old_database_meanwhile(
    source: Database, run_move: Callable[..., Any], tmp_path: Path
) -> None:
    await _fill(source, 5)
    refused = []

    def interfere(table: str, rows: int) -> None:
        other = sqlite3.connect(tmp_path / "old.db", timeout=0)
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM attempts")
        other.close()
        refused.append(table)

    await run_move(interfere)
    assert len(refused) == len(metadata.tables)


async def test_a_row_that_arrives_changed_undoes_it_all(
    source: Database, target: Database, run_move: Callable[..., Any], postgres_url: str
) -> None:
    await _fill(source, 700)
    await target.migrate()
    execute(
        postgres_url,
        "CREATE FUNCTION spoil() RETURNS trigger AS $$ BEGIN"
        " IF NEW.number = 2147483648 THEN NEW.cost_micro = 7; END IF; RETURN NEW; END $$ LANGUAGE plpgsql",
        "CREATE TRIGGER spoil BEFORE INSERT ON attempts FOR EACH ROW EXECUTE FUNCTION spoil()",
    )
    with pytest.raises(CannotMove, match="did not arrive as they were"):
        await run_move()
    assert await _everything(target) == {table: set() for table in metadata.tables} | {"key_version": {(1, 0)}}


async def test_a_row_that_is_not_there_any_more_undoes_it_all(
    source: Database, target: Database, run_move: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a batch be left out, the count tells."""
    await _fill(source, 700)
    batches = move_module._batches
    monkeypatch.setattr(move_module, "_batches", lambda *given: list(batches(*given))[1:])
    with pytest.raises(CannotMove, match="of 700 rows 200"):
        await run_move()
    assert await target.revision() is None


_DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from xrouter.core.secret import Secret
from xrouter.stores.moving import move_installation
from xrouter.stores.sql.database import open_database

def progress(table, rows):
    if (table, rows) == ("attempts", 1000):
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(move_installation(Path(sys.argv[1]), Secret("p" * 32), sys.argv[2], open_database(sys.argv[3]), progress))
"""


async def test_killed_in_the_middle_it_leaves_nothing_and_can_be_run_again(
    source: Database,
    source_url: str,
    target: Database,
    postgres_url: str,
    run_move: Callable[..., Any],
    journal_root: Path,
) -> None:
    await _fill(source, 1_500)
    command = [sys.executable, "-c", _DIES, str(journal_root), source_url, postgres_url]
    run = await asyncio.to_thread(partial(subprocess.run, command, capture_output=True, timeout=60))
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert await target.revision() is None
    await run_move()
    assert await _everything(target) == await _everything(source)


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("postgresql://a@b/c", "SQLite"),
        ("sqlite://", "SQLite"),
        ("sqlite:////nothing/here.db", "no file"),
        ("?", "URL"),
    ],
)
async def test_what_cannot_be_the_old_database(target: Database, journal_root: Path, wrong: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        await move_installation(journal_root, PEPPER, wrong, target, _quiet)
