"""What the database says of keys and of everybody above them: for one key, or all that has changed.

The newest version is read first. Rows read after it may be newer than it says, never older; so whoever holds a picture
of version v misses no change up to v, and hears of every later one by `changed`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, Table, func, or_, select

from xrouter.stores.sql.schema import accounts, api_keys, key_version, plans

_MOST_ROWS: Final = 1_000


@dataclass(frozen=True, slots=True)
class Picture:
    """Rows as they were at `version` or later. `complete` is false where more rows have changed than were read."""

    version: int
    keys: Sequence[Row[Any]] = ()
    accounts: Sequence[Row[Any]] = ()
    plans: Sequence[Row[Any]] = ()
    complete: bool = True


def newest_version(connection: Connection) -> int:
    version: int = connection.execute(select(func.max(key_version.c.version))).scalar_one()
    return version


def of_digest(connection: Connection, digest: bytes) -> Picture:
    """The key with this digest, now or before its last rotation, and everybody above it."""
    version = newest_version(connection)
    wanted = or_(api_keys.c.digest == digest, api_keys.c.former_digest == digest)
    rows = connection.execute(select(api_keys).where(wanted)).all()
    return Picture(version, rows, *_above(connection, rows, ()))


def of_key(connection: Connection, version: int, row: Row[Any]) -> Picture:
    """A key that change `version` has just written, and everybody above it."""
    return Picture(version, [row], *_above(connection, [row], ()))


def of_account(connection: Connection, version: int, row: Row[Any]) -> Picture:
    """An account that change `version` has just written, and its plan."""
    above, theirs = _above(connection, (), [row])
    return Picture(version, (), [row, *above], theirs)


def changed(connection: Connection, since: int) -> Picture:
    """Every change after version `since`, the oldest first where there are many, with all that stands above it: a key
    that a look-up brings into memory meanwhile must not miss it. A newest version below `since` says that this is
    another database than before."""
    version = newest_version(connection)
    if version <= since:
        return Picture(version)
    found = [connection.execute(_since(table, since, version)).all() for table in (api_keys, accounts, plans)]
    complete = all(len(rows) < _MOST_ROWS for rows in found)
    if not complete:
        version = min(rows[-1].version for rows in found if len(rows) == _MOST_ROWS)
    key_rows, account_rows, plan_rows = ([row for row in rows if row.version <= version] for rows in found)
    above, theirs = _above(connection, key_rows, account_rows)
    return Picture(version, key_rows, [*account_rows, *above], [*plan_rows, *theirs], complete)


def _since(table: Table, since: int, until: int) -> Select[Any]:
    version = table.c.version
    return select(table).where(version > since, version <= until).order_by(version).limit(_MOST_ROWS)


def _above(
    connection: Connection, keys: Iterable[Row[Any]], below: Iterable[Row[Any]]
) -> tuple[Sequence[Row[Any]], Sequence[Row[Any]]]:
    """The accounts above `keys`, and the plans of all: of the keys, of those accounts, and of `below`."""
    ids = {one for row in keys for one in (row.organisation_id, row.team_id, row.user_id) if one is not None}
    found = with_ids(connection, accounts, ids)
    plan_ids = {row.plan_id for row in (*keys, *found, *below) if row.plan_id is not None}
    return found, with_ids(connection, plans, plan_ids)


def with_ids(connection: Connection, table: Table, ids: set[str]) -> Sequence[Row[Any]]:
    """The rows that are there, read in slices: SQLite binds 32,766 values at most, asyncpg 32,767."""
    ordered = sorted(ids)
    return [
        row
        for start in range(0, len(ordered), _MOST_ROWS)
        for row in connection.execute(select(table).where(table.c.id.in_(ordered[start : start + _MOST_ROWS])))
    ]
