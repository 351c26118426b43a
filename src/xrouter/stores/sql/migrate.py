"""Runs the Alembic revisions. Imported only when a database is behind: Alembic is not needed to serve."""

import logging
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from xrouter.stores.sql.schema import HEAD, alembic_version

_log = logging.getLogger(__name__)


def upgrade(connection: Connection) -> None:
    """Bring the database behind `connection` to `HEAD`, in the caller's transaction.

    A revision that we do not know was made by a newer release; releases keep their tables usable for the one
    before them, so it is left as it is.
    """
    config = _config()
    revision = _current(connection)
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if revision is not None and revision not in known:
        _log.warning("the database has revision %s of a newer release; this one knows %s", revision, HEAD)
        return
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
    _log.info("migrated the database from revision %s to %s", revision, HEAD)


def downgrade(connection: Connection, revision: str) -> None:
    """Go back to `revision`, `base` for none. Drops what later revisions added, with its content."""
    config = _config()
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("xrouter.stores.sql") / "migrations"))
    config.set_main_option("path_separator", "os")
    return config


def _current(connection: Connection) -> str | None:
    if not connection.dialect.has_table(connection, alembic_version.name):
        return None
    found: str | None = connection.execute(alembic_version.select()).scalar()
    return found
