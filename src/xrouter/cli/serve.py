"""`xrouter serve`: the gateway for real upstreams."""

import asyncio
import sys
from typing import Annotated

import typer
import uvloop

from xrouter.app import open_app
from xrouter.configuration.effective import Effective, load
from xrouter.settings import Config, Settings, load_settings, unknown_variables
from xrouter.stores.books import open_books
from xrouter.stores.sql.database import DatabaseUnavailable
from xrouter.supervisor.books import keep_books
from xrouter.supervisor.serve_many import serve_many
from xrouter.supervisor.serve_one import Announce, serve_one
from xrouter.telemetry.logs import configure
from xrouter.telemetry.redaction import secrets_in


def serve(
    workers: Annotated[
        int | None, typer.Option(help="Processes (XROUTER_WORKERS); above 1 under a supervisor.", min=1, max=64)
    ] = None,
) -> None:
    """Serve the providers of xrouter.yaml (XROUTER_CONFIG), and vendors whose credentials are in the environment."""
    settings = load_settings()
    if workers is not None:
        settings = settings.model_copy(update={"workers": workers})
    effective = load(settings, vendors=True)
    for place, source in effective.sources.items():
        if source.startswith("environment"):
            typer.echo(f"xrouter: {place} comes from the {source}", err=True)
    for hint in effective.hints:
        typer.echo(f"xrouter: {hint}", err=True)
    if not asyncio.run(_has_keys(settings)):
        typer.echo("xrouter: no keys yet: `xrouter keys create NAME`", err=True)

    def announce(url: str) -> None:
        typer.echo(f"XRouter is running on {url}")

    raise typer.Exit(run(settings, effective.config, announce, effective))


async def _has_keys(settings: Settings) -> bool:
    """True also where the database is not there yet."""
    books = open_books(settings)
    try:
        await books.prepare()
        return bool((await books.keys.page(None, 1)).items)
    except DatabaseUnavailable:
        return True
    finally:
        await books.database.close()


def run(settings: Settings, config: Config, announce: Announce, reload_from: Effective | None = None) -> int:
    """One process, or a supervisor with several; the exit code. `announce` gets the URL once it answers; with
    `reload_from` credentials may change meanwhile."""
    for warning in unknown_variables():
        typer.echo(f"xrouter: {warning}", err=True)
    logs = configure(settings.log_level, sys.stderr, secrets=(*secrets_in(settings), *secrets_in(config)))
    if settings.workers > 1:
        return uvloop.run(serve_many(settings, keep_books, announce))
    return uvloop.run(
        serve_one(settings, lambda: open_app(settings, config, logs, owner=True, reload_from=reload_from), announce)
    )
