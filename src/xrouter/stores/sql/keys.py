"""API keys in the database, with a memory in front that answers in microseconds.

The table knows a key by HMAC-SHA256(pepper, whole key) only; so does the memory. A poll every `refresh_s`
brings what other workers changed. A disabled key stays in memory as a disabled caller, so that using it costs
no look-up. With the database gone, callers in memory stay valid for 10 minutes after the last good poll.
"""

import asyncio
import hmac
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Insert, Row, Update, insert, literal, or_, select, tuple_, update

from xrouter.core.accounts import ANYWHERE, Place
from xrouter.core.api_key import check_new, is_mistyped, mint
from xrouter.core.call import Caller, Scope
from xrouter.core.clock import Clock
from xrouter.core.errors import Conflict, Invalid, Overloaded
from xrouter.core.records import KeyRecord, KeySpec, NewKey, Page
from xrouter.core.secret import Secret
from xrouter.stores.sql import account_rows, key_pictures
from xrouter.stores.sql.cursors import cursor_after, read_cursor
from xrouter.stores.sql.database import Database, DatabaseUnavailable
from xrouter.stores.sql.fingerprint import SqlFingerprint
from xrouter.stores.sql.key_memory import KeyMemory
from xrouter.stores.sql.places import below, next_version, settled
from xrouter.stores.sql.schema import api_keys

_log = logging.getLogger(__name__)

_KIND: Final = b"k"
_BOOTSTRAP: Final = "bootstrap"
_NO_FORMER: Final = {"former_digest": None, "former_until": None}
_MISSING_S: Final = 2.0
_STALE_S: Final = 600.0
_LONGEST_KEY: Final = 512
_MOST_LOOK_UPS: Final = 64
_LOOK_UPS_AT_ONCE: Final = 2
_LOOK_UP_S: Final = 2.0
_LONGEST_BACKOFF_S: Final = 2.0

T = TypeVar("T")

Edit = Callable[[KeyRecord], KeySpec]
Check = Callable[[KeyRecord], None]


def _nobody_listens() -> None: ...


def _anything(record: KeyRecord) -> None: ...


class SqlKeys:
    """The ports `KeyStore` and `KeyAdmin` over table `api_keys`. `run()` keeps the memory fresh.

    The methods of `KeyAdmin` raise `DatabaseUnavailable`.
    """

    def __init__(self, database: Database, pepper: Secret, clock: Clock, refresh_s: float) -> None:
        self._database = database
        # Keyed once and copied for each digest: OpenSSL 3 looks its HMAC up anew each time otherwise.
        self._keyed = hmac.new(pepper.reveal().encode(), digestmod="sha256")
        self._fingerprint = SqlFingerprint(database, pepper)
        self._ours = False  # is it known that the database was made with our pepper?
        self._clock = clock
        self._refresh_s = refresh_s
        self._memory = KeyMemory()
        self._version: int | None = None  # of the last change that the poll has seen: memory misses none up to it
        self._newest = 0  # of all changes that memory has learned
        self._fresh_until = clock.monotonic() + _STALE_S
        self._hurried = asyncio.Event()
        # Called after each change that this process has made, and must neither wait nor raise: what tells the other
        # processes (`core.accounts.TOPIC_ACCOUNTS`), which then `hurry`. Without it they learn by their poll.
        self.announce: Callable[[], None] = _nobody_listens
        self._look_ups: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._turns = asyncio.Semaphore(_LOOK_UPS_AT_ONCE)

    # ── KeyStore ─────────────────────────────────────────────────────────────────────────────────────────

    def known(self, credential: str) -> Caller | None:
        """The caller from memory; None when memory does not hold it, or has not been fresh for 10 minutes."""
        if len(credential) > _LONGEST_KEY or self._clock.monotonic() > self._fresh_until:
            return None
        return self._memory.caller(self._digest(credential))

    @property
    def current(self) -> bool:
        """False before the first good poll, and when the last one is 10 minutes old: then nobody is known."""
        return self._version is not None and self._clock.monotonic() <= self._fresh_until

    async def look_up(self, credential: str) -> Caller | None:
        """The caller from the database, which is asked once however many wait for the same key.

        Mistyped keys and those not found within the last 2 s are refused without asking. Raises
        `DatabaseUnavailable` when the database does not answer within 2 s, `Overloaded` when 64 other keys are being
        looked up.
        """
        if not credential or len(credential) > _LONGEST_KEY or is_mistyped(credential):
            return None
        digest = self._digest(credential)
        if self._memory.is_missing(digest, self._clock.monotonic()):
            return None
        task = self._look_ups.get(digest)
        if task is None:
            if len(self._look_ups) >= _MOST_LOOK_UPS:
                raise Overloaded("Too many new API keys at once; try again.", retry_after_s=1.0)
            task = self._look_ups[digest] = asyncio.create_task(self._find(digest))
            task.add_done_callback(partial(self._looked_up, digest))
        try:
            async with asyncio.timeout(_LOOK_UP_S):
                return await asyncio.shield(task)
        except (DatabaseUnavailable, TimeoutError) as error:
            raise DatabaseUnavailable(
                "API keys cannot be checked: the database does not answer at the moment. Try again.", retry_after_s=1.0
            ) from error

    async def run(self) -> None:
        """Poll for changes each `refresh_s`, and when hurried, until cancelled; with pauses up to 2 s while the
        database is away."""
        pause_s, failing = self._refresh_s, False
        while True:
            try:
                self._hurried.clear()
                await self.refresh()
                if failing:
                    _log.info("API keys are fresh again")
                pause_s, failing = self._refresh_s, False
            except DatabaseUnavailable as error:
                if not failing:
                    _log.error("changed API keys cannot be read; known keys work for 10 minutes: %s", error)
                pause_s, failing = min(pause_s * 2, max(_LONGEST_BACKOFF_S, self._refresh_s)), True
            except Exception:  # noqa: BLE001 - a poll that ends would let revoked keys live on
                if not failing:
                    _log.exception("changed API keys cannot be taken over; known keys work for 10 minutes")
                pause_s, failing = min(pause_s * 2, max(_LONGEST_BACKOFF_S, self._refresh_s)), True
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_s):
                    await self._hurried.wait()

    def hurry(self) -> None:
        """Somebody has changed something: poll now."""
        self._hurried.set()

    async def refresh(self) -> None:
        """One poll: learn every change since the last. Raises `DatabaseUnavailable`."""
        while True:
            asked_at = self._clock.monotonic()
            since = self._version
            if since is None:  # memory is empty, and so up to date
                newest = await self._read(key_pictures.newest_version)
                self._begin_at(newest)
                complete = True
            else:
                complete = self._take(await self._read(partial(key_pictures.changed, since=since)), since)
            if complete:
                self._fresh_until = asked_at + _STALE_S
                return

    def learn(self, picture: key_pictures.Picture) -> None:
        """What this process has just changed is in force here at once; the others are told."""
        self._memory.learn(picture)
        self._newest = max(self._newest, picture.version)
        self.announce()

    def _begin_at(self, version: int) -> None:
        if self._version is None:
            self._version = version

    def _take(self, picture: key_pictures.Picture, since: int) -> bool:
        """What the poll has read; false when there is more."""
        if picture.version < since:
            _log.warning("the database is older than it was: every API key is read again")
            self._memory.forget()
            self._ours = False
            self._version = self._newest = picture.version
            return True
        self._memory.learn(picture)
        self._version = max(self._version or 0, picture.version)
        self._newest = max(self._newest, picture.version)
        return picture.complete

    # ── KeyAdmin ─────────────────────────────────────────────────────────────────────────────────────────

    async def make(self, spec: KeySpec, created_by: str, within: Place = ANYWHERE) -> NewKey:
        """A new key. Its text is in the answer and nowhere else. Raises ValueError as `check_new` does, and `Invalid`
        or `NotFound` for a place that does not fit together, or is not there for whoever stands at `within`."""
        now = self._clock.now()
        check_new(spec.name, spec.expires_at, now)
        key_id, text = mint()
        values = {"id": key_id, "created_at": now, "updated_at": now, "created_by": created_by, **self._secret(text)}
        return NewKey(self._written(await self._database.write(partial(_insert, values, spec, within))), text)

    async def create(
        self, *, name: str, scopes: frozenset[Scope], created_by: str, expires_at: float | None = None
    ) -> NewKey:
        """`make` for a key of the installation's own."""
        return await self.make(KeySpec(name=name, scopes=scopes, expires_at=expires_at), created_by)

    async def get(self, key_id: str, within: Place = ANYWHERE) -> KeyRecord | None:
        """The key with this public id, if it is within a place."""
        row = await self._database.read(partial(_row_of, key_id=key_id, within=within))
        return None if row is None else account_rows.key_record(row)

    async def page(self, cursor: str | None, limit: int, within: Place = ANYWHERE) -> Page[KeyRecord]:
        """Newest first, of those within a place. Raises ValueError for a cursor that we did not make."""
        query = below(select(api_keys), api_keys, within)
        query = query.order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            at, key_id = read_cursor(_KIND, cursor)
            query = query.where(tuple_(api_keys.c.created_at, api_keys.c.id) < tuple_(literal(at), literal(key_id)))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        items = tuple(account_rows.key_record(row) for row in rows[:limit])
        more = len(rows) > limit
        return Page(items, cursor_after(_KIND, items[-1].created_at, items[-1].id) if more else None)

    async def numbered(
        self, offset: int, limit: int, within: Place = ANYWHERE, *, disabled: bool = True, expired: bool = True
    ) -> tuple[KeyRecord, ...]:
        """Newest first, from number `offset` on, for an API that counts; without disabled or expired ones on demand."""
        query = below(select(api_keys), api_keys, within)
        if not disabled:
            query = query.where(api_keys.c.disabled.is_(False))
        if not expired:
            query = query.where(or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > self._clock.now()))
        query = query.order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()).offset(offset).limit(limit)
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        return tuple(account_rows.key_record(row) for row in rows)

    async def change(self, key_id: str, edit: Edit, within: Place = ANYWHERE) -> KeyRecord | None:
        """Make the key what `edit` makes of it; None when there is none within the place. `edit` runs inside the
        transaction, and what it raises undoes everything. Raises as `make` does."""
        picture = await self._database.write(partial(_change, key_id, edit, within, self._clock.now()))
        return None if picture is None else self._written(picture)

    async def disable(self, key_id: str) -> KeyRecord | None:
        """Disable a key. None when there is none; doing it twice changes nothing."""
        return await self.change(key_id, lambda record: replace(record.spec, disabled=True))

    async def rotate(
        self, key_id: str, grace_s: float, check: Check = _anything, within: Place = ANYWHERE
    ) -> NewKey | None:
        """A new secret for a key; the one before it works for `grace_s` seconds more, and any older one no longer.
        None when there is no such key within the place. `check` may refuse. Raises `Invalid` for the bootstrap key."""
        _, text = mint(key_id)
        picture = await self._database.write(
            partial(_rotate, key_id, check, within, self._secret(text), grace_s, self._clock.now())
        )
        return None if picture is None else NewKey(self._written(picture), text)

    async def ensure_bootstrap(self, text: Secret) -> None:
        """Make `text` the admin key named `bootstrap`. A former one stops working; the same one changes nothing,
        so a bootstrap key that was disabled stays disabled until its text changes.

        Raises ValueError for a text that no request could use: too long, a mistyped key, or another key's.
        """
        credential = text.reveal()
        if not credential or len(credential) > _LONGEST_KEY or is_mistyped(credential):
            raise ValueError("the bootstrap key is too long, or an API key with a typing error")
        now = self._clock.now()
        values = {
            "id": _BOOTSTRAP,
            "name": _BOOTSTRAP,
            "scopes": Scope.ADMIN.value,
            "created_at": now,
            "updated_at": now,
            "created_by": "environment",
            "expires_at": None,
            "disabled": False,
            **self._secret(text),
        }
        current = await self._database.read(partial(_row_of, key_id=_BOOTSTRAP))
        if current is None or current.digest != values["digest"]:
            self._written(await self._database.write(partial(_replace, values=values)))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _written(self, picture: key_pictures.Picture) -> KeyRecord:
        """The key that a change of ours has written, which is in force here from now on."""
        self.learn(picture)
        return account_rows.key_record(picture.keys[0])

    async def _read(self, work: Callable[[Connection], T]) -> T:
        """`work` on a database that was made with our pepper, as far as it says. Under another one every key would be
        a stranger, and a 503 is right then, not a 401. Raises `OtherPepper`."""
        if self._ours:
            return await self._database.read(work)
        self._ours, found = await self._database.read(lambda one: (self._fingerprint.is_left(one), work(one)))
        return found

    def _secret(self, text: Secret) -> dict[str, Any]:
        """The columns of a key's text, which itself is kept nowhere."""
        return {"digest": self._digest(text.reveal()), "last4": text.reveal()[-4:]}

    def _digest(self, credential: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(credential.encode("utf-8", "surrogatepass"))
        return keyed.digest()

    async def _find(self, digest: bytes) -> Caller | None:
        """Reads until the answer is as new as everything that memory has learned: else a picture from before a change
        could be remembered after it, and a disabled key would live on."""
        async with self._turns:
            while True:
                picture = await self._read(partial(key_pictures.of_digest, digest=digest))
                self._begin_at(picture.version)
                if picture.version >= self._newest:
                    break
        if not picture.keys:
            self._memory.remember_missing(digest, self._clock.monotonic() + _MISSING_S)
            return None
        self._memory.remember(picture)
        return self._memory.caller(digest)

    def _looked_up(self, digest: bytes, task: asyncio.Task[Caller | None]) -> None:
        del self._look_ups[digest]
        if not task.cancelled():
            task.exception()  # marks it as seen where every waiter has left


def _row_of(connection: Connection, key_id: str, within: Place = ANYWHERE) -> Row[Any] | None:
    return connection.execute(below(select(api_keys), api_keys, within).where(api_keys.c.id == key_id)).one_or_none()


def _insert(values: dict[str, Any], spec: KeySpec, within: Place, connection: Connection) -> key_pictures.Picture:
    version = next_version(connection)
    values |= account_rows.key_values(settled(connection, spec, within))
    return _picture(connection, version, insert(api_keys).values(version=version, **values))


def _change(key_id: str, edit: Edit, within: Place, now: float, connection: Connection) -> key_pictures.Picture | None:
    version = next_version(connection)
    row = _row_of(connection, key_id, within)
    if row is None:
        return None
    record = account_rows.key_record(row)
    spec = edit(record)
    if record.deleted_at is not None:
        if spec != record.spec:
            raise _deleted(record)
        return key_pictures.of_key(connection, version, row)
    check_new(spec.name, spec.expires_at if spec.expires_at != record.expires_at else None, now)
    values = account_rows.key_values(settled(connection, spec, within, record))
    change = update(api_keys).where(api_keys.c.id == key_id).values(version=version, updated_at=now, **values)
    return _picture(connection, version, change)


def _rotate(
    key_id: str, check: Check, within: Place, fresh: dict[str, Any], grace_s: float, now: float, connection: Connection
) -> key_pictures.Picture | None:
    version = next_version(connection)
    row = _row_of(connection, key_id, within)
    if row is None:
        return None
    record = account_rows.key_record(row)
    check(record)
    if record.deleted_at is not None:
        raise _deleted(record)
    if key_id == _BOOTSTRAP:
        raise Invalid("The bootstrap key comes from XROUTER_BOOTSTRAP_KEY: change it there.", param="key_id")
    former = {"former_digest": row.digest, "former_until": now + grace_s} if grace_s > 0 else _NO_FORMER
    change = update(api_keys).where(api_keys.c.id == key_id)
    return _picture(connection, version, change.values(version=version, updated_at=now, **fresh, **former))


def _deleted(record: KeyRecord) -> Conflict:
    return Conflict(f"The key '{record.name}' was deleted, and has no secret any more: make a new one.", code="deleted")


def _replace(connection: Connection, values: dict[str, Any]) -> key_pictures.Picture:
    version = next_version(connection)  # also lets one process at a time decide between insert and update
    digest = values["digest"]
    holder = connection.execute(
        select(api_keys).where(or_(api_keys.c.digest == digest, api_keys.c.former_digest == digest))
    ).first()
    if holder is not None:
        if holder.id != values["id"]:
            raise ValueError(f"the bootstrap key is already the API key {holder.id!r}; choose another")
        return key_pictures.of_key(connection, version, holder)
    known = _row_of(connection, values["id"]) is not None
    change = update(api_keys).where(api_keys.c.id == values["id"]) if known else insert(api_keys)
    return _picture(connection, version, change.values(version=version, **values))


def _picture(connection: Connection, version: int, change: Insert | Update) -> key_pictures.Picture:
    return key_pictures.of_key(connection, version, connection.execute(change.returning(api_keys)).one())
