"""Writes the books: what the flusher brings goes into table `attempts`, each attempt once.

A row only moves forward: open -> interrupted -> succeeded, failed or cancelled. So a batch may be written any
number of times, in any order with others, and by several writers.
"""

from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from importlib import import_module
from itertools import chain
from operator import itemgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Dialect, literal_column, not_, or_, update

from xrouter.core.call import State
from xrouter.stores.sql.schema import attempts

# An attempt's state and what it brings with it; who called whom does not change after the intent.
_OUTCOME: Final = (
    "state", "phase", "first_content_at", "ended_at", "upstream_status", "upstream_request_id", "input_tokens",
    "output_tokens", "cached_tokens", "reasoning_tokens", "estimated", "cost_micro", "unpriced", "finish_reason",
    "error",
)  # fmt: skip


def _is_unsettled(state: ColumnElement[str]) -> ColumnElement[bool]:
    """Spelled with literals and OR: an `IN` list cannot be bound once for many rows."""
    return or_(state == literal_column(f"'{State.OPEN}'"), state == literal_column(f"'{State.INTERRUPTED}'"))


@cache
def _upsert(dialect: str) -> Any:
    """Each dialect has its own `insert`; only the one in use is imported (PostgreSQL's takes 70 ms)."""
    insert = import_module(f"sqlalchemy.dialects.{dialect}").insert(attempts)
    return insert.on_conflict_do_update(
        index_elements=[attempts.c.id],
        set_={name: insert.excluded[name] for name in _OUTCOME},
        where=_is_unsettled(attempts.c.state) & not_(_is_unsettled(insert.excluded.state)),
    )


@lru_cache(maxsize=4)
def _statement(dialect: Dialect) -> tuple[str, Callable[[dict[str, Any]], tuple[Any, ...]]]:
    """The text of `_upsert`, and what takes its parameters in their order out of a row."""
    compiled = _upsert(dialect.name).compile(dialect=dialect)
    return str(compiled), itemgetter(*compiled.positiontup)


def book(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    """Insert or complete attempts. Each row names every column of the table.

    Goes to the driver as it is: every value has its column's own type, and SQLAlchemy's handling of 29 parameters
    for each row would take more of the event loop's time than all else that the flusher does.
    """
    statement, parameters = _statement(connection.dialect)
    values = list(map(parameters, rows))
    if connection.dialect.name == "sqlite":
        _book_sqlite(connection, statement, values)
    else:
        connection.exec_driver_sql(statement, values)


_AT_ONCE: Final = (64, 16, 4, 1)


def _book_sqlite(connection: Connection, statement: str, rows: list[tuple[Any, ...]]) -> None:
    """Many rows in one statement. Python's sqlite3 lets the interpreter lock go for each statement that it runs
    and gets it back from a busy event loop 5 ms later: row by row that is 200 rows a second, and the journal
    would grow as long as the load lasts."""
    before, _, rest = statement.partition(" VALUES ")
    row, _, after = rest.partition(")")
    at = 0
    for size in _AT_ONCE:
        text = f"{before} VALUES {', '.join([f'{row})'] * size)}{after}"
        while len(rows) - at >= size:
            connection.exec_driver_sql(text, tuple(chain.from_iterable(rows[at : at + size])))
            at += size


def interrupt(connection: Connection, owner: str, now: float) -> int:
    """End what a dead process left open. Returns how many attempts that were.

    Nobody knows how far the upstream came: what the intent said stays, the estimated prompt and its cost.
    """
    return connection.execute(
        update(attempts)
        .where(attempts.c.state == State.OPEN.value, attempts.c.owner == owner)
        .values(state=State.INTERRUPTED.value, ended_at=now, estimated=True, error="interrupted")
    ).rowcount
