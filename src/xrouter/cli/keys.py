"""`xrouter keys`: make, list and disable API keys, straight in the database."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, TypeVar

import typer

from xrouter.app import open_keys
from xrouter.core.api_key import MAX_DAYS, check_new
from xrouter.core.call import Scope
from xrouter.core.clock import SystemClock
from xrouter.core.records import KeyRecord
from xrouter.settings import load_settings
from xrouter.stores.sql.keys import SqlKeys

app = typer.Typer(help="API keys.", no_args_is_help=True)
T = TypeVar("T")
_WIDTHS = (10, 7, 8, 12, 10, 10, 0)


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in lists and logs.")],
    admin: Annotated[bool, typer.Option("--admin", help="May manage keys and read the books, too.")] = False,
    days: Annotated[int | None, typer.Option(help="Expires after so many days.", min=1, max=MAX_DAYS)] = None,
) -> None:
    """Make a key. Its text is printed once and cannot be read again."""
    now, name = SystemClock().now(), name.strip()
    expires_at = now + days * 86_400 if days is not None else None
    try:
        check_new(name, expires_at, now)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    scopes = frozenset({Scope.ADMIN if admin else Scope.MODELS})
    made = _run(lambda keys: keys.create(name=name, scopes=scopes, created_by="cli", expires_at=expires_at))
    typer.echo(made.text.reveal())
    typer.echo(f"id {made.record.id}: shown once, keep it safe", err=True)


@app.command("list")
def list_keys() -> None:
    """List keys, newest first."""

    async def everything(keys: SqlKeys) -> list[KeyRecord]:
        found: list[KeyRecord] = []
        cursor: str | None = None
        while True:
            page = await keys.page(cursor, 200)
            found += page.items
            cursor = page.next_cursor
            if cursor is None:
                return found

    typer.echo(_row("ID", "ENDS IN", "STATE", "SCOPES", "CREATED", "EXPIRES", "NAME"))
    now = SystemClock().now()
    for key in _run(everything):
        expired = key.expires_at is not None and key.expires_at <= now
        state = "disabled" if key.disabled else "expired" if expired else "active"
        expires = "never" if key.expires_at is None else _day(key.expires_at)
        scopes = ",".join(sorted(key.scopes))
        typer.echo(_row(key.id, f"...{key.last4}", state, scopes, _day(key.created_at), expires, key.name))


@app.command()
def disable(key_id: Annotated[str, typer.Argument(help="The id from `xrouter keys list`.")]) -> None:
    """Disable a key; every worker follows within XROUTER_KEY_REFRESH_S (1 s)."""
    if _run(lambda keys: keys.disable(key_id)) is None:
        typer.echo(f"xrouter: there is no key {key_id}; `xrouter keys list` shows all", err=True)
        raise typer.Exit(1)
    typer.echo(f"{key_id} is disabled")


def _run(work: Callable[[SqlKeys], Awaitable[T]]) -> T:
    async def inner() -> T:
        async with open_keys(load_settings()) as keys:
            return await work(keys)

    return asyncio.run(inner())


def _row(*cells: str) -> str:
    return "  ".join(f"{cell:{width}}" for cell, width in zip(cells, _WIDTHS, strict=True))


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")
