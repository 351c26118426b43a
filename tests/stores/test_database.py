"""Opening and migrating: once however many start at once, fast, and the same tables both ways."""

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, insert, inspect, select, text, update

from xrouter.core.accounts import Place
from xrouter.core.api_key import mint
from xrouter.core.call import Caller, Scope
from xrouter.core.clock import ManualClock
from xrouter.core.secret import Secret
from xrouter.stores.sql import migrate
from xrouter.stores.sql.database import Database, DatabaseUnavailable, open_database
from xrouter.stores.sql.keys import SqlKeys
from xrouter.stores.sql.schema import HEAD, alembic_version, api_keys, attempts, key_version, metadata

_START = """
import asyncio, sys
from xrouter.stores.sql.database import open_database
async def main():
    database = open_database(sys.argv[1])
    sys.stdin.read(1)
    await database.migrate()
    await database.close()
asyncio.run(main())
print("alembic" in sys.modules, "sqlalchemy.orm" in sys.modules)
"""


async def test_several_processes_that_start_at_once_migrate_once(database_url: str, start_together: Any) -> None:
    ended = await asyncio.to_thread(start_together, [sys.executable, "-c", _START, database_url], 4)
    assert ended == [("False False\n", 0)] * 4, "a start imports neither Alembic nor the ORM"
    database = open_database(database_url)
    assert await database.read(lambda connection: connection.execute(select(key_version)).all()) == [(1, 0)]
    assert await database.read(lambda connection: connection.execute(select(alembic_version)).all()) == [(HEAD,)]
    await database.close()


async def test_migrated_tables_equal_created_ones_up_down_and_up(database_url: str) -> None:
    database = open_database(database_url)
    for _ in range(2):
        await database.write(migrate.upgrade)
        assert await database.read(_differences) == []
        await database.migrate()
        assert await database.read(lambda connection: connection.execute(select(key_version)).all()) == [(1, 0)]
        await database.write(lambda connection: migrate.downgrade(connection, "base"))
        assert await database.read(lambda connection: inspect(connection).get_table_names()) == ["alembic_version"]
        await database.write(lambda connection: connection.execute(text("DROP TABLE alembic_version")))
    await database.migrate()
    assert await database.read(_differences) == []
    await database.close()


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadata))


def test_head_is_the_newest_revision() -> None:
    assert ScriptDirectory(str(Path(migrate.__file__).parent / "migrations")).get_heads() == [HEAD]


async def test_a_key_of_the_first_release_goes_on_working_and_so_does_that_release(
    database_url: str, clock: ManualClock
) -> None:
    """What it wrote is read after the upgrade, and what it writes beside a newer release is, too."""
    database = open_database(database_url)
    await database.migrate()
    await database.write(lambda connection: migrate.downgrade(connection, "0001"))
    keys = SqlKeys(database, Secret("p" * 40), clock, 1.0)

    async def first_release(name: str) -> str:
        key_id, text = mint()
        row = {"digest": keys._digest(text.reveal()), "name": name, "scopes": "models", "last4": "last",
               "created_at": 5.0, "created_by": "me", "disabled": False, "version": 1}  # fmt: skip
        await database.write(lambda connection: connection.execute(insert(api_keys).values(id=key_id, **row)))
        return text.reveal()

    before = await first_release("before")
    await database.migrate()
    beside = await first_release("beside")
    for made, name in ((before, "before"), (beside, "beside")):
        caller = await keys.look_up(made)
        assert caller is not None
        assert caller == Caller(caller.key_id, name, frozenset({Scope.MODELS}))
        record = await keys.get(caller.key_id)
        assert record is not None
        assert (record.updated_at, record.limits, record.place) == (5.0, (), Place())
    await database.close()


async def test_a_database_of_a_newer_release_is_left_alone(database: Database) -> None:
    await database.write(lambda connection: connection.execute(update(alembic_version).values(version_num="9999")))
    await database.migrate()
    assert await database.read(lambda connection: connection.execute(select(alembic_version)).all()) == [("9999",)]
    assert await database.read(lambda connection: connection.execute(select(api_keys)).all()) == []


async def test_an_sqlite_file_is_private_and_durable(tmp_path: Path) -> None:
    path = tmp_path / "new" / "xrouter.db"
    database = open_database(f"sqlite:///{path}")
    await database.migrate()

    def pragmas(connection: Connection) -> list[Any]:
        names = ("journal_mode", "synchronous", "busy_timeout")
        return [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]

    assert await database.read(pragmas) == ["wal", 2, 5000]
    assert {entry.stat().st_mode & 0o077 for entry in path.parent.iterdir()} == {0}
    await database.close()
    with pytest.raises(ValueError, match="file"):
        open_database("sqlite://")


async def test_work_that_fails_leaves_nothing_behind(database: Database) -> None:
    def half(connection: Connection) -> None:
        connection.execute(update(key_version).values(version=5))
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        await database.write(half)
    assert await database.read(lambda connection: connection.execute(select(key_version.c.version)).scalar()) == 0


async def test_a_caller_that_leaves_does_not_tear_its_transaction(database: Database, eventually: Any) -> None:
    seen: set[int] = set()

    def work(connection: Connection) -> None:
        for version in range(1, 30):
            connection.execute(update(key_version).values(version=version))

    for steps in range(0, 60, 7):
        writing = asyncio.create_task(database.write(work))
        for _ in range(steps):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)

    async def all_done() -> bool:
        seen.add(await database.read(lambda connection: connection.execute(select(key_version.c.version)).scalar_one()))
        return 29 in seen

    await eventually(all_done)
    assert seen <= {0, 29}


async def test_missing_tables_count_as_an_unavailable_database(database_url: str) -> None:
    database = open_database(database_url)
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.read(lambda connection: connection.execute(select(attempts)).all())
    assert "SELECT" not in str(caught.value)
    await database.close()
