"""What outlives a call: the database and the data directory."""

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError

from xrouter.core.secret import Secret
from xrouter.doctor.finding import Finding, failed, good, skipped, warning
from xrouter.settings import Settings
from xrouter.stores.books import other_pepper_mend, pepper_place
from xrouter.stores.pepper import PepperError, read_pepper
from xrouter.stores.sql.database import Database, DatabaseUnavailable, open_database
from xrouter.stores.sql.fingerprint import OtherPepper, SqlFingerprint
from xrouter.stores.sql.schema import HEAD

_DATABASE: Final = "database"
_DIRECTORY: Final = "data directory"
_LITTLE_BYTES: Final = 1024**3


async def database(settings: Settings) -> AsyncIterator[Finding]:
    """Reachable, at the revision of this release, writable. Changes nothing."""
    url = settings.database.reveal()
    path = _sqlite_file(url)
    if path is not None and not path.exists():
        yield skipped(_DATABASE, "reachable", f"{path} does not exist yet; the first start makes it")
        return
    try:
        found = open_database(url)
    except (OSError, ValueError) as error:
        yield failed(_DATABASE, "reachable", str(error), "mend XROUTER_DATABASE_URL")
        return
    try:
        async for finding in _examine(found, settings):
            yield finding
    finally:
        await found.close()


async def _examine(found: Database, settings: Settings) -> AsyncIterator[Finding]:
    try:
        revision = await found.revision()
    except DatabaseUnavailable as error:
        mend = "is it running, are host, user and password in XROUTER_DATABASE_URL right, and may we connect?"
        yield failed(_DATABASE, "reachable", error.message, mend)
        return
    yield good(_DATABASE, "reachable", "it answers")
    if revision is None:
        yield skipped(_DATABASE, "migrations", "it is empty; the first start makes the tables")
    elif revision != HEAD:
        words = f"its tables have revision {revision}, this release {HEAD}"
        yield warning(_DATABASE, "migrations", words, "`xrouter migrate`, once every host has this release")
    else:
        yield good(_DATABASE, "migrations", f"the tables have revision {HEAD}")
    try:
        read_only = await found.write(_is_read_only)
    except DatabaseUnavailable as error:
        yield failed(_DATABASE, "writable", error.message, "may we write, is the disk full, is another one holding it?")
        return
    if read_only:
        yield failed(_DATABASE, "writable", "it takes no writes", "connect to the primary, not to a replica")
    else:
        yield good(_DATABASE, "writable", "a transaction that writes begins")
    if revision is not None:
        yield await _pepper(settings, found)


async def _pepper(settings: Settings, found: Database) -> Finding:
    """Were the keys made under this host's pepper? Makes none where there is none."""
    place = pepper_place(settings)
    try:
        own = settings.pepper or read_pepper(settings.data_dir / "pepper")
        claimed = await SqlFingerprint(found, own or Secret("")).check()
    except OtherPepper as error:
        words = error.message if own else f"it belongs to a pepper, and there is no {place} here"
        return failed(_DATABASE, "pepper", words, other_pepper_mend(place))
    except PepperError as error:
        return failed(_DATABASE, "pepper", str(error), "restore the file, or copy it from a host whose keys work")
    except DatabaseUnavailable:  # its tables are older, which has been said
        return skipped(_DATABASE, "pepper", "its tables are too old to say to which pepper it belongs")
    if not claimed:
        return skipped(_DATABASE, "pepper", "it belongs to no pepper yet; the next start leaves a fingerprint")
    return good(_DATABASE, "pepper", f"its keys were made under the pepper in {place}")


def _is_read_only(connection: Connection) -> bool:
    """SQLite has taken its write lock by now, and would have refused."""
    if connection.dialect.name != "postgresql":
        return False
    return connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"


def _sqlite_file(url: str) -> Path | None:
    try:
        target = make_url(url)
    except ArgumentError:
        return None
    return Path(target.database) if target.get_backend_name() == "sqlite" and target.database else None


def directory(settings: Settings) -> Iterator[Finding]:
    """Ours alone, writable, with room for the journal."""
    path = settings.data_dir
    if not path.exists():
        yield skipped(_DIRECTORY, "rights", f"{path} does not exist yet; the first start makes it")
        return
    if not path.is_dir() or not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        mend = f"let the user of this process own it: chown -R $(id -un) {path}"
        yield failed(_DIRECTORY, "rights", f"{path} is not a directory that we may write", mend)
        return
    open_to_others = [one for one in (path, path / "pepper") if one.exists() and one.stat().st_mode & 0o077]
    for one in open_to_others:
        words = f"{one} can be read by other users of this machine"
        yield warning(_DIRECTORY, "rights", words, f"chmod {'700' if one.is_dir() else '600'} {one}")
    if not open_to_others:
        yield good(_DIRECTORY, "rights", f"{path} is ours alone and writable")
    free = shutil.disk_usage(path).free
    words = f"{free / 1024**3:.1f} GiB are free"
    if free < _LITTLE_BYTES:
        yield warning(_DIRECTORY, "room", words, "make room: without it calls are refused, because nothing is booked")
    else:
        yield good(_DIRECTORY, "room", words)
