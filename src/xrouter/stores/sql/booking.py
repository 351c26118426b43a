"""Writes the books: what the flusher brings goes into table `attempts`, each attempt once.

A row only moves forward: open -> interrupted -> succeeded, failed or cancelled. So a batch may be written any
number of times, in any order with others, and by several writers.
"""

import sqlite3
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib import import_module
from itertools import chain
from operator import itemgetter
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Dialect, literal_column, not_, or_, update

from xrouter.core.call import State
from xrouter.stores.frames import LARGEST_INT, Entry, fitting_int
from xrouter.stores.sql.schema import attempts

# An attempt's state and what it brings with it; who called whom does not change after the intent.
_OUTCOME: Final = (
    "state", "phase", "first_content_at", "ended_at", "upstream_status", "upstream_request_id", "input_tokens",
    "output_tokens", "cached_tokens", "reasoning_tokens", "estimated", "cost_micro", "unpriced", "finish_reason",
    "error", "on_operator",
)  # fmt: skip


def _is_unsettled(state: ColumnElement[str]) -> ColumnElement[bool]:
    """Spelled with literals and OR: an `IN` list cannot be bound once for many rows."""
    return or_(state == literal_column(f"'{State.OPEN}'"), state == literal_column(f"'{State.INTERRUPTED}'"))


# Few texts, so that SQLite has them prepared. Up to 999 parameters were the limit of releases before 3.32 of 2020.
_ROWS_AT_ONCE: Final = (256, 64, 16, 4, 1) if sqlite3.sqlite_version_info >= (3, 32) else (16, 4, 1)


@cache
def _upsert(dialect: str) -> Any:
    """Each dialect has its own `insert`; only the one in use is imported (PostgreSQL's takes 70 ms)."""
    insert = import_module(f"sqlalchemy.dialects.{dialect}").insert(attempts)
    return insert.on_conflict_do_update(
        index_elements=[attempts.c.id],
        set_={name: insert.excluded[name] for name in _OUTCOME},
        where=_is_unsettled(attempts.c.state) & not_(_is_unsettled(insert.excluded.state)),
    )


@lru_cache(maxsize=16)
def _statement(dialect: Dialect, count: int) -> tuple[str, Callable[[tuple[Any, ...]], tuple[Any, ...]]]:
    """The text of `_upsert` for the driver with room for so many rows, and what puts the fields of an entry into the
    order of its parameters."""
    compiled = _upsert(dialect.name).compile(dialect=dialect)
    places = [Entry.__struct_fields__.index(name) for name in compiled.positiontup or []]
    statement = str(compiled)
    if count > 1:
        row = "(" + ", ".join("?" * len(places)) + ")"
        before, _, after = statement.partition(row)
        # Glued from question marks alone, a stated exception: docs/decisions/0007-sql.md.
        statement = f"{before}{', '.join([row] * count)}{after}"  # nosec B608
    return statement, itemgetter(*places)


def book(connection: Connection, entries: Sequence[Entry]) -> None:
    """Insert or complete attempts.

    Goes to the driver as it is: every value has its column's own type, and SQLAlchemy's handling of 30 parameters
    for each row would take more of the event loop's time than all else that the flusher does.

    SQLite gets many rows in one statement. Python's sqlite3 lets the interpreter lock go for each statement and may
    get it back from a busy event loop only 5 ms later: row by row that can be 200 rows a second.
    """
    # As JSON for this look alone: the quickest way through all texts of all rows.
    if b"\\u0000" in msgspec.json.encode(entries) or any(map(_is_too_large, entries)):
        entries = [_fitting(entry) for entry in entries]
    dialect = connection.dialect
    if dialect.name != "sqlite":
        statement, in_order = _statement(dialect, 1)
        connection.exec_driver_sql(statement, [in_order(msgspec.structs.astuple(entry)) for entry in entries])
        return
    at = 0
    for count in _ROWS_AT_ONCE:
        statement, in_order = _statement(dialect, count)
        while len(entries) - at >= count:
            rows = [in_order(msgspec.structs.astuple(entry)) for entry in entries[at : at + count]]
            connection.exec_driver_sql(statement, tuple(chain.from_iterable(rows)))
            at += count


def _is_too_large(entry: Entry) -> bool:
    """Both databases end at 64 bits; a vendor's count need not."""
    counts = entry.input_tokens, entry.output_tokens, entry.cached_tokens, entry.reasoning_tokens, entry.cost_micro
    return max(counts) > LARGEST_INT or max(entry.number, entry.upstream_status or 0) > LARGEST_INT


def _fitting(entry: Entry) -> Entry:
    """The entry as a database can hold it; PostgreSQL has no NUL in text either."""
    changed: dict[str, Any] = {}
    for name in entry.__struct_fields__:
        value = getattr(entry, name)
        if type(value) is str and "\0" in value:
            changed[name] = value.replace("\0", "\ufffd")
        elif type(value) is int:
            changed[name] = fitting_int(value)
    return msgspec.structs.replace(entry, **changed)


def interrupt(connection: Connection, owner: str, now: float) -> int:
    """End what a dead process left open. Returns how many attempts that were.

    Nobody knows how far the upstream came: what the intent said stays, the estimated prompt and its cost.
    """
    return connection.execute(
        update(attempts)
        .where(attempts.c.state == State.OPEN.value, attempts.c.owner == owner)
        .values(state=State.INTERRUPTED.value, ended_at=now, estimated=True, error="interrupted")
    ).rowcount
