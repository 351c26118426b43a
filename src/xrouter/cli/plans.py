"""`xrouter plans`: named bundles of limits, straight in the database."""

import json
from dataclasses import replace
from typing import Annotated, Any

import typer

from xrouter.cli import accounts as shared
from xrouter.core.accounts import Plan
from xrouter.core.records import PlanSpec
from xrouter.stores.books import Books

app = typer.Typer(help="Plans: named bundles of limits.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="Its id or its name.")]


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Shown in lists and error messages.")],
    limit: shared.LimitOption = None,
    as_json: shared.Json = False,
) -> None:
    """Make a plan."""
    spec = PlanSpec(name=shared.checked_name(name), limits=shared.allowances(limit or []))
    shared.details(_fields(shared.run(lambda books: books.plans.make(spec))), as_json)


@app.command("list")
def list_plans(as_json: shared.Json = False) -> None:
    """List plans, the built-in ones last."""
    found = list(shared.run(lambda books: books.plans.all()).values())
    if as_json:
        typer.echo(json.dumps([_fields(one) for one in found], ensure_ascii=False))
        return
    rows = [
        (one.id, "disabled" if one.disabled else "active", one.name, ", ".join(map(str, one.limits)) or "-")
        for one in found
    ]
    shared.table(("ID", "STATE", "NAME", "LIMITS"), rows)


@app.command()
def show(name: _Name, as_json: shared.Json = False) -> None:
    """Show a plan."""
    shared.details(_fields(shared.run(lambda books: shared.plan_named(books, name))), as_json)


@app.command("set")
def change(
    name: _Name,
    rename: Annotated[str | None, typer.Option("--name", help="Another name.")] = None,
    enable: Annotated[bool, typer.Option("--enable", help="Enable again.")] = False,
    limit: shared.LimitOption = None,
    as_json: shared.Json = False,
) -> None:
    """Change a plan for everybody who has it: what is left out stays, limits are replaced all together."""
    fields: dict[str, Any] = {} if rename is None else {"name": shared.checked_name(rename)}
    if enable:
        fields["disabled"] = False
    if limit is not None:
        fields["limits"] = shared.allowances(limit)
    shared.details(_fields(shared.run(lambda books: _changed(books, name, fields))), as_json)


@app.command()
def disable(name: _Name) -> None:
    """Give a plan to nobody any more; whoever has it keeps it."""
    found = shared.run(lambda books: _changed(books, name, {"disabled": True}))
    typer.echo(f"plan '{found.name}' is given to nobody any more")


@app.command()
def delete(name: _Name) -> None:
    """Delete a plan that nobody has."""

    async def work(books: Books) -> Plan:
        one = await shared.plan_named(books, name)
        await books.plans.remove(one.id)
        return one

    typer.echo(f"plan '{shared.run(work).name}' is deleted")


async def _changed(books: Books, name: str, fields: dict[str, Any]) -> Plan:
    one = await shared.plan_named(books, name)

    def edit(plan: Plan) -> PlanSpec:
        return replace(PlanSpec(name=plan.name, limits=plan.limits, disabled=plan.disabled), **fields)

    found = await books.plans.change(one.id, edit)
    if found is None:
        raise shared.complaint(f"the plan '{name}' has just been deleted")
    return found


def _fields(one: Plan) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "created": shared.moment(one.created_at or None),
        "updated": shared.moment(one.updated_at or None),
        "disabled": one.disabled,
        "limits": [str(limit) for limit in one.limits],
    }
