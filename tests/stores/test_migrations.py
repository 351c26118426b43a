"""Migrations: killed anywhere they leave nothing, keep every row, and contract only when the operator says so."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, event, insert, inspect, select
from tests.stores.rows import made_up

from xrouter.stores.sql import database as database_module
from xrouter.stores.sql import migrate, schema
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.schema import HEAD, attempts, metadata

_MIGRATIONS = Path(migrate.__file__).parent / "migrations"
_REVISIONS = [script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()][::-1]
_OLDER = _REVISIONS[:-1]
_PROGRAM = Path(__file__).parent / "programs" / "migrate_and_die.py"


def _to(revision: str) -> Any:
    """What brings a database to `revision`, not further."""

    def work(connection: Connection) -> None:
        config = migrate._config()
        config.attributes["connection"] = connection
        migrate.command.upgrade(config, revision)

    return work


async def _insert_rows(database: Database, count: int) -> None:
    """Into every table that the database has, as far as the columns go that it has."""

    def work(connection: Connection) -> None:
        inspected = inspect(connection)
        for table in metadata.sorted_tables:
            if inspected.has_table(table.name) and table.name != schema.key_version.name:
                there = {column["name"] for column in inspected.get_columns(table.name)}
                rows = [made_up(table, number) for number in range(count)]
                connection.execute(insert(table), [{name: row[name] for name in row if name in there} for row in rows])

    await database.write(work)


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


@pytest.mark.parametrize("start", ["empty", "base", *_OLDER])
async def test_killed_at_each_statement_it_leaves_nothing_and_the_next_one_does_it_all(
    database_url: str, start: str
) -> None:
    if start in _OLDER:
        database = open_database(database_url)
        await database.write(_to(start))
        await _insert_rows(database, 20)
        await database.close()
    command = [sys.executable, _PROGRAM, database_url, start]
    run = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > (4 if start == _OLDER[-1] else 10), (
        "the killed ones were killed in the middle of something"
    )
    database = open_database(database_url)
    assert await database.read(_differences) == []
    if start in _OLDER:
        rows = await database.read(lambda connection: connection.execute(select(attempts)).all())
        assert len(rows) == 20
    await database.close()


@pytest.mark.parametrize("revision", _REVISIONS)
async def test_rows_of_every_revision_survive_the_way_up_down_and_up(database_url: str, revision: str) -> None:
    database = open_database(database_url)
    await database.write(_to(revision))
    await _insert_rows(database, 10)
    first = select(*(attempts.c[name] for name in ("id", "started_at", "cost_micro", "estimated", "error")))
    before = await database.read(lambda connection: connection.execute(first).all())
    assert len(before) == 10
    for _ in range(2):
        await database.migrate(contract=True)
        assert await database.revision() == HEAD
        assert await database.read(_differences) == []
        assert await database.read(lambda connection: connection.execute(first).all()) == before
        await database.write(lambda connection: migrate.downgrade(connection, revision))
        assert await database.revision() == revision
    await database.close()


_TAKES_AWAY = re.compile(r"\b(DROP|RENAME|TRUNCATE|DELETE|SET NOT NULL|ALTER COLUMN)\b", re.IGNORECASE)


@pytest.mark.parametrize("revision", _REVISIONS)
async def test_only_a_revision_that_says_so_takes_something_away(database_url: str, revision: str) -> None:
    """The release before must be able to go on with the tables that a start of this one leaves."""
    script = ScriptDirectory(str(_MIGRATIONS)).get_revision(revision)
    assert script is not None
    database = open_database(database_url)
    if isinstance(script.down_revision, str):
        await database.write(_to(script.down_revision))
    said: list[str] = []

    def listen(*given: Any) -> None:
        said.append(given[2])

    event.listen(Engine, "before_cursor_execute", listen)
    try:
        await database.write(_to(revision))
    finally:
        event.remove(Engine, "before_cursor_execute", listen)
    await database.close()
    assert any("CREATE" in statement or "ADD COLUMN" in statement for statement in said)
    if not migrate._contracts(script):
        assert [statement for statement in said if _TAKES_AWAY.search(statement)] == []


_LATER = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
contract = {contract}


def upgrade() -> None:
    op.{up}


def downgrade() -> None:
    pass
"""


@pytest.fixture
def next_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Adds revisions, each (name, contract, its operation), as the next release would."""
    copied = tmp_path / "migrations"
    shutil.copytree(_MIGRATIONS, copied, ignore=shutil.ignore_patterns("__pycache__"))
    config = migrate._config()
    config.set_main_option("script_location", str(copied))

    def add(*revisions: tuple[str, bool, str]) -> None:
        before = HEAD
        for name, contract, up in revisions:
            text = _LATER.format(revision=name, before=before, contract=contract, up=up)
            (copied / "versions" / f"v{name}.py").write_text(text)
            before = name
        for module in (migrate, database_module):
            monkeypatch.setattr(module, "HEAD", before)
        monkeypatch.setattr(migrate, "_config", lambda: config)

    return add


async def test_a_start_expands_and_leaves_what_contracts_to_the_operator(database: Database, next_release: Any) -> None:
    expand = ("9001", False, "add_column('attempts', sa.Column('extra', sa.Text))")
    contract = ("9002", True, "drop_index('attempts_client_request', 'attempts')")
    next_release(expand, contract)
    for _ in range(2):
        await database.migrate()
        assert await database.revision() == "9001"
    assert await database.waiting() == ("9001", [("9002", "")])
    await database.migrate(contract=True)
    assert await database.waiting() == ("9002", [])


async def test_what_expands_behind_a_contraction_brings_that_with_it(database: Database, next_release: Any) -> None:
    """It was the release before that contracted: its predecessor is not supported any more."""
    contract = ("9001", True, "drop_index('attempts_client_request', 'attempts')")
    expand = ("9002", False, "add_column('attempts', sa.Column('extra', sa.Text))")
    next_release(contract, expand)
    await database.migrate()
    assert await database.revision() == "9002"


async def test_the_release_before_goes_on_with_the_tables_of_the_next(
    database: Database, next_release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_release(("9001", False, "add_column('attempts', sa.Column('extra', sa.Text))"))
    await database.migrate()
    monkeypatch.undo()
    await database.migrate(contract=True)
    assert await database.revision() == "9001"
    assert await database.waiting() == ("9001", [])
    await _insert_rows(database, 3)


def test_the_command_says_what_waits_and_does_it(database_url: str, tmp_path: Path) -> None:
    def xrouter(*words: str) -> "subprocess.CompletedProcess[str]":
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XROUTER_")}  # noqa: TID251
        environment |= {"XROUTER_DATA_DIR": str(tmp_path / "data"), "XROUTER_DATABASE_URL": database_url}
        return subprocess.run(
            [sys.executable, "-m", "xrouter", "migrate", *words], env=environment, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip

    told = xrouter("--check")
    assert told.returncode == 1, told.stderr
    assert "revision none" in told.stdout
    assert [line.split()[1] for line in told.stdout.splitlines() if "waiting" in line] == _REVISIONS
    done = xrouter()
    assert (done.returncode, done.stdout) == (0, f"the tables have revision {HEAD}\n")
    assert xrouter("--check").returncode == 0
    assert xrouter("--check", "--from", "sqlite:///x.db").returncode == 2
