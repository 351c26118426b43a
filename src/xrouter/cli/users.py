"""`xrouter organisations`, `xrouter teams` and `xrouter users`: who stands above keys, straight in the database."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

import typer

from xrouter.cli import accounts as shared
from xrouter.core.accounts import Account, Kind, Place
from xrouter.core.records import AccountSpec
from xrouter.core.standing import ids_above, standing_of_account
from xrouter.stores.books import Books

_Name = Annotated[str, typer.Argument(help="Its id or its name.")]


def commands(kind: Kind) -> typer.Typer:
    """The commands of one kind; all but the places are the same for the three."""
    app = typer.Typer(help=_HELP[kind], no_args_is_help=True)
    app.command("create", help=f"Make {_A[kind]}.")(_CREATE[kind])
    if kind is Kind.ORGANISATION:

        @app.command("list")
        def list_organisations(as_json: shared.Json = False) -> None:
            """List them, newest first."""
            _list(kind, None, None, as_json)

    else:

        @app.command("list")
        def list_below(
            organisation: shared.OrganisationOption = None, team: shared.TeamOption = None, as_json: shared.Json = False
        ) -> None:
            """List them, newest first."""
            _list(kind, organisation, team, as_json)

    @app.command()
    def show(name: _Name, as_json: shared.Json = False) -> None:
        """Show one."""
        shared.details(_fields(shared.run(lambda books: shared.account_named(books, kind, name))), as_json)

    @app.command("set")
    def change(
        name: _Name,
        rename: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
        enable: Annotated[bool, typer.Option("--enable", help="Enable again.")] = False,
        plan: shared.PlanOption = None,
        limit: shared.LimitOption = None,
        model: shared.ModelOption = None,
        operation: shared.OperationOption = None,
        network: shared.NetworkOption = None,
        as_json: shared.Json = False,
    ) -> None:
        """Change one: what is left out stays. Every key below follows within XROUTER_KEY_REFRESH_S (1 s)."""
        plain: dict[str, Any] = {} if rename is None else {"name": shared.checked_name(rename)}
        if enable:
            plain["disabled"] = False

        async def work(books: Books) -> Account:
            fields = plain | await shared.said(
                books, plan=plan, limits=limit, models=model, operations=operation, nets=network
            )
            return await _changed(books, kind, name, fields)

        shared.details(_fields(shared.run(work)), as_json)

    @app.command()
    def disable(name: _Name) -> None:
        """Disable one, and with it every key below."""
        found = shared.run(lambda books: _changed(books, kind, name, {"disabled": True}))
        typer.echo(f"{kind.value} '{found.name}' is disabled, with every key below")

    @app.command()
    def delete(name: _Name) -> None:
        """Delete one for good. A user's keys lose their secrets at once, and nothing brings them back: `disable` is for
        a while. A team or an organisation must have no key that works, and nobody else below it."""

        async def work(books: Books) -> Account:
            one = await shared.account_named(books, kind, name)
            await books.accounts.remove(kind, one.id)
            return one

        typer.echo(f"{kind.value} '{shared.run(work).name}' is deleted")

    return app


def _create_organisation(
    name: Annotated[str, typer.Argument(help="Shown in lists and error messages.")],
    plan: shared.PlanOption = None,
    limit: shared.LimitOption = None,
    model: shared.ModelOption = None,
    operation: shared.OperationOption = None,
    network: shared.NetworkOption = None,
    as_json: shared.Json = False,
) -> None:
    _create(Kind.ORGANISATION, name, None, None, (plan, limit, model, operation, network), as_json)


def _create_team(
    name: Annotated[str, typer.Argument(help="Shown in lists and error messages.")],
    organisation: Annotated[str, typer.Option(help="Whose team it is: an organisation's id or name.")],
    plan: shared.PlanOption = None,
    limit: shared.LimitOption = None,
    model: shared.ModelOption = None,
    operation: shared.OperationOption = None,
    network: shared.NetworkOption = None,
    as_json: shared.Json = False,
) -> None:
    _create(Kind.TEAM, name, organisation, None, (plan, limit, model, operation, network), as_json)


def _create_user(
    name: Annotated[str, typer.Argument(help="Shown in lists and error messages.")],
    organisation: shared.OrganisationOption = None,
    team: shared.TeamOption = None,
    plan: shared.PlanOption = None,
    limit: shared.LimitOption = None,
    model: shared.ModelOption = None,
    operation: shared.OperationOption = None,
    network: shared.NetworkOption = None,
    as_json: shared.Json = False,
) -> None:
    _create(Kind.USER, name, organisation, team, (plan, limit, model, operation, network), as_json)


def _create(
    kind: Kind, name: str, organisation: str | None, team: str | None, options: tuple[Any, ...], as_json: bool
) -> None:
    name = shared.checked_name(name)
    plan, limit, model, operation, network = options

    async def work(books: Books) -> Account:
        fields = await shared.said(books, plan=plan, limits=limit, models=model, operations=operation, nets=network)
        above = await _place(books, organisation, team)
        return await books.accounts.make(kind, AccountSpec(name=name, **fields), above)

    shared.details(_fields(shared.run(work)), as_json)


def _list(kind: Kind, organisation: str | None, team: str | None, as_json: bool) -> None:
    async def work(books: Books) -> tuple[list[Account], dict[str, Account]]:
        within = await _place(books, organisation, team)
        pages = shared.everything(lambda cursor: books.accounts.page(kind, cursor, 200, within))
        accounts = [one async for one in pages]
        return accounts, await books.accounts.named({upper for one in accounts for upper in ids_above(one.place)})

    found, above = shared.run(work)
    if as_json:
        typer.echo(json.dumps([_fields(one) for one in found], ensure_ascii=False))
        return
    head = ("ID", "STATE", "PLAN", *(upper.value.upper() for upper in _ABOVE[kind]), "CREATED", "NAME")
    shared.table(
        head,
        [
            (
                one.id,
                standing_of_account(one, above)[0],
                one.plan_id or "-",
                *shared.names(one.place, above, _ABOVE[kind]),
                shared.day(one.created_at),
                one.name,
            )
            for one in found
        ],
    )


async def _changed(books: Books, kind: Kind, name: str, fields: dict[str, Any]) -> Account:
    one = await shared.account_named(books, kind, name)
    found = await books.accounts.change(kind, one.id, lambda account: replace(AccountSpec.of(account), **fields))
    if found is None:
        raise shared.complaint(f"the {kind.value} '{name}' has just been deleted")
    return found


async def _place(books: Books, organisation: str | None, team: str | None) -> Place:
    above = None if organisation is None else (await shared.account_named(books, Kind.ORGANISATION, organisation)).id
    return Place(above, None if team is None else (await shared.account_named(books, Kind.TEAM, team)).id)


def _fields(one: Account) -> dict[str, Any]:
    above = {upper.value: getattr(one.place, f"{upper.value}_id") for upper in _ABOVE[one.kind]}
    return {
        "id": one.id,
        "name": one.name,
        **above,
        "created": shared.moment(one.created_at),
        "updated": shared.moment(one.updated_at),
        **shared.narrowing(one),
    }


_HELP = {
    Kind.ORGANISATION: "Organisations, with their teams, users and keys.",
    Kind.TEAM: "Teams of organisations.",
    Kind.USER: "Users of organisations and teams.",
}
_A = {Kind.ORGANISATION: "an organisation", Kind.TEAM: "a team", Kind.USER: "a user"}
_ABOVE: dict[Kind, tuple[Kind, ...]] = {
    Kind.ORGANISATION: (),
    Kind.TEAM: (Kind.ORGANISATION,),
    Kind.USER: (Kind.ORGANISATION, Kind.TEAM),
}
_CREATE: dict[Kind, Callable[..., None]] = {
    Kind.ORGANISATION: _create_organisation,
    Kind.TEAM: _create_team,
    Kind.USER: _create_user,
}
