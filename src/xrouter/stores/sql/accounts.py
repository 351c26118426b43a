"""Organisations, teams and users in the database. What is changed here is in force on this process at once, and on
every other one by its poll: the memory of callers learns it (`stores/sql/keys.py`)."""

import hashlib
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Insert, Row, Update, delete, insert, literal, select, tuple_, update

from xrouter.core.accounts import ANYWHERE, Account, Kind, Place
from xrouter.core.clock import Clock
from xrouter.core.errors import Conflict, Forbidden, Invalid
from xrouter.core.ids import ulid
from xrouter.core.records import AccountSpec, KeyRecord, Page
from xrouter.stores.sql import account_rows, key_pictures
from xrouter.stores.sql.cursors import cursor_after, read_cursor
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.places import below, check_plan, next_version, settle
from xrouter.stores.sql.schema import accounts, api_keys

_KINDS: Final = {Kind.ORGANISATION: b"o", Kind.TEAM: b"t", Kind.USER: b"u"}
_BELOW: Final = {Kind.ORGANISATION: "teams or users", Kind.TEAM: "users", Kind.USER: "nobody"}
_A: Final = {Kind.ORGANISATION: "An organisation", Kind.TEAM: "A team", Kind.USER: "A user"}

Edit = Callable[[Account], AccountSpec]
Check = Callable[[Account, Sequence[KeyRecord]], None]


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

    async def named(self, ids: Collection[str]) -> dict[str, Account]:
        """Those of these accounts that are there, by id; of whatever kind and place."""
        if not ids:
            return {}
        rows = await self._database.read(lambda connection: key_pictures.with_ids(connection, accounts, set(ids)))
        return {row.id: account_rows.account(row) for row in rows if account_rows.is_known(row)}

    async def remove(
        self, kind: Kind, account_id: str, within: Place = ANYWHERE, check: Check | None = None
    ) -> Account | None:
        """Delete it, and the keys of it with their secrets; None when there is none. `check` gets it and these keys
        inside the transaction, and may refuse. Raises `Conflict` while another account stands below it, or, below a
        team or an organisation, a key that works."""
        removed = await self._database.write(partial(_remove, kind, account_id, within, check, self._clock.now()))
        if removed is None:
            return None
        row, picture = removed
        self._learn(picture)
        return account_rows.account(row)

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
        raise Invalid(f"{_A[kind]} belongs to an organisation: say which.", param="organisation_id")
    one = spec.account(kind, account_id, above, now)
    _check_above(one, within)
    _check_name(connection, one)
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
    after = spec.changed(before, now)
    if after.name != before.name:
        _check_name(connection, after)
    values = account_rows.account_values(after)
    change = update(accounts).where(accounts.c.id == account_id).values(version=version, **values)
    return _picture(connection, version, change)


def _remove(
    kind: Kind, account_id: str, within: Place, check: Check | None, now: float, connection: Connection
) -> tuple[Row[Any], key_pictures.Picture] | None:
    version = next_version(connection)  # nobody is put below it meanwhile
    row = _row_of(kind, account_id, within, connection)
    if row is None:
        return None
    account = account_rows.account(row)
    _check_above(account, within)
    field = f"{kind.value}_id"
    others = select(accounts.c.id).where(accounts.c[field] == account_id, accounts.c.id != account_id).limit(1)
    if connection.execute(others).first() is not None:
        raise Conflict(
            f"The {kind.value} '{row.name}' still has {_BELOW[kind]}: delete them first, or disable it instead.",
            code="still_in_use",
        )
    mine = select(api_keys).where(api_keys.c[field] == account_id, api_keys.c.deleted_at.is_(None))
    found = [account_rows.key_record(one) for one in connection.execute(mine)]
    if check is not None:
        check(account, found)
    working = [one for one in found if not one.disabled and (one.expires_at is None or one.expires_at > now)]
    if working and kind is not Kind.USER:
        raise Conflict(
            f"The {kind.value} '{row.name}' still has keys that work, such as '{working[0].name}' ({working[0].id}): "
            "disable them first, or disable it instead.",
            code="still_in_use",
        )
    connection.execute(delete(accounts).where(accounts.c.id == account_id))
    return row, key_pictures.Picture(version, [_delete_key(connection, version, one.id, now) for one in found])


def _delete_key(connection: Connection, version: int, key_id: str, now: float) -> Row[Any]:
    """The row stays, because the books refer to it; no text has a digest that is no HMAC."""
    return connection.execute(
        update(api_keys)
        .where(api_keys.c.id == key_id)
        .values(
            version=version, updated_at=now, deleted_at=now, disabled=True, plan_id=None,
            digest=hashlib.sha256(b"deleted " + key_id.encode()).digest(), former_digest=None, former_until=None,
        )
        .returning(api_keys)
    ).one()  # fmt: skip


def _check_name(connection: Connection, one: Account) -> None:
    """People find an account by its name: of those that stand at one place, each has another. Names elsewhere are no
    business of whoever asks."""
    query = select(accounts.c.id).where(accounts.c.kind == one.kind.value, accounts.c.name == one.name)
    query = query.where(accounts.c.id != one.id)
    if one.kind is not Kind.ORGANISATION:
        query = query.where(accounts.c.organisation_id == one.place.organisation_id)
    if one.kind is Kind.USER:
        query = query.where(accounts.c.team_id.is_not_distinct_from(one.place.team_id))
    if connection.execute(query.limit(1)).first() is not None:
        raise Conflict(
            f"Another {one.kind.value} is called '{one.name}' there already.", param="name", code="name_taken"
        )


def _check_above(one: Account, within: Place) -> None:
    if one.place == within or not one.place.is_within(within):
        who = "its own admin" if one.place == within else "an admin who stands elsewhere"
        raise Forbidden(f"{_A[one.kind]} is made and changed by whoever stands above it, not by {who}.")


def _picture(connection: Connection, version: int, change: Insert | Update) -> key_pictures.Picture:
    return key_pictures.of_account(connection, version, connection.execute(change.returning(accounts)).one())
