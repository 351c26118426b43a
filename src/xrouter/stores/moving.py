"""Moves an installation from SQLite to PostgreSQL: first its journals into the old database, then all rows."""

from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from xrouter.core.clock import SystemClock
from xrouter.core.secret import Secret
from xrouter.stores.flusher import Flusher
from xrouter.stores.sql.database import Database, open_database
from xrouter.stores.sql.fingerprint import OtherPepper, SqlFingerprint
from xrouter.stores.sql.move import CannotMove, Progress, move


async def move_installation(
    journals: Path, pepper: Secret | None, from_url: str, target: Database, progress: Progress
) -> Mapping[str, int]:
    """Copy everything that stands in the SQLite database `from_url` and in `journals` to `target`, which is empty; how
    many rows of each table that were. The file lies in the data directory, whose journals are the ones that belong to
    it. `pepper` is what its keys must have been made under. The gateway must not run. Raises as `move`, and ValueError
    and OSError."""
    source = _open_source(from_url, journals.parent)
    flusher = Flusher(journals, source, SystemClock())
    try:
        if not flusher.claim():
            raise CannotMove("a gateway runs on this data directory (XROUTER_DATA_DIR): stop it first")
        await source.migrate(contract=True)
        await _check_pepper(source, pepper, journals.parent)
        await flusher.flush_all()
        if flusher.writers:
            raise CannotMove("a worker still writes to its journal: wait for its end, or stop it")
        return await move(source, target, progress)
    finally:
        flusher.close()
        await source.close()


async def _check_pepper(source: Database, pepper: Secret | None, data_dir: Path) -> None:
    """The fingerprint comes along: the new database would refuse a host with another pepper. Raises `CannotMove`."""
    mend = (
        "Set XROUTER_PEPPER as the gateway had it, or unset it where the gateway had none: "
        f"then the pepper is the file {data_dir / 'pepper'}"
    )
    if pepper is None:
        raise CannotMove(f"there is no pepper, which the keys are checked with. {mend}, which is not there")
    try:
        await SqlFingerprint(source, pepper).check()
    except OtherPepper:
        raise CannotMove(f"the keys in the old database were made under another pepper than this one. {mend}") from None


def _open_source(url: str, data_dir: Path) -> Database:
    try:
        target = make_url(url)
    except ArgumentError:
        raise ValueError("--from takes a URL such as sqlite:////var/lib/xrouter/xrouter.db") from None
    if target.get_backend_name() != "sqlite" or not target.database:
        raise ValueError("--from takes the URL of an SQLite database, sqlite:////var/lib/xrouter/xrouter.db")
    if not Path(target.database).is_file():
        raise ValueError(f"--from: there is no file {target.database}")
    lies_in = Path(target.database).resolve().parent
    if lies_in != data_dir.resolve():
        raise CannotMove(
            f"{target.database} does not lie in the data directory {data_dir}, whose journal would come along instead "
            "of its own. Say the directory of the gateway that wrote it: "
            f"XROUTER_DATA_DIR={lies_in} xrouter migrate --from {url}. "
            "A file that lies elsewhere by intent is first copied into that directory, with the gateway stopped"
        )
    return open_database(url)
