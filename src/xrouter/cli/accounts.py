"""What the commands for keys, users, teams, organisations and plans share: options, tables, and errors in words.

The commands work straight in the database, with the rights of whoever may read it.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

import typer

from xrouter.core import networks
from xrouter.core.accounts import Account, Allowance, Kind, Place, Plan, check_globs, check_limits, read_allowance
from xrouter.core.api_key import check_new
from xrouter.core.clock import SystemClock
from xrouter.core.errors import GatewayError
from xrouter.core.operation import Operation
from xrouter.core.records import KeyRecord, Page
from xrouter.settings import load_settings
from xrouter.stores.books import Books, open_accounts

T = TypeVar("T")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
PlanOption = Annotated[str | None, typer.Option("--plan", help="A plan's id or name; `none` takes it away.")]
LimitOption = Annotated[
    list[str] | None,
    typer.Option(
        "--limit",
        help="'20 requests/minute', '1000 tokens/day acme/*', '5 concurrent', '9 requests/day per end_user'; `none`.",
    ),
]
ModelOption = Annotated[list[str] | None, typer.Option("--model", help="A model id or a glob such as 'acme/*'; `any`.")]
OperationOption = Annotated[
    list[str] | None, typer.Option("--operation", help=f"{', '.join(one.value for one in Operation)}; `any`.")
]
NetworkOption = Annotated[list[str] | None, typer.Option("--network", help="CIDR such as 10.0.0.0/8; `any`.")]
OrganisationOption = Annotated[str | None, typer.Option("--organisation", help="An organisation's id or name.")]
TeamOption = Annotated[str | None, typer.Option("--team", help="A team's id or name.")]
UserOption = Annotated[str | None, typer.Option("--user", help="A user's id or name.")]


def run(work: Callable[[Books], Awaitable[T]]) -> T:
    """What `work` gives. An error becomes a line and exit code 1."""

    async def inner() -> T:
        async with open_accounts(load_settings()) as books:
            return await work(books)

    try:
        return asyncio.run(inner())
    except GatewayError as error:
        raise complaint(error.message) from None


def complaint(words: str) -> typer.Exit:
    """The error that ends a command with exit code 1, after saying so."""
    typer.echo(f"xrouter: {words}", err=True)
    return typer.Exit(1)


async def said(
    books: Books,
    *,
    plan: str | None,
    limits: list[str] | None,
    models: list[str] | None,
    operations: list[str] | None,
    nets: list[str] | None,
) -> dict[str, Any]:
    """What the options say, in the words of core; what is left out is not in it. Raises `BadParameter`."""
    fields: dict[str, Any] = {}
    if plan is not None:
        fields["plan_id"] = None if plan == "none" else (await plan_named(books, plan)).id
    if limits is not None:
        fields["limits"] = allowances(limits)
    if models is not None:
        fields["models"] = _read("--model", models, _globs)
    if operations is not None:
        fields["operations"] = _read("--operation", operations, _operations)
    if nets is not None:
        fields["networks"] = _read("--network", nets, lambda texts: tuple(networks.plain(one) for one in texts))
    return fields


def allowances(texts: list[str]) -> tuple[Allowance, ...]:
    """The limits that the option gives; `none` alone is no limit. Raises `BadParameter`."""
    try:
        _check_alone("none", texts)
        found = () if texts == ["none"] else tuple(read_allowance(one) for one in texts)
        check_limits(found)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--limit") from None
    return found


def _read(option: str, texts: list[str], read: Callable[[list[str]], T]) -> T | None:
    try:
        _check_alone("any", texts)
        return None if texts == ["any"] else read(texts)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None


def _check_alone(word: str, texts: list[str]) -> None:
    """A word that takes everything away says nothing beside others. Raises ValueError."""
    if word in texts and len(texts) > 1:
        raise ValueError(f"'{word}' stands alone: leave it out, or the others")


def _globs(texts: list[str]) -> tuple[str, ...]:
    check_globs(texts)
    return tuple(texts)


def _operations(texts: list[str]) -> frozenset[Operation]:
    known = {one.value for one in Operation}
    unknown = [one for one in texts if one not in known]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is none of {', '.join(sorted(known))}")
    return frozenset(Operation(one) for one in texts)


def checked_name(name: str) -> str:
    """A name, by the rule for a key's: lists must be able to show it. Raises `BadParameter`."""
    name = name.strip()
    try:
        check_new(name, None, SystemClock().now())
    except ValueError as error:
        raise typer.BadParameter(str(error).replace("a key's name", "a name")) from None
    return name


async def account_named(books: Books, kind: Kind, name: str) -> Account:
    """The account with this id, or the only one with this name. Ends the command where there is none."""
    found = await books.accounts.get(kind, name)
    if found is not None:
        return found
    pages = everything(lambda cursor: books.accounts.page(kind, cursor, 200))
    named = [one async for one in pages if one.name == name]
    if len(named) == 1:
        return named[0]
    if named:
        raise complaint(f"several {kind.value}s are called '{name}': {', '.join(one.id for one in named)}; say which")
    raise complaint(f"there is no {kind.value} '{name}'; `xrouter {kind.value}s list` shows all")


async def plan_named(books: Books, name: str) -> Plan:
    """The plan with this id or name. Ends the command where there is none."""
    plans = await books.plans.all()
    for one in plans.values():
        if name in (one.id, one.name):
            return one
    raise complaint(f"there is no plan '{name}'; there are: {', '.join(one.name for one in plans.values())}")


async def everything(fetch: Callable[[str | None], Awaitable[Page[T]]]) -> AsyncIterator[T]:
    """All items of a list, page by page."""
    cursor: str | None = None
    while True:
        page = await fetch(cursor)
        for item in page.items:
            yield item
        cursor = page.next_cursor
        if cursor is None:
            return


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns as wide as what stands in them, below a header."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        typer.echo("  ".join(f"{cell:{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def details(fields: dict[str, Any], as_json: bool) -> None:
    """One object: a name and a value on each line, or JSON."""
    if as_json:
        typer.echo(json.dumps(fields, ensure_ascii=False))
        return
    width = max(len(name) for name in fields)
    for name, value in fields.items():
        for number, line in enumerate(_lines(value)):
            typer.echo(f"{'' if number else name:{width}}  {line}".rstrip())


def _lines(value: Any) -> list[str]:
    if isinstance(value, list):
        return [str(one) for one in value] or ["none"]
    return ["-" if value is None else str(value).lower() if isinstance(value, bool) else str(value)]


def narrowing(one: Account | KeyRecord) -> dict[str, Any]:
    """What every level may say, for `details`."""
    return {
        "disabled": one.disabled,
        "plan": one.plan_id,
        "limits": [str(limit) for limit in one.limits],
        "models": _list(one.models),
        "operations": _list(one.operations),
        "networks": _list(one.networks),
    }


def _list(values: Iterable[str] | None) -> list[str] | None:
    return None if values is None else sorted(str(one) for one in values)


def names(place: Place, above: Mapping[str, Account], kinds: Iterable[Kind] = Kind) -> tuple[str, ...]:
    """What those who stand at a place are called, for a table."""
    ids = [getattr(place, f"{kind.value}_id") for kind in kinds]
    return tuple("-" if one is None else above[one].name if one in above else one for one in ids)


def day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def moment(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
