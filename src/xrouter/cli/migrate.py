"""`xrouter migrate`: bring the tables forward, say whether they are, move SQLite to PostgreSQL."""

import asyncio
from typing import Annotated

import typer
from sqlalchemy.exc import DataError, IntegrityError

from xrouter.settings import ConfigError, Settings, load_settings
from xrouter.stores.books import journals_of, open_books
from xrouter.stores.moving import move_installation
from xrouter.stores.pepper import PepperError, read_pepper
from xrouter.stores.sql.database import Database, DatabaseUnavailable, open_database
from xrouter.stores.sql.move import CannotMove
from xrouter.stores.sql.schema import HEAD


def migrate(
    check: Annotated[
        bool, typer.Option("--check", help="Change nothing; exit code 1 where revisions are waiting.")
    ] = False,
    from_url: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="URL", help="First copy everything from this SQLite database; the gateway must not run."
        ),
    ] = None,
    adopt_pepper: Annotated[
        bool,
        typer.Option(
            "--adopt-pepper",
            help="The database's own pepper is lost: take this host's. Every key then needs a new secret.",
        ),
    ] = False,
) -> None:
    """Bring the tables of XROUTER_DATABASE_URL to this release, also by what the release before cannot follow: run it
    when every node is up to date. `xrouter serve` itself does all that the release before can follow."""
    settings = load_settings()
    if check + adopt_pepper + (from_url is not None) > 1:
        raise typer.BadParameter("--check, --from and --adopt-pepper exclude each other")
    try:
        code = asyncio.run(_adopt_pepper(settings) if adopt_pepper else _run(settings, check, from_url))
    except (CannotMove, DataError, IntegrityError, DatabaseUnavailable, OSError, PepperError, ValueError) as error:
        raise ConfigError(_plain(error)) from error
    raise typer.Exit(code)


async def _run(settings: Settings, check: bool, from_url: str | None) -> int:
    database = open_database(settings.database.reveal())
    try:
        if check:
            return await _say_what_waits(database)
        if from_url is not None:
            await _move(settings, from_url, database)
        await database.migrate(contract=True)
        typer.echo(f"the tables have revision {await database.revision()}")
        return 0
    finally:
        await database.close()


async def _adopt_pepper(settings: Settings) -> int:
    books = open_books(settings)
    try:
        await books.database.migrate()
        await books.fingerprint.adopt()
    finally:
        await books.database.close()
    typer.echo(f"the database belongs to the pepper in {books.pepper_place} from now on")
    typer.echo("keys that were made under another pepper work again after `xrouter keys rotate ID`", err=True)
    return 0


async def _say_what_waits(database: Database) -> int:
    revision, found = await database.waiting()
    typer.echo(f"the tables have revision {revision or 'none'}, this release {HEAD}")
    for name, words in found:
        typer.echo(f"  waiting: {name}  {words}")
    return 1 if found else 0


async def _move(settings: Settings, from_url: str, target: Database) -> None:
    if not target.is_server:
        raise ConfigError("XROUTER_DATABASE_URL must name the PostgreSQL database that everything moves to")

    def progress(table: str, rows: int) -> None:
        typer.echo(f"  {table}: {rows}", err=True)

    pepper = settings.pepper or read_pepper(settings.data_dir / "pepper")
    moved = await move_installation(journals_of(settings), pepper, from_url, target, progress)
    for table, rows in moved.items():
        typer.echo(f"{table}: {rows} rows, each compared")
    typer.echo("The old database is unchanged. Keep XROUTER_DATABASE_URL as it is now, and the data directory with it.")


def _plain(error: Exception) -> str:
    """The driver's words without SQLAlchemy's addition of statement and values."""
    return str(getattr(error, "orig", None) or error)
