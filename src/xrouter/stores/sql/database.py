"""Opens the database and runs transactions on it.

Work is a plain function of a `Connection`; `read` and `write` run it as one transaction without blocking the
event loop. `sqlalchemy.ext.asyncio` wraps the same engine the same way (`greenlet_spawn`) but imports the ORM,
which costs 0.3 s of start-up and 12 MB; this file is the only one that would have to change to it
(docs/decisions/0012-sync-engine-on-the-event-loop.md).
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DataError, IntegrityError, SQLAlchemyError
from sqlalchemy.util.concurrency import greenlet_spawn

from xrouter.core.errors import Overloaded
from xrouter.core.service_url import POSTGRESQL, SQLITE
from xrouter.stores.sql.postgresql import (
    BEGIN_WRITING,
    Refused,
    Unreachable,
    is_refusal,
    is_standby,
    open_engine,
)
from xrouter.stores.sql.schema import FIRST_ROWS, HEAD, alembic_version, metadata

_log = logging.getLogger(__name__)

_BUSY_TIMEOUT_MS: Final = 5_000
_POOL_SIZE: Final = 4
_POOL_WAIT_S: Final = 2.0
_CLOSE_WAIT_S: Final = 10.0
_MIGRATION_LOCK: Final = 0x78726F75746572  # the letters of our name; any number would do
_SERVER_ANSWERS_S: Final = 5.0

T = TypeVar("T")


class DatabaseUnavailable(Overloaded):
    """The database cannot be reached, does not answer, is locked, read-only or full. Repeating later may help."""

    default_code = "database_unavailable"


class DatabaseRefuses(DatabaseUnavailable):
    """The database answers, and will not have us: wrong password, no such database, missing rights. Only a change of
    the configuration helps, there or here."""


class Database:
    """An engine with its rules for transactions. Made by `open_database`; belongs to one event loop.

    With a database server no transaction takes its caller more than 5 s, whatever the server does.
    """

    def __init__(self, engine: Engine, unhurried: Engine | None = None) -> None:
        """`unhurried` is the engine for work that may take any time; the same one where nothing hurries."""
        self._engine = engine
        self._unhurried = unhurried or engine
        self._sqlite = engine.dialect.name == "sqlite"
        self._threads = ThreadPoolExecutor(_POOL_SIZE + 1, thread_name_prefix="sqlite") if self._sqlite else None
        self._within_s = None if self._sqlite else _SERVER_ANSWERS_S
        self._writer = asyncio.Lock()
        self._running: set[asyncio.Task[Any]] = set()

    @property
    def is_server(self) -> bool:
        """True for a database server, which may come later than we; false for a file, which is here or is not."""
        return not self._sqlite

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction. Raises `DatabaseUnavailable`."""
        return await self._finish(self._transact(work), self._within_s)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one durable transaction; SQLite takes the write lock at its start, so that it never
        fails half-way. Raises `DatabaseUnavailable`, and IntegrityError or DataError for rows it refuses.

        Where the server does not answer to a commit, nobody knows what became of it: `work` must bear being repeated,
        or its caller say so."""
        transaction = self._transact_alone(work) if self._sqlite else self._transact(work, write=True)
        return await self._finish(transaction, self._within_s)

    async def write_unhurried(self, work: Callable[[Connection], T]) -> T:
        """As `write`, for work that may take any time: migrations, moves. Its own connection, no limits."""
        transaction = self._transact_alone(work) if self._sqlite else self._transact(work, write=True, hurry=False)
        return await self._finish(transaction, None)

    async def write_from(self, source: "Database", work: Callable[[Connection, Connection], T]) -> T:
        """Run `work` with a connection to `source` and one to this database: all of this one's writes in one durable
        transaction, and nobody writes to a SQLite `source` meanwhile. It may take any time. Raises as `write`."""

        def both(ours: Connection) -> T:
            return source._in_transaction(lambda theirs: work(theirs, ours), write=True, hurry=False)

        return await self.write_unhurried(both)

    async def migrate(self, *, contract: bool = False) -> None:
        """Bring the tables to `HEAD`; without `contract` only as far as the release before this one can follow. Of
        several processes that call this at once, one does the work."""
        if await self.read(_revision) != HEAD:
            await self.write_unhurried(partial(_bring_to_head, contract=contract))

    async def revision(self) -> str | None:
        """The revision of the tables, None where there are none."""
        return await self.read(_revision)

    async def waiting(self) -> tuple[str | None, list[tuple[str, str]]]:
        """The revision of the tables, and those that are before it, oldest first, each with its one line."""
        revision = await self.read(_revision)
        if revision == HEAD:
            return revision, []
        return revision, import_module("xrouter.stores.sql.migrate").waiting(revision)

    async def close(self) -> None:
        """Let running transactions end (10 s at most) and close every connection."""
        if self._running:
            await asyncio.wait(self._running, timeout=_CLOSE_WAIT_S)
        await self._run(self._engine.dispose)
        if self._threads is not None:
            self._threads.shutdown(wait=False)

    async def _run(self, work: Callable[..., T], *args: Any) -> T:
        """`work` without blocking the event loop: SQLite's in a thread, a server's driver switches greenlets."""
        if self._threads is None:
            found: T = await greenlet_spawn(work, *args)
            return found
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *args)

    async def _finish(self, transaction: Coroutine[Any, Any, T], within_s: float | None) -> T:
        """A caller that is cancelled does not tear its transaction: that one runs to its end."""
        task = asyncio.create_task(transaction)
        self._running.add(task)
        task.add_done_callback(self._ended)
        done, _ = await asyncio.wait([task], timeout=within_s)
        if not done:  # it is ending by the same limit, but that may mean to wait for the server once more
            raise DatabaseUnavailable(_late(within_s))
        return task.result()

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as seen where the caller has left

    async def _transact_alone(self, work: Callable[[Connection], T]) -> T:
        async with self._writer:  # waiting here is cheaper and fairer than SQLite's own busy loop
            return await self._transact(work, write=True)

    async def _transact(self, work: Callable[[Connection], T], *, write: bool = False, hurry: bool = True) -> T:
        try:
            async with asyncio.timeout(self._within_s if hurry else None):
                return await self._run(self._in_transaction, work, write, hurry)
        except (DataError, IntegrityError):
            raise
        except (SQLAlchemyError, Refused, Unreachable, OSError, TimeoutError) as error:
            if is_standby(error):
                await self._run(self._engine.dispose)  # the next transaction looks for the primary again
            late = isinstance(error, TimeoutError) and self._within_s is not None and hurry
            words = _late(self._within_s) if late else _plain(error)
            raise (DatabaseRefuses if is_refusal(error) else DatabaseUnavailable)(words) from error

    def _in_transaction(self, work: Callable[[Connection], T], write: bool, hurry: bool) -> T:
        with (self._engine if hurry else self._unhurried).connect() as connection:
            options = connection.execution_options(xrouter_write=write) if self._sqlite else connection
            with options.begin():
                if write and not self._sqlite:
                    options.exec_driver_sql(BEGIN_WRITING)
                return work(options)


def open_database(url: str) -> Database:
    """A database for a URL such as `sqlite:////data/xrouter.db` or `postgresql://user:password@host/name`; connects on
    first use. A new SQLite file is readable by its owner only.

    Raises ValueError for a URL that cannot be used (without repeating it, it may hold a password) and for a SQLite
    database in memory, OSError where its file cannot be made.
    """
    scheme = url.partition(":")[0]
    if scheme in POSTGRESQL:
        return Database(open_engine(url), open_engine(url, unhurried=True))
    try:
        target = make_url(url)
    except ArgumentError:
        raise ValueError("XROUTER_DATABASE_URL is no database URL such as sqlite:////var/lib/xrouter/x.db") from None
    if scheme not in SQLITE:
        raise ValueError(f"XROUTER_DATABASE_URL: {scheme!r} is neither sqlite nor postgresql, which are what we speak")
    return Database(_open_sqlite(target.set(drivername=SQLITE[0])))


def _open_sqlite(target: URL) -> Engine:
    if not target.database or target.database == ":memory:":
        raise ValueError("the database must be a file: several connections and processes share it")
    path = Path(target.database)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
    engine = create_engine(target, pool_size=_POOL_SIZE, max_overflow=0, pool_timeout=_POOL_WAIT_S)
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver's own BEGINs would come too late and be of the wrong kind
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout={_BUSY_TIMEOUT_MS}")
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=FULL")  # a commit survives a power cut; the flusher commits in groups
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get("xrouter_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table(alembic_version.name):
        return None
    found: str | None = connection.execute(alembic_version.select()).scalar()
    return found


def _bring_to_head(connection: Connection, contract: bool) -> None:
    """An empty database gets the tables of `HEAD` directly; only an older one needs Alembic, which costs
    0.35 s to import."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:name)"), {"name": _MIGRATION_LOCK})
        connection.execute(text("SET LOCAL lock_timeout = '3s'"))
    revision = _revision(connection)
    if revision == HEAD:
        return
    if revision is None:
        create_tables(connection)
        _log.info("created the tables of revision %s", HEAD)
    else:
        import_module("xrouter.stores.sql.migrate").upgrade(connection, contract=contract)


def create_tables(connection: Connection) -> None:
    """The tables of `HEAD` with their first rows, in a database that has none."""
    metadata.create_all(connection)
    for table, row in FIRST_ROWS:
        connection.execute(table.insert(), row)
    alembic_version.create(connection)
    connection.execute(alembic_version.insert(), {"version_num": HEAD})


def _late(within_s: float | None) -> str:
    return f"The database did not answer within {within_s:g} s."


def _plain(error: BaseException) -> str:
    """What happened, in words; the driver's own without SQLAlchemy's addition of statement and values."""
    if isinstance(error, ConnectionRefusedError):
        return f"Nothing answers at the database's address: {error.strerror}. Is the database server running?"
    if isinstance(error, socket.gaierror):
        return f"The database's host name cannot be resolved: {error.strerror}"
    if isinstance(error, Refused | Unreachable):
        return str(error)
    return f"{type(error).__name__}: {getattr(error, 'orig', None) or error}"
