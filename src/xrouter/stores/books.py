"""The books as a whole: the database with what is read from and written to it, for a worker, the supervisor and the
commands.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

from xrouter.core.clock import SystemClock
from xrouter.core.pseudonym import Pseudonyms
from xrouter.core.secret import Secret
from xrouter.settings import ConfigError, Settings
from xrouter.stores.flusher import Flusher
from xrouter.stores.pepper import PepperError, load_pepper
from xrouter.stores.sql.accounts import SqlAccounts
from xrouter.stores.sql.database import Database, DatabaseRefuses, DatabaseUnavailable, open_database
from xrouter.stores.sql.decisions import SqlDecisions
from xrouter.stores.sql.fingerprint import OtherPepper, SqlFingerprint
from xrouter.stores.sql.idempotency import SqlIdempotentWrites
from xrouter.stores.sql.keys import SqlKeys
from xrouter.stores.sql.plans import SqlPlans

_log = structlog.get_logger()

_PREPARE_AGAIN_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Books:
    """The database and what is read from and written to it; the same for a worker, the supervisor and the CLI."""

    database: Database
    keys: SqlKeys
    accounts: SqlAccounts
    plans: SqlPlans
    writes: SqlIdempotentWrites
    decisions: SqlDecisions
    pseudonyms: Pseudonyms
    flusher: Flusher
    bootstrap_key: Secret | None
    fingerprint: SqlFingerprint
    pepper_place: str

    async def prepare(self) -> None:
        """Bring the schema to head and put the bootstrap key in force: the owner's work (a single process, the
        supervisor, the CLI). Raises `ConfigError` in plain words, and `DatabaseUnavailable` for a database server that
        may yet come."""
        try:
            await self.database.migrate()
            await self.fingerprint.claim()
            if self.bootstrap_key is not None:
                await self.keys.ensure_bootstrap(self.bootstrap_key)
        except OtherPepper as error:
            raise ConfigError(f"{error}. {other_pepper_mend(self.pepper_place)}") from error
        except DatabaseUnavailable as error:
            if self.database.is_server and not isinstance(error, DatabaseRefuses):
                raise
            raise ConfigError(f"the database cannot be used: {error}") from error
        except ValueError as error:
            raise ConfigError(str(error)) from error

    async def prepare_now_or_later(self) -> list[asyncio.Task[None]]:
        """As `prepare`; where the database server is not there yet, the task that waits for it and tries again. Closes
        the database when it raises `ConfigError`."""
        try:
            await self.prepare()
        except ConfigError:
            await self.database.close()
            raise
        except DatabaseUnavailable as error:
            _log.error("the database is not there yet; every key gets a 503 until it is", reason=str(error))
            return [asyncio.create_task(self._prepare_later())]
        return []

    async def _prepare_later(self) -> None:
        told = ""
        while True:
            await asyncio.sleep(_PREPARE_AGAIN_S)
            try:
                await self.prepare()
            except DatabaseUnavailable:
                continue
            except ConfigError as error:  # it came, and is not what we need; somebody may mend that while we run
                if told != str(error):
                    _log.error("the database came, but cannot be used", reason=str(error))
                told = str(error)
            else:
                _log.info("the database is there now")
                return


def open_books(settings: Settings) -> Books:
    """The books, without asking the database anything. Raises `ConfigError` in plain words."""
    clock = SystemClock()
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        pepper = settings.pepper or load_pepper(settings.data_dir / "pepper")
        database = open_database(settings.database.reveal())
    except (OSError, PepperError, ValueError) as error:
        raise ConfigError(f"the data directory {settings.data_dir} or the database cannot be used: {error}") from error
    keys = SqlKeys(database, pepper, clock, settings.key_refresh_s)
    return Books(
        database=database,
        keys=keys,
        accounts=SqlAccounts(database, clock, keys.learn),
        plans=SqlPlans(database, clock, keys.learn),
        writes=SqlIdempotentWrites(database, pepper, clock),
        decisions=SqlDecisions(database),
        pseudonyms=Pseudonyms(pepper),
        flusher=Flusher(journals_of(settings), database, clock, settings.flush_interval_s),
        bootstrap_key=settings.bootstrap_key,
        fingerprint=SqlFingerprint(database, pepper),
        pepper_place=pepper_place(settings),
    )


def pepper_place(settings: Settings) -> str:
    """Where this host's pepper comes from."""
    return "XROUTER_PEPPER" if settings.pepper is not None else str(settings.data_dir / "pepper")


def other_pepper_mend(place: str) -> str:
    """What to do where the database belongs to another pepper than the one in `place`."""
    return (
        f"This host's pepper comes from {place}. Copy the file `pepper` from the data directory of a host whose keys "
        "work to this one's, or set XROUTER_PEPPER here as it is set there, and start again. If that pepper is lost "
        "for good, `xrouter migrate --adopt-pepper` keeps this host's: every key then needs a new secret "
        "(`xrouter keys rotate`)."
    )


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Books]:
    """The books, prepared, for commands. Raises `ConfigError`, also for a database server that is not there."""
    books = open_books(settings)
    try:
        await books.prepare()
    except DatabaseUnavailable as error:
        raise ConfigError(f"the database cannot be used: {error}") from error
    else:
        yield books
    finally:
        await books.database.close()


def journals_of(settings: Settings) -> Path:
    """The directory under which every process of this host keeps its journal."""
    return settings.data_dir / "journal"
