"""`xrouter keys`: make, list, change, rotate and disable API keys, straight in the database."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from xrouter.cli import accounts as shared
from xrouter.core.accounts import Account, Kind, Place
from xrouter.core.api_key import MAX_DAYS, check_new
from xrouter.core.call import Scope
from xrouter.core.clock import SystemClock
from xrouter.core.records import KeyRecord, KeySpec, NewKey
from xrouter.core.standing import ids_above, standing_of_key
from xrouter.stores.books import Books

app = typer.Typer(help="API keys.", no_args_is_help=True)

Above = Mapping[str, Account]
"""Whoever stands above some keys, by id."""

_DAY_S = 86_400
_KeyId = Annotated[str, typer.Argument(help="The id from `xrouter keys list`.")]
_Days = Annotated[int | None, typer.Option(help="Expires after so many days.", min=1, max=MAX_DAYS)]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="What it is for; shown in lists and logs.")],
    admin: Annotated[bool, typer.Option("--admin", help="May manage keys and read the books, too.")] = False,
    days: _Days = None,
    organisation: shared.OrganisationOption = None,
    team: shared.TeamOption = None,
    user: shared.UserOption = None,
    plan: shared.PlanOption = None,
    limit: shared.LimitOption = None,
    model: shared.ModelOption = None,
    operation: shared.OperationOption = None,
    network: shared.NetworkOption = None,
    as_json: shared.Json = False,
) -> None:
    """Make a key. Its text is printed once and cannot be read again."""
    name, expires_at = _checked(name, days)

    async def work(books: Books) -> tuple[NewKey, Above]:
        fields = await shared.said(
            books, plan=plan, limits=limit, models=model, operations=operation, nets=network
        ) | await _place(books, organisation, team, user)
        spec = KeySpec(name=name, scopes=frozenset({Scope.ADMIN if admin else Scope.MODELS}), expires_at=expires_at)
        made = await books.keys.make(replace(spec, **fields), "cli")
        return made, await _above(books, [made.record])

    _tell(*shared.run(work), as_json)


@app.command("list")
def list_keys(
    organisation: shared.OrganisationOption = None,
    team: shared.TeamOption = None,
    user: shared.UserOption = None,
    as_json: shared.Json = False,
) -> None:
    """List keys, newest first."""

    async def work(books: Books) -> tuple[list[KeyRecord], Above]:
        within = Place(**await _place(books, organisation, team, user))
        keys = [key async for key in shared.everything(lambda cursor: books.keys.page(cursor, 200, within))]
        return keys, await _above(books, keys)

    found, above = shared.run(work)
    if as_json:
        typer.echo(json.dumps([_fields(key, above) for key in found], ensure_ascii=False))
        return
    head = ("ID", "ENDS IN", "STATE", "SCOPES", "CREATED", "EXPIRES", "ORGANISATION", "TEAM", "USER", "NAME")
    shared.table(head, [_row(key, above) for key in found])


@app.command()
def show(key_id: _KeyId, as_json: shared.Json = False) -> None:
    """Show a key without its secret."""
    _details(key_id, lambda books: books.keys.get(key_id), as_json)


@app.command("set")
def change(
    key_id: _KeyId,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    enable: Annotated[bool, typer.Option("--enable", help="Enable a key that was disabled.")] = False,
    days: _Days = None,
    never: Annotated[bool, typer.Option("--never", help="Does not expire any more.")] = False,
    organisation: shared.OrganisationOption = None,
    team: shared.TeamOption = None,
    user: shared.UserOption = None,
    plan: shared.PlanOption = None,
    limit: shared.LimitOption = None,
    model: shared.ModelOption = None,
    operation: shared.OperationOption = None,
    network: shared.NetworkOption = None,
    as_json: shared.Json = False,
) -> None:
    """Change a key: what is left out stays. Every worker follows within XROUTER_KEY_REFRESH_S (1 s)."""
    if never and days is not None:
        raise typer.BadParameter("give --days or --never, not both")
    plain: dict[str, Any] = {}
    checked, expires_at = _checked("any" if name is None else name, days)
    if name is not None:
        plain["name"] = checked
    if enable:
        plain["disabled"] = False
    if never or days is not None:
        plain["expires_at"] = expires_at

    async def work(books: Books) -> KeyRecord | None:
        fields = plain | await shared.said(
            books, plan=plan, limits=limit, models=model, operations=operation, nets=network
        )
        fields |= await _place(books, organisation, team, user)
        return await books.keys.change(key_id, lambda record: replace(record.spec, **fields))

    _details(key_id, work, as_json)


@app.command()
def rotate(
    key_id: _KeyId,
    grace: Annotated[
        float, typer.Option(help="Hours for which the former secret works on; 0: not at all.", min=0, max=720)
    ] = 24,
    as_json: shared.Json = False,
) -> None:
    """Give a key a new secret, printed once. The former one works for 24 hours more."""

    async def work(books: Books) -> tuple[NewKey, Above]:
        made = await books.keys.rotate(key_id, grace * 3600)
        if made is None:
            raise _unknown(key_id)
        return made, await _above(books, [made.record])

    _tell(*shared.run(work), as_json)


@app.command()
def disable(key_id: _KeyId) -> None:
    """Disable a key; every worker follows within XROUTER_KEY_REFRESH_S (1 s)."""
    _there(key_id, shared.run(lambda books: books.keys.disable(key_id)))
    typer.echo(f"{key_id} is disabled")


def _checked(name: str, days: int | None) -> tuple[str, float | None]:
    now, name = SystemClock().now(), name.strip()
    expires_at = now + days * _DAY_S if days is not None else None
    try:
        check_new(name, expires_at, now)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return name, expires_at


async def _place(books: Books, organisation: str | None, team: str | None, user: str | None) -> dict[str, Any]:
    wanted = {Kind.ORGANISATION: organisation, Kind.TEAM: team, Kind.USER: user}
    return {
        f"{kind.value}_id": (await shared.account_named(books, kind, name)).id
        for kind, name in wanted.items()
        if name is not None
    }


async def _above(books: Books, keys: Sequence[KeyRecord]) -> Above:
    return await books.accounts.named({one for key in keys for one in ids_above(key.place)})


def _there(key_id: str, found: KeyRecord | None) -> KeyRecord:
    if found is None:
        raise _unknown(key_id)
    return found


def _details(key_id: str, find: Callable[[Books], Awaitable[KeyRecord | None]], as_json: bool) -> None:
    async def work(books: Books) -> tuple[KeyRecord, Above]:
        key = _there(key_id, await find(books))
        return key, await _above(books, [key])

    shared.details(_fields(*shared.run(work)), as_json)


def _unknown(key_id: str) -> typer.Exit:
    return shared.complaint(f"there is no key {key_id}; `xrouter keys list` shows all")


def _tell(made: NewKey, above: Above, as_json: bool) -> None:
    """The text alone on standard output, so that a script can take it."""
    if as_json:
        fields = {"key": made.text.reveal(), **_fields(made.record, above)}
        typer.echo(json.dumps(fields, ensure_ascii=False))
        return
    typer.echo(made.text.reveal())
    typer.echo(f"id {made.record.id}: shown once, keep it safe", err=True)


def _row(key: KeyRecord, above: Above) -> tuple[str, ...]:
    expires = "never" if key.expires_at is None else shared.day(key.expires_at)
    scopes = ",".join(sorted(key.scopes))
    state, _ = standing_of_key(key, above, SystemClock().now())
    places = shared.names(key.place, above)
    return key.id, f"...{key.last4}", state, scopes, shared.day(key.created_at), expires, *places, key.name


def _fields(key: KeyRecord, above: Above) -> dict[str, Any]:
    state, reason = standing_of_key(key, above, SystemClock().now())
    return {
        "id": key.id,
        "name": key.name,
        "state": state,
        "state_reason": reason,
        "scopes": sorted(key.scopes),
        "ends_in": key.last4,
        "created": shared.moment(key.created_at),
        "created_by": key.created_by,
        "updated": shared.moment(key.updated_at),
        "expires": shared.moment(key.expires_at),
        "former_secret_until": shared.moment(key.former_until),
        "deleted": shared.moment(key.deleted_at),
        "organisation": key.organisation_id,
        "team": key.team_id,
        "user": key.user_id,
        **shared.narrowing(key),
    }
