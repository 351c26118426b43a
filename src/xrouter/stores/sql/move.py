"""Moves everything that a database holds into another one: from SQLite to PostgreSQL when an installation grows.

All or nothing: the rows arrive in one transaction, which ends only when each of them, read back, equals the one it
came from. Killed or refused half-way it leaves the target as empty as it was.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, delete, func, insert, select, tuple_

from xrouter.stores.sql.database import Database, create_tables
from xrouter.stores.sql.schema import FIRST_ROWS, HEAD, alembic_version, fingerprints, metadata

_log = logging.getLogger(__name__)

_BATCH: Final = 500

Progress = Callable[[str, int], None]
"""Gets the name of a table and how many of its rows are over."""


class CannotMove(Exception):
    """The move cannot begin, or a row did not arrive as it was. Nothing has changed."""


async def move(source: Database, target: Database, progress: Progress = lambda table, rows: None) -> Mapping[str, int]:
    """Copy every row of `source` into the empty `target`; how many rows of each table that were.

    Nobody writes to `source` meanwhile; it stays as it is. Raises `CannotMove`, `DatabaseUnavailable`, and DataError or
    IntegrityError for a row that the target refuses.
    """
    for database, name in ((source, "source"), (target, "target")):
        revision = await database.revision()
        if revision not in (HEAD, None) or (revision is None and database is source):
            raise CannotMove(f"the {name} has tables of revision {revision}, not {HEAD}: `xrouter migrate` it first")
    return await target.write_from(source, lambda theirs, ours: _copy(theirs, ours, progress))


def _copy(source: Connection, target: Connection, progress: Progress) -> dict[str, int]:
    if target.dialect.has_table(target, alembic_version.name):
        _check_empty(target)
        for table, _ in FIRST_ROWS:
            target.execute(delete(table))
        target.execute(delete(fingerprints))  # it belongs to whoever the source belongs to
    else:
        create_tables(target)
        for table, _ in FIRST_ROWS:
            target.execute(delete(table))
    moved = {}
    for table in metadata.sorted_tables:
        moved[table.name] = 0
        for rows in _batches(source, table):
            target.execute(insert(table), [row._asdict() for row in rows])
            _compare(target, table, rows)
            moved[table.name] += len(rows)
            progress(table.name, moved[table.name])
        there = target.execute(select(func.count()).select_from(table)).scalar_one()
        here = source.execute(select(func.count()).select_from(table)).scalar_one()
        if not moved[table.name] == here == there:
            raise CannotMove(f"{table.name}: of {here} rows {moved[table.name]} were copied and {there} arrived")
    return moved


def _check_empty(target: Connection) -> None:
    first = {table.name: [tuple(row.values())] for table, row in FIRST_ROWS}
    for table in metadata.sorted_tables:
        if table is fingerprints:  # a start leaves one, and nothing else
            continue
        found = [tuple(row) for row in target.execute(select(table).limit(2))]
        if found != first.get(table.name, []):
            raise CannotMove(f"the target is not empty: its table {table.name} holds rows; take a new database")


def _batches(source: Connection, table: Table) -> Iterator[Sequence[Row[Any]]]:
    """All rows in the order of their primary key, a batch at a time."""
    key = table.primary_key.columns
    query = select(table).order_by(*key).limit(_BATCH)
    rows = source.execute(query).all()
    while rows:
        yield rows
        last = [getattr(rows[-1], column.name) for column in key]
        rows = source.execute(query.where(tuple_(*key) > tuple_(*last))).all()


def _compare(target: Connection, table: Table, sent: Sequence[Row[Any]]) -> None:
    """Row by row: counts and sums would not notice two texts that changed places."""
    key = table.primary_key.columns
    keys = [tuple(getattr(row, column.name) for column in key) for row in sent]
    query = select(table).where(tuple_(*key).in_(keys))
    arrived = {tuple(row) for row in target.execute(query)}
    if arrived != {tuple(row) for row in sent}:
        raise CannotMove(f"{table.name}: rows around {keys[0]} did not arrive as they were")
