"""Reads the decisions of calls out of the books, and keeps the configurations that they were made by."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, insert, literal, select, tuple_
from sqlalchemy.exc import IntegrityError

from xrouter.stores.sql.database import Database
from xrouter.stores.sql.schema import attempts, configurations

_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Decided:
    """One call's decision, packed (`core/decision.py`), and when its first attempt started."""

    call_id: str
    started_at: float
    decision: bytes


class SqlDecisions:
    """Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def all(self, since: float = 0.0, until: float | None = None) -> AsyncIterator[Decided]:
        """The decisions of attempts that started in that time, the oldest first."""
        after = (since, "")
        columns = (attempts.c.call_id, attempts.c.started_at, attempts.c.decision, attempts.c.id)
        while True:
            place = tuple_(attempts.c.started_at, attempts.c.id) > tuple_(literal(after[0]), literal(after[1]))
            query = select(*columns).where(place, attempts.c.decision.is_not(None))
            if until is not None:
                query = query.where(attempts.c.started_at < until)
            query = query.order_by(attempts.c.started_at, attempts.c.id).limit(_BATCH)
            rows = await self._database.read(partial(_fetch, query))
            for row in rows:
                yield Decided(row.call_id, row.started_at, row.decision)
            if len(rows) < _BATCH:
                return
            after = (rows[-1].started_at, rows[-1].id)

    async def keep(self, revision: str, picture: str, now: float) -> None:
        """This configuration is served. Kept once, whoever says it."""

        def work(connection: Connection) -> None:
            known = select(configurations.c.revision).where(configurations.c.revision == revision)
            if connection.execute(known).one_or_none() is None:
                row = {"revision": revision, "picture": picture, "first_served_at": now}
                connection.execute(insert(configurations), row)

        with suppress(IntegrityError):  # another process was quicker
            await self._database.write(work)

    async def picture(self, revision: str) -> str | None:
        """The configuration of that name, as JSON; None where nobody kept it."""
        query = select(configurations.c.picture).where(configurations.c.revision == revision)
        return await self._database.read(lambda connection: connection.execute(query).scalar_one_or_none())


def _fetch(query: Select[Any], connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(query).all()
