"""Organisations, teams and users in the database. What is changed here is in force on this process at once, and on
every other one by its poll: the memory of callers learns it (`stores/sql/keys.py`)."""

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Insert, Row, Update, delete, insert, literal, select, tuple_, update

from xrouter.core.accounts import ANYWHERE, Account, Kind, Place
from xrouter.core.clock import Clock
from xrouter.core.errors import Conflict, Forbidden, Invalid
from xrouter.core.ids import ulid
from xrouter.core.records import AccountSpec, Page
from xrouter.stores.sql import account_rows, key_pictures
from xrouter.stores.sql.cursors import cursor_after, read_cursor
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.places import below, check_plan, next_version, settle
from xrouter.stores.sql.schema import accounts, api_keys

_KINDS: Final = {Kind.ORGANISATION: b"o", Kind.TEAM: b"t", Kind.USER: b"u"}
_BELOW: Final = {Kind.ORGANISATION: "teams, users or keys", Kind.TEAM: "users or keys", Kind.USER: "keys"}

Edit = Callable[[Account], AccountSpec]


class SqlAccounts:
    """The port `AccountAdmin` over table `accounts`. Raises `DatabaseUnavailable`.

    `within` is where whoever asks stands. What is not within it is not there; what stands there itself may be read,
    and is changed by those above.
    """

    def __init__(self, database: Database, clock: Clock, learn: Callable[[key_pictures.Picture], None]) -> None:
        self._database = database
        self._clock = clock
        self._learn = learn

    async def make(self, kind: Kind, spec: AccountSpec, above: Place, within: Place = ANYWHERE) -> Account:
        """A new one below `above`. Raises `Invalid` where a level is missing, `NotFound` for one that is not there,
        `Forbidden` for whoever does not stand above."""
        account_id = ulid()
        picture = await self._database.write(partial(_insert, kind, account_id, spec, above, within, self._clock.now()))
        return self._written(picture)

    async def get(self, kind: Kind, account_id: str, within: Place = ANYWHERE) -> Account | None:
        row = await self._database.read(partial(_row_of, kind, account_id, within))
        return None if row is None else account_rows.account(row)

    async def page(self, kind: Kind, cursor: str | None, limit: int, within: Place = ANYWHERE) -> Page[Account]:
        """Newest first. Raises ValueError for a cursor that we did not make."""
        query = below(select(accounts).where(accounts.c.kind == kind.value), accounts, within)
        query = query.order_by(accounts.c.created_at.desc(), accounts.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            at, row_id = read_cursor(_KINDS[kind], cursor)
            query = query.where(tuple_(accounts.c.created_at, accounts.c.id) < tuple_(literal(at), literal(row_id)))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        items = tuple(account_rows.account(row) for row in rows[:limit])
        more = len(rows) > limit
        return Page(items, cursor_after(_KINDS[kind], items[-1].created_at, items[-1].id) if more else None)

    async def change(self, kind: Kind, account_id: str, edit: Edit, within: Place = ANYWHERE) -> Account | None:
        """Make it what `edit` makes of it, inside the transaction; None when there is none. Its place stays."""
        picture = await self._database.write(partial(_change, kind, account_id, edit, within, self._clock.now()))
        return None if picture is None else self._written(picture)

    async def remove(self, kind: Kind, account_id: str, within: Place = ANYWHERE) -> Account | None:
        """Delete it; None when there is none. Raises `Conflict` while anybody stands below it."""
        row = await self._database.write(partial(_remove, kind, account_id, within))
        return None if row is None else account_rows.account(row)

    def _written(self, picture: key_pictures.Picture) -> Account:
        self._learn(picture)
        return account_rows.account(picture.accounts[0])


def _row_of(kind: Kind, account_id: str, within: Place, connection: Connection) -> Row[Any] | None:
    query = select(accounts).where(accounts.c.id == account_id, accounts.c.kind == kind.value)
    return connection.execute(below(query, accounts, within)).one_or_none()


def _insert(
    kind: Kind, account_id: str, spec: AccountSpec, above: Place, within: Place, now: float, connection: Connection
) -> key_pictures.Picture:
    version = next_version(connection)
    above = settle(connection, above, within)
    if kind is not Kind.ORGANISATION and above.organisation_id is None:
        raise Invalid(f"A {kind.value} belongs to an organisation: say which.", param="organisation_id")
    one = spec.account(kind, account_id, above, now)
    _check_above(one, within)
    check_plan(connection, spec.plan_id, None)
    return _picture(connection, version, insert(accounts).values(version=version, **account_rows.account_values(one)))


def _change(
    kind: Kind, account_id: str, edit: Edit, within: Place, now: float, connection: Connection
) -> key_pictures.Picture | None:
    version = next_version(connection)
    row = _row_of(kind, account_id, within, connection)
    if row is None:
        return None
    before = account_rows.account(row)
    _check_above(before, within)
    spec = edit(before)
    check_plan(connection, spec.plan_id, before.plan_id)
    values = account_rows.account_values(spec.changed(before, now))
    change = update(accounts).where(accounts.c.id == account_id).values(version=version, **values)
    return _picture(connection, version, change)


def _remove(kind: Kind, account_id: str, within: Place, connection: Connection) -> Row[Any] | None:
    next_version(connection)  # nobody is put below it meanwhile
    row = _row_of(kind, account_id, within, connection)
    if row is None:
        return None
    _check_above(account_rows.account(row), within)
    field = f"{kind.value}_id"
    used = connection.execute(select(api_keys.c.id).where(api_keys.c[field] == account_id).limit(1)).first()
    others = select(accounts.c.id).where(accounts.c[field] == account_id, accounts.c.id != account_id).limit(1)
    if used is not None or connection.execute(others).first() is not None:
        raise Conflict(
            f"The {kind.value} '{row.name}' still has {_BELOW[kind]}: disable it instead.",
            code="still_in_use",
        )
    connection.execute(delete(accounts).where(accounts.c.id == account_id))
    return row


def _check_above(one: Account, within: Place) -> None:
    if one.place == within or not one.place.is_within(within):
        raise Forbidden(f"A {one.kind.value} is made and changed by whoever stands above it, not by its own admin.")


def _picture(connection: Connection, version: int, change: Insert | Update) -> key_pictures.Picture:
    return key_pictures.of_account(connection, version, connection.execute(change.returning(accounts)).one())
