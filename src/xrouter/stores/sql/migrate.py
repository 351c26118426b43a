"""Runs the Alembic revisions. Imported only when a database is behind: Alembic is not needed to serve.

A revision either expands (adds what the release before does not know, and can do without) or contracts (takes away
what that release still used); the second kind says `contract = True`. A start expands, so that nodes may be replaced
one by one; what contracts waits for `xrouter migrate`, which the operator runs when every node has the new release.
"""

import logging
from importlib.resources import files

from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Connection

from xrouter.stores.sql.schema import HEAD, alembic_version

_log = logging.getLogger(__name__)


def upgrade(connection: Connection, *, contract: bool = True) -> None:
    """Bring the database behind `connection` to `HEAD`, in the caller's transaction; without `contract` to the last
    revision that expands.

    A revision that we do not know was made by a newer release; releases keep their tables usable for the one
    before them, so it is left as it is.
    """
    config = _config()
    revision = _current(connection)
    waiting = _waiting(config, revision)
    if waiting is None:
        _log.warning("the database has revision %s of a newer release; this one knows %s", revision, HEAD)
        return
    if not contract:
        while waiting and _contracts(waiting[-1]):
            left = waiting.pop()
            _log.warning("revision %s waits for `xrouter migrate`; run it when every node is up to date", left.revision)
    if waiting:
        config.attributes["connection"] = connection
        command.upgrade(config, waiting[-1].revision)
        _log.info("migrated the database from revision %s to %s", revision, waiting[-1].revision)


def waiting(revision: str | None) -> list[tuple[str, str]]:
    """The revisions that a database at `revision` (None: an empty one) has before it, oldest first, each with its one
    line. None at all for one of a newer release."""
    return [(script.revision, (script.doc or "").strip()) for script in _waiting(_config(), revision) or ()]


def downgrade(connection: Connection, revision: str) -> None:
    """Go back to `revision`, `base` for none. Drops what later revisions added, with its content."""
    config = _config()
    config.attributes["connection"] = connection
    command.downgrade(config, revision)


def _waiting(config: Config, revision: str | None) -> list[Script] | None:
    """None where `revision` is not one of ours."""
    scripts = list(ScriptDirectory.from_config(config).walk_revisions())
    if revision is not None and revision not in {script.revision for script in scripts}:
        return None
    found = []
    for script in scripts:  # from the newest
        if script.revision == revision:
            break
        found.append(script)
    return found[::-1]


def _contracts(script: Script) -> bool:
    return bool(getattr(script.module, "contract", False))


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
