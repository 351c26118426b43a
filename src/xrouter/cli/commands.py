"""The table of commands, and the one place where a configuration error becomes an exit code."""

import sys
from typing import Annotated

import typer

from xrouter import __version__
from xrouter.cli import config, demo, doctor, keys, migrate, plans, route, serve, simulate, users
from xrouter.core.accounts import Kind
from xrouter.settings import ConfigError

app = typer.Typer(
    name="xrouter",
    help="One OpenAI-compatible API to GigaChat, YandexGPT, MTS, T-Bank and any other language model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("demo")(demo.demo)
app.command("serve")(serve.serve)
app.command("simulate")(simulate.simulate)
app.command("migrate")(migrate.migrate)
app.command("doctor")(doctor.doctor)
app.add_typer(config.app, name="config")
app.add_typer(route.app, name="route")
app.add_typer(keys.app, name="keys")
app.add_typer(plans.app, name="plans")
for _kind in Kind:
    app.add_typer(users.commands(_kind), name=f"{_kind.value}s")


@app.command("version")
def version() -> None:
    """Print the version."""
    typer.echo(__version__)


def _print_version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """One OpenAI-compatible API to GigaChat, YandexGPT, MTS, T-Bank and any other language model."""


def main() -> None:
    """Entry point. Exit code 2 for a configuration that cannot be used, said in plain words."""
    try:
        app()
    except ConfigError as error:
        typer.echo(f"xrouter: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:  # Ctrl-C before or after the time when the server handles it
        sys.exit(130)
