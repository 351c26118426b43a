"""Migrates the database argv[1] in forked processes, each killed by SIGKILL one statement later than the one before,
until one lives to its end. Prints how many were killed, and complains when one of them left a trace.

argv[2] is where the database stands: `empty` (the tables of HEAD are made at once), `base` (no tables, every revision
runs), or a revision.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, event, inspect, select

from xrouter.stores.sql import migrate
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.schema import HEAD

url, start = sys.argv[1], sys.argv[2]


async def on_database(work: Callable[[Database], Any]) -> Any:
    database = open_database(url)
    try:
        return await work(database)
    finally:
        await database.close()


async def go(database: Database) -> None:
    if start == "empty":
        await database.migrate()
    else:
        await database.write_unhurried(migrate.upgrade)


def picture(connection: Connection) -> Any:
    """Every table, its columns and indexes, and the revision."""
    found = inspect(connection)
    tables = sorted(found.get_table_names())
    columns = {table: sorted(column["name"] for column in found.get_columns(table)) for table in tables}
    indexes = {table: sorted(str(index["name"]) for index in found.get_indexes(table)) for table in tables}
    rows = connection.execute(select(migrate.alembic_version)).all() if "alembic_version" in tables else []
    return columns, indexes, [tuple(row) for row in rows]


def migrate_until(kill_at: int) -> None:
    done = 0

    def count(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("before_cursor_execute", "commit"):
        event.listen(Engine, moment, count)
    asyncio.run(on_database(go))


before = asyncio.run(on_database(lambda database: database.read(picture)))
killed = 0
while True:
    child = os.fork()
    if child == 0:
        migrate_until(killed + 1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if not os.WIFSIGNALED(status):
        assert status == 0, status
        break
    killed += 1
    now = asyncio.run(on_database(lambda database: database.read(picture)))
    assert now == before, f"killed at {killed}, it left {now}"
assert asyncio.run(on_database(Database.revision)) == HEAD
sys.stdout.write(str(killed))
