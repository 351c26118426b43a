"""API keys in the database, with a memory in front that answers in microseconds.

The table knows a key by HMAC-SHA256(pepper, whole key) only; so does the memory. A poll every `refresh_s`
brings what other workers changed. A disabled key stays in memory as a disabled caller, so that using it costs
no look-up. With the database gone, callers in memory stay valid for 10 minutes after the last good poll.
"""

import asyncio
import hmac
import logging
from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, Row, func, insert, literal, select, tuple_, update

from xrouter.core.api_key import check_new, is_mistyped, mint
from xrouter.core.call import Caller, Scope
from xrouter.core.clock import Clock
from xrouter.core.errors import Overloaded
from xrouter.core.records import KeyRecord, NewKey, Page
from xrouter.core.secret import Secret
from xrouter.stores.sql.cursors import cursor_after, read_cursor
from xrouter.stores.sql.database import Database, DatabaseUnavailable
from xrouter.stores.sql.schema import api_keys, key_version

_log = logging.getLogger(__name__)

_KIND: Final = b"k"
_BOOTSTRAP: Final = "bootstrap"
_MOST_KNOWN: Final = 100_000
_MOST_MISSING: Final = 10_000
_MISSING_S: Final = 2.0
_STALE_S: Final = 600.0
_LONGEST_KEY: Final = 512
_MOST_LOOK_UPS: Final = 64
_LOOK_UPS_AT_ONCE: Final = 2
_LOOK_UP_S: Final = 2.0
_POLL_ROWS: Final = 1_000
_LONGEST_BACKOFF_S: Final = 2.0


class SqlKeys:
    """The ports `KeyStore` and `KeyAdmin` over table `api_keys`. `run()` keeps the memory fresh.

    The methods of `KeyAdmin` raise `DatabaseUnavailable`.
    """

    def __init__(self, database: Database, pepper: Secret, clock: Clock, refresh_s: float) -> None:
        self._database = database
        # Keyed once and copied for each digest: OpenSSL 3 looks its HMAC up anew each time otherwise.
        self._keyed = hmac.new(pepper.reveal().encode(), digestmod="sha256")
        self._clock = clock
        self._refresh_s = refresh_s
        self._memory = _Memory()
        self._version: int | None = None  # of the last change that the poll has seen
        self._fresh_until = clock.monotonic() + _STALE_S
        self._changes = 0  # counts what was remembered otherwise than by a look-up
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

        Mistyped keys and those not found within the last 2 s are refused without asking. Raises `Overloaded`
        when the database does not answer within 2 s, or 64 other keys are being looked up.
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
            raise Overloaded("API keys cannot be checked at the moment; try again.", retry_after_s=1.0) from error

    async def run(self) -> None:
        """Poll for changes each `refresh_s` until cancelled, with pauses up to 2 s while the database is away."""
        pause_s, failing = self._refresh_s, False
        while True:
            try:
                await self.refresh()
                if failing:
                    _log.info("API keys are fresh again")
                pause_s, failing = self._refresh_s, False
            except DatabaseUnavailable as error:
                if not failing:
                    _log.error("changed API keys cannot be read; known keys work for 10 minutes: %s", error)
                pause_s, failing = min(pause_s * 2, max(_LONGEST_BACKOFF_S, self._refresh_s)), True
            await asyncio.sleep(pause_s)

    async def refresh(self) -> None:
        """One poll: learn every change since the last. Raises `DatabaseUnavailable`."""
        while True:
            asked_at = self._clock.monotonic()
            if self._version is None:  # memory was filled by look-ups only: what they read may be old by now
                self._version = await self._database.read(_newest_version)
                self._memory.forget()
                self._changes += 1
                rows: Sequence[Row[Any]] = ()
            else:
                rows = await self._database.read(partial(_changed, since=self._version))
            for row in rows:
                self._learn(row)
                self._version = row.version
            if len(rows) < _POLL_ROWS:
                self._fresh_until = asked_at + _STALE_S
                return

    # ── KeyAdmin ─────────────────────────────────────────────────────────────────────────────────────────

    async def create(
        self, *, name: str, scopes: frozenset[Scope], created_by: str, expires_at: float | None = None
    ) -> NewKey:
        """A new key. Its text is in the answer and nowhere else. Raises ValueError as `check_new` does."""
        check_new(name, expires_at, self._clock.now())
        key_id, text = mint()
        values = {
            "id": key_id,
            "digest": self._digest(text.reveal()),
            "name": name,
            "scopes": _scopes_text(scopes),
            "last4": text.reveal()[-4:],
            "created_at": self._clock.now(),
            "created_by": created_by,
            "expires_at": expires_at,
            "disabled": False,
        }
        row = await self._database.write(partial(_insert, values=values))
        self._learn(row)
        return NewKey(_record(row), text)

    async def get(self, key_id: str) -> KeyRecord | None:
        """The key with this public id."""
        row = await self._database.read(partial(_row_of, key_id=key_id))
        return None if row is None else _record(row)

    async def page(self, cursor: str | None, limit: int) -> Page[KeyRecord]:
        """Newest first. Raises ValueError for a cursor that we did not make."""
        query = select(api_keys).order_by(api_keys.c.created_at.desc(), api_keys.c.id.desc()).limit(limit + 1)
        if cursor is not None:
            at, key_id = read_cursor(_KIND, cursor)
            query = query.where(tuple_(api_keys.c.created_at, api_keys.c.id) < tuple_(literal(at), literal(key_id)))
        rows = await self._database.read(lambda connection: connection.execute(query).all())
        items = tuple(_record(row) for row in rows[:limit])
        more = len(rows) > limit
        return Page(items, cursor_after(_KIND, items[-1].created_at, items[-1].id) if more else None)

    async def disable(self, key_id: str) -> KeyRecord | None:
        """End a key for good. None when there is none; ending it twice changes nothing."""
        row = await self._database.write(partial(_disable, key_id=key_id))
        if row is None:
            return None
        self._learn(row)
        return _record(row)

    async def ensure_bootstrap(self, text: Secret) -> None:
        """Make `text` the admin key named `bootstrap`. A former one stops working; the same one changes nothing,
        so a bootstrap key that was disabled stays disabled until its text changes.

        Raises ValueError for a text that no request could use: too long, a mistyped key, or another key's.
        """
        credential = text.reveal()
        if not credential or len(credential) > _LONGEST_KEY or is_mistyped(credential):
            raise ValueError("the bootstrap key is too long, or an API key with a typing error")
        values = {
            "id": _BOOTSTRAP,
            "digest": self._digest(credential),
            "name": _BOOTSTRAP,
            "scopes": _scopes_text(frozenset({Scope.ADMIN})),
            "last4": credential[-4:],
            "created_at": self._clock.now(),
            "created_by": "environment",
            "expires_at": None,
            "disabled": False,
        }
        current = await self._database.read(partial(_row_of, key_id=_BOOTSTRAP))
        if current is None or current.digest != values["digest"]:
            self._learn(await self._database.write(partial(_replace, values=values)))

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────

    def _digest(self, credential: str) -> bytes:
        keyed = self._keyed.copy()
        keyed.update(credential.encode("utf-8", "surrogatepass"))
        return keyed.digest()

    async def _find(self, digest: bytes) -> Caller | None:
        """Reads until nothing changed meanwhile: else an answer from before a change could be remembered after
        it, and a disabled key would live on."""
        async with self._turns:
            while True:
                changes = self._changes
                row = await self._database.read(partial(_row_with, digest=digest))
                if changes == self._changes:
                    break
        if row is None:
            self._memory.remember_missing(digest, self._clock.monotonic() + _MISSING_S)
            return None
        return self._memory.remember(row)

    def _looked_up(self, digest: bytes, task: asyncio.Task[Caller | None]) -> None:
        del self._look_ups[digest]
        if not task.cancelled():
            task.exception()  # marks it as seen where every waiter has left

    def _learn(self, row: Row[Any]) -> None:
        self._changes += 1
        self._memory.update(row)


class _Memory:
    """Callers by digest, the least used leave first; and digests that were not found a moment ago."""

    def __init__(self) -> None:
        self._callers: OrderedDict[bytes, tuple[int, Caller]] = OrderedDict()
        self._digest_of: dict[str, bytes] = {}
        self._missing: OrderedDict[bytes, float] = OrderedDict()

    def caller(self, digest: bytes) -> Caller | None:
        found = self._callers.get(digest)
        if found is None:
            return None
        self._callers.move_to_end(digest)
        return found[1]

    def is_missing(self, digest: bytes, now: float) -> bool:
        return self._missing.get(digest, now) > now

    def remember(self, row: Row[Any]) -> Caller:
        """Hold the caller of `row`, and no older picture of it."""
        held = self._callers.get(row.digest)
        if held is not None and held[0] > row.version:
            return held[1]
        caller = Caller(row.id, row.name, _scopes(row.scopes), row.expires_at, row.disabled)
        self._callers[row.digest] = row.version, caller
        self._digest_of[row.id] = row.digest
        if len(self._callers) > _MOST_KNOWN:
            _, (_, evicted) = self._callers.popitem(last=False)
            del self._digest_of[evicted.key_id]
        return caller

    def update(self, row: Row[Any]) -> None:
        """A key was made or changed: its old digest is void, its new one is no longer missing; a caller that we
        hold is renewed."""
        self._missing.pop(row.digest, None)
        former = self._digest_of.get(row.id)
        if former is None:
            return
        if former == row.digest:
            self.remember(row)
        elif self._callers[former][0] < row.version:
            del self._callers[former], self._digest_of[row.id]

    def remember_missing(self, digest: bytes, until: float) -> None:
        self._missing[digest] = until
        self._missing.move_to_end(digest)
        if len(self._missing) > _MOST_MISSING:
            self._missing.popitem(last=False)

    def forget(self) -> None:
        """Start anew."""
        self._callers.clear()
        self._digest_of.clear()
        self._missing.clear()


def _next_version(connection: Connection) -> int:
    """The number of the change that this transaction makes. Holds the row until the commit."""
    version: int = connection.execute(
        update(key_version).values(version=key_version.c.version + 1).returning(key_version.c.version)
    ).scalar_one()
    return version


def _newest_version(connection: Connection) -> int:
    version: int = connection.execute(select(func.max(key_version.c.version))).scalar_one()
    return version


def _changed(connection: Connection, since: int) -> Sequence[Row[Any]]:
    query = select(api_keys).where(api_keys.c.version > since).order_by(api_keys.c.version).limit(_POLL_ROWS)
    return connection.execute(query).all()


def _row_of(connection: Connection, key_id: str) -> Row[Any] | None:
    return connection.execute(select(api_keys).where(api_keys.c.id == key_id)).one_or_none()


def _row_with(connection: Connection, digest: bytes) -> Row[Any] | None:
    return connection.execute(select(api_keys).where(api_keys.c.digest == digest)).one_or_none()


def _insert(connection: Connection, values: dict[str, Any]) -> Row[Any]:
    version = _next_version(connection)
    return connection.execute(insert(api_keys).values(version=version, **values).returning(api_keys)).one()


def _disable(connection: Connection, key_id: str) -> Row[Any] | None:
    version = _next_version(connection)
    return connection.execute(
        update(api_keys).where(api_keys.c.id == key_id).values(disabled=True, version=version).returning(api_keys)
    ).one_or_none()


def _replace(connection: Connection, values: dict[str, Any]) -> Row[Any]:
    version = _next_version(connection)  # also lets one process at a time decide between insert and update
    holder = _row_with(connection, values["digest"])
    if holder is not None:
        if holder.id != values["id"]:
            raise ValueError(f"the bootstrap key is already the API key {holder.id!r}; choose another")
        return holder
    known = _row_of(connection, values["id"]) is not None
    change = update(api_keys).where(api_keys.c.id == values["id"]) if known else insert(api_keys)
    return connection.execute(change.values(version=version, **values).returning(api_keys)).one()


def _scopes_text(scopes: frozenset[Scope]) -> str:
    return " ".join(sorted(scopes))


def _scopes(text: str) -> frozenset[Scope]:
    return frozenset(Scope(word) for word in text.split())


def _record(row: Row[Any]) -> KeyRecord:
    return KeyRecord(
        id=row.id,
        name=row.name,
        scopes=_scopes(row.scopes),
        last4=row.last4,
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        disabled=row.disabled,
    )
