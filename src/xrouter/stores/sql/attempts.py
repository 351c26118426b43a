"""Reads the books: the attempts of a call, and pages of attempts from new to old."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, Select, and_, case, func, literal, not_, or_, select, tuple_

from xrouter.core.accounts import ANYWHERE
from xrouter.core.call import State
from xrouter.core.records import AttemptFilter, AttemptRecord, Page
from xrouter.stores.sql.cursors import cursor_after, read_cursor
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.places import below
from xrouter.stores.sql.schema import api_keys, attempts

_GOOD_SHARE: Final = 0.8
_OURS_TO_MEND: Final = (401, 402, 403, 408)
"""A credential that is refused or an account that is empty makes a deployment useless, as much as a 500 does."""

_KIND: Final = b"a"
_EQUAL: Final = ("call_id", "request_id", "client_request_id", "key_id", "state", "model", "deployment", "end_user")


class SqlAttempts:
    """The port `AttemptLog` over table `attempts`. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of_call(self, call_id: str) -> tuple[AttemptRecord, ...]:
        """The attempts of one call in their order; empty when unknown."""
        query = select(attempts).where(attempts.c.call_id == call_id).order_by(attempts.c.number, attempts.c.id)
        return await self._fetch(query)

    async def page(self, wanted: AttemptFilter, cursor: str | None, limit: int) -> Page[AttemptRecord]:
        """Newest first by (`started_at`, `id`). Raises ValueError for a cursor that we did not make."""
        query = _matching(wanted).order_by(attempts.c.started_at.desc(), attempts.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            at, row_id = read_cursor(_KIND, cursor)
            query = query.where(tuple_(attempts.c.started_at, attempts.c.id) < tuple_(literal(at), literal(row_id)))
        found = await self._fetch(query)
        items = found[:limit]
        more = len(found) > limit
        return Page(items, cursor_after(_KIND, items[-1].started_at, items[-1].id) if more else None)

    async def spent_micro(self, key_id: str, since: tuple[float, ...]) -> tuple[int, ...]:
        """What the attempts of a key cost that started at or after each point of `since`, in micro-roubles, without
        what the operator pays. One pass over the key's rows, which an index leads to."""
        cost, started = attempts.c.cost_micro, attempts.c.started_at
        sums = [
            func.coalesce(func.sum(case((and_(started >= point, not_(attempts.c.on_operator)), cost), else_=0)), 0)
            for point in since
        ]
        query = select(*sums).where(attempts.c.key_id == key_id, started >= min(since))

        def work(connection: Connection) -> tuple[int, ...]:
            return tuple(int(found) for found in connection.execute(query).one())

        return await self._database.read(work)

    async def operator_spent_micro(self, key_id: str, since: float, but: Collection[str] = ()) -> int:
        """What the operator pays of the attempts under this key that started at or after `since`, those of the calls
        `but` left out."""
        query = select(func.coalesce(func.sum(attempts.c.cost_micro), 0)).where(
            attempts.c.key_id == key_id, attempts.c.started_at >= since, attempts.c.on_operator
        )
        if but:
            query = query.where(attempts.c.call_id.not_in(but))

        def work(connection: Connection) -> int:
            return int(connection.execute(query).scalar_one())

        return await self._database.read(work)

    async def spent_by_each(
        self, key_ids: Sequence[str], since: tuple[float, ...]
    ) -> dict[str, tuple[tuple[int, ...], float]]:
        """The same for several keys in one pass, and when each was last used; keys without an attempt are left out."""
        cost, started = attempts.c.cost_micro, attempts.c.started_at
        sums = [
            func.coalesce(func.sum(case((and_(started >= point, not_(attempts.c.on_operator)), cost), else_=0)), 0)
            for point in since
        ]
        query = select(attempts.c.key_id, func.max(started), *sums).where(attempts.c.key_id.in_(key_ids))
        query = query.group_by(attempts.c.key_id)

        def work(connection: Connection) -> dict[str, tuple[tuple[int, ...], float]]:
            found = connection.execute(query)
            return {key_id: (tuple(int(one) for one in rest), last) for key_id, last, *rest in found}

        return await self._database.read(work)

    async def uptimes(self, since: Sequence[float]) -> dict[str, tuple[float | None, ...]]:
        """The port `Uptimes`. One pass over the attempts of that time, which an index leads to."""
        status, state, started = attempts.c.upstream_status, attempts.c.state, attempts.c.started_at
        succeeded = state == State.SUCCEEDED.value
        to_blame = (state == State.FAILED.value) & or_(status.is_(None), status >= 500, status.in_(_OURS_TO_MEND))
        minute = func.round(started / 60.0 - 0.5).label("minute")  # SQLite has no floor() everywhere
        query = (
            select(attempts.c.deployment, minute, func.count(), func.sum(case((succeeded, 1), else_=0)))
            .where(started >= min(since), succeeded | to_blame)
            .group_by(attempts.c.deployment, minute)
        )

        def work(connection: Connection) -> dict[str, tuple[float | None, ...]]:
            found: dict[str, list[tuple[float, bool]]] = {}
            for deployment, at, count, good in connection.execute(query):
                found.setdefault(deployment, []).append((float(at) * 60.0, good >= _GOOD_SHARE * count))
            return {name: tuple(_share(minutes, point) for point in since) for name, minutes in found.items()}

        return await self._database.read(work)

    async def _fetch(self, query: Select[Any]) -> tuple[AttemptRecord, ...]:
        def work(connection: Connection) -> tuple[AttemptRecord, ...]:
            return tuple(_record(row) for row in connection.execute(query))

        return await self._database.read(work)


def _share(minutes: list[tuple[float, bool]], since: float) -> float | None:
    known = [good for at, good in minutes if at + 60.0 > since]
    return round(100.0 * sum(known) / len(known), 2) if known else None


def _matching(wanted: AttemptFilter) -> Select[Any]:
    query = select(attempts)
    for name in _EQUAL:
        value = getattr(wanted, name)
        if value is not None:
            # no stored text holds a NUL, and PostgreSQL will not even compare with one
            query = query.where(attempts.c[name] == str(value).replace("\0", "\ufffd"))
    place = wanted.within
    if place != ANYWHERE:
        query = query.where(attempts.c.key_id.in_(below(select(api_keys.c.id), api_keys, place)))
    if wanted.since is not None:
        query = query.where(attempts.c.started_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(attempts.c.started_at < wanted.until)
    return query


def _record(row: Row[Any]) -> AttemptRecord:
    fields = row._asdict()
    fields["state"] = State(fields["state"])
    return AttemptRecord(**fields)
