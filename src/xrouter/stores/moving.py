"""Moves an installation from SQLite to PostgreSQL: first its journals into the old database, then all rows."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from xrouter.core.clock import SystemClock
from xrouter.stores.flusher import Flusher
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.move import CannotMove, Progress, move


async def move_installation(journals: Path, from_url: str, target: Database, progress: Progress) -> Mapping[str, int]:
    """Copy everything that stands in the SQLite database `from_url` and in `journals` to `target`, which is empty; how
    many rows of each table that were. The gateway must not run. Raises as `move`, and ValueError and OSError."""
    source = _open_source(from_url)
    flusher = Flusher(journals, source, SystemClock())
    try:
        if not flusher.claim():
            raise CannotMove("a gateway runs on this data directory (XROUTER_DATA_DIR): stop it first")
        await source.migrate(contract=True)
        await flusher.flush_all()
        if flusher.writers:
            raise CannotMove("a worker still writes to its journal: wait for its end, or stop it")
        return await move(source, target, progress)
    finally:
        flusher.close()
        await source.close()


def _open_source(url: str) -> Database:
    try:
        target = make_url(url)
    except ArgumentError:
        raise ValueError("--from takes a URL such as sqlite:////var/lib/xrouter/xrouter.db") from None
    if target.get_backend_name() != "sqlite" or not target.database:
        raise ValueError("--from takes the URL of an SQLite database, sqlite:////var/lib/xrouter/xrouter.db")
    if not Path(target.database).is_file():
        raise ValueError(f"--from: there is no file {target.database}")
    return open_database(url)
