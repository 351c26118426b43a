"""Organisations, teams, users and plans over HTTP."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel

from xrouter.admin import account_schemas as schemas
from xrouter.admin.desk import Desk, ObjectId, Paging, bad_cursor, installation_only, place_of, within
from xrouter.admin.schemas import AccountQuery, Listing, answer
from xrouter.core.accounts import Account, Kind, Place, Plan
from xrouter.core.call import Caller
from xrouter.core.errors import NotFound
from xrouter.core.records import AccountSpec, KeyRecord, Page, PlanSpec
from xrouter.core.rights import changed_account, check_plan_change, check_plan_removal, check_removal, granted

_Show = Callable[[Any], BaseModel]


def add_accounts(app: FastAPI, desk: Desk) -> None:
    """The routes of `/admin/organisations`, `/admin/teams` and `/admin/users`."""
    _Admin = Annotated[Caller, desk.admin]  # noqa: N806 - a type

    async def make(kind: Kind, wanted: schemas.NewOrganisation, above: Place, caller: Caller) -> Response:
        fields = schemas.said(wanted)
        own = place_of(caller)
        above = Place(above.organisation_id or own.organisation_id, above.team_id or own.team_id)
        for name in ("organisation_id", "team_id"):
            fields.pop(name, None)
        spec = granted(AccountSpec(**fields), *await desk.maker(caller))
        made = await desk.accounts.make(kind, spec, above, own)
        return answer(_SHOW[kind](made), 201)

    async def listed(kind: Kind, query: AccountQuery, place: Place) -> Response:
        try:
            page = await desk.accounts.page(kind, query.cursor, query.limit, place)
        except ValueError:
            raise bad_cursor() from None
        return answer(listing(page, _SHOW[kind]))

    async def shown(kind: Kind, account_id: str, caller: Caller) -> Response:
        return answer(
            _SHOW[kind](_there(kind, account_id, await desk.accounts.get(kind, account_id, place_of(caller))))
        )

    async def changed(kind: Kind, account_id: str, wanted: schemas.AccountChange, caller: Caller) -> Response:
        fields = schemas.said(wanted)
        maker, plans = await desk.maker(caller)

        def edit(account: Account) -> AccountSpec:
            before = AccountSpec.of(account)
            return changed_account(before, replace(before, **fields), maker, plans)

        found = await desk.accounts.change(kind, account_id, edit, place_of(caller))
        return answer(_SHOW[kind](_there(kind, account_id, found)))

    async def removed(kind: Kind, account_id: str, caller: Caller) -> Response:
        maker, plans = await desk.maker(caller)

        def check(account: Account, keys: Sequence[KeyRecord]) -> None:
            check_removal(account, keys, maker, plans)

        found = await desk.accounts.remove(kind, account_id, place_of(caller), check)
        return answer(_SHOW[kind](_there(kind, account_id, found)))

    # ── organisations ────────────────────────────────────────────────────────────────────────────────────

    organisations, one = "/admin/organisations", "/admin/organisations/{organisation_id}"

    @app.post(organisations, status_code=201, response_model=schemas.Organisation, operation_id="create_organisation")
    async def create_organisation(wanted: schemas.NewOrganisation, caller: _Admin) -> Response:
        """Make an organisation. For admins of the installation."""
        installation_only(caller, "Organisations")
        return await make(Kind.ORGANISATION, wanted, Place(), caller)

    @app.get(organisations, response_model=Listing[schemas.Organisation], operation_id="list_organisations")
    async def list_organisations(query: Paging, caller: _Admin) -> Response:
        """Organisations, newest first; an organisation's admin sees its own."""
        return await listed(Kind.ORGANISATION, AccountQuery(**query.model_dump()), place_of(caller))

    @app.get(one, response_model=schemas.Organisation, operation_id="get_organisation")
    async def get_organisation(organisation_id: ObjectId, caller: _Admin) -> Response:
        """One organisation."""
        return await shown(Kind.ORGANISATION, organisation_id, caller)

    @app.patch(one, response_model=schemas.Organisation, operation_id="change_organisation")
    async def change_organisation(organisation_id: ObjectId, wanted: schemas.AccountChange, caller: _Admin) -> Response:
        """Change an organisation. For admins of the installation: its own do not set their own limits."""
        return await changed(Kind.ORGANISATION, organisation_id, wanted, caller)

    @app.delete(one, response_model=schemas.Organisation, operation_id="delete_organisation")
    async def delete_organisation(organisation_id: ObjectId, caller: _Admin) -> Response:
        """Delete an organisation without teams, users and keys that work; disable it otherwise."""
        return await removed(Kind.ORGANISATION, organisation_id, caller)

    # ── teams ────────────────────────────────────────────────────────────────────────────────────────────

    teams, one_team = "/admin/teams", "/admin/teams/{team_id}"

    @app.post(teams, status_code=201, response_model=schemas.Team, operation_id="create_team")
    async def create_team(wanted: schemas.NewTeam, caller: _Admin) -> Response:
        """Make a team of an organisation."""
        return await make(Kind.TEAM, wanted, Place(wanted.organisation_id), caller)

    @app.get(teams, response_model=Listing[schemas.Team], operation_id="list_teams")
    async def list_teams(query: Annotated[AccountQuery, Query()], caller: _Admin) -> Response:
        """Teams, newest first."""
        return await listed(Kind.TEAM, query, await within(desk, caller, query.organisation_id, query.team_id))

    @app.get(one_team, response_model=schemas.Team, operation_id="get_team")
    async def get_team(team_id: ObjectId, caller: _Admin) -> Response:
        """One team."""
        return await shown(Kind.TEAM, team_id, caller)

    @app.patch(one_team, response_model=schemas.Team, operation_id="change_team")
    async def change_team(team_id: ObjectId, wanted: schemas.AccountChange, caller: _Admin) -> Response:
        """Change a team; everybody below it has the change at once."""
        return await changed(Kind.TEAM, team_id, wanted, caller)

    @app.delete(one_team, response_model=schemas.Team, operation_id="delete_team")
    async def delete_team(team_id: ObjectId, caller: _Admin) -> Response:
        """Delete a team without users and keys that work; disable it otherwise."""
        return await removed(Kind.TEAM, team_id, caller)

    # ── users ────────────────────────────────────────────────────────────────────────────────────────────

    users, one_user = "/admin/users", "/admin/users/{user_id}"

    @app.post(users, status_code=201, response_model=schemas.User, operation_id="create_user")
    async def create_user(wanted: schemas.NewUser, caller: _Admin) -> Response:
        """Make a user of an organisation, in a team or in none."""
        return await make(Kind.USER, wanted, Place(wanted.organisation_id, wanted.team_id), caller)

    @app.get(users, response_model=Listing[schemas.User], operation_id="list_users")
    async def list_users(query: Annotated[AccountQuery, Query()], caller: _Admin) -> Response:
        """Users, newest first."""
        return await listed(Kind.USER, query, await within(desk, caller, query.organisation_id, query.team_id))

    @app.get(one_user, response_model=schemas.User, operation_id="get_user")
    async def get_user(user_id: ObjectId, caller: _Admin) -> Response:
        """One user."""
        return await shown(Kind.USER, user_id, caller)

    @app.patch(one_user, response_model=schemas.User, operation_id="change_user")
    async def change_user(user_id: ObjectId, wanted: schemas.AccountChange, caller: _Admin) -> Response:
        """Change a user; all of the user's keys have the change at once."""
        return await changed(Kind.USER, user_id, wanted, caller)

    @app.delete(one_user, response_model=schemas.User, operation_id="delete_user")
    async def delete_user(user_id: ObjectId, caller: _Admin) -> Response:
        """Delete a user, for good. The user's keys lose their secrets at once; what they did stays in the books."""
        return await removed(Kind.USER, user_id, caller)


def add_plans(app: FastAPI, desk: Desk) -> None:
    """The routes of `/admin/plans`. Every admin may read them; they belong to the installation."""
    _Admin = Annotated[Caller, desk.admin]  # noqa: N806 - a type
    plans, one = "/admin/plans", "/admin/plans/{plan_id}"

    @app.post(plans, status_code=201, response_model=schemas.PlanShown, operation_id="create_plan")
    async def create_plan(wanted: schemas.NewPlan, caller: _Admin) -> Response:
        """Make a plan: a named bundle of limits. For admins of the installation."""
        installation_only(caller, "Plans")
        return answer(schemas.plan(await desk.plans.make(PlanSpec(**schemas.said(wanted)))), 201)

    @app.get(plans, response_model=Listing[schemas.PlanShown], dependencies=[desk.admin], operation_id="list_plans")
    async def list_plans(query: Paging) -> Response:
        """Plans, newest first, the built-in ones last."""
        try:
            page = await desk.plans.page(query.cursor, query.limit)
        except ValueError:
            raise bad_cursor() from None
        return answer(listing(page, schemas.plan))

    @app.get(one, response_model=schemas.PlanShown, dependencies=[desk.admin], operation_id="get_plan")
    async def get_plan(plan_id: ObjectId) -> Response:
        """One plan."""
        found = await desk.plans.get(plan_id)
        if found is None:
            raise _no_plan(plan_id)
        return answer(schemas.plan(found))

    @app.patch(one, response_model=schemas.PlanShown, operation_id="change_plan")
    async def change_plan(plan_id: ObjectId, wanted: schemas.PlanChange, caller: _Admin) -> Response:
        """Change a plan; whoever has it has the new limits at once. For admins of the installation."""
        installation_only(caller, "Plans")
        fields = schemas.said(wanted)
        maker, plans = await desk.maker(caller)

        def edit(plan: Plan) -> PlanSpec:
            spec = replace(PlanSpec(name=plan.name, limits=plan.limits, disabled=plan.disabled), **fields)
            check_plan_change(plan, spec, maker, plans)
            return spec

        found = await desk.plans.change(plan_id, edit)
        if found is None:
            raise _no_plan(plan_id)
        return answer(schemas.plan(found))

    @app.delete(one, response_model=schemas.PlanShown, operation_id="delete_plan")
    async def delete_plan(plan_id: ObjectId, caller: _Admin) -> Response:
        """Delete a plan that nobody has; disable it otherwise. For admins of the installation without restrictions."""
        installation_only(caller, "Plans")
        check_plan_removal(*await desk.maker(caller))
        found = await desk.plans.remove(plan_id)
        if found is None:
            raise _no_plan(plan_id)
        return answer(schemas.plan(found))


_SHOW: dict[Kind, _Show] = {
    Kind.ORGANISATION: schemas.organisation,
    Kind.TEAM: schemas.team,
    Kind.USER: schemas.user,
}


def listing(page: Page[Any], show: _Show) -> Listing[Any]:
    """One page as the API shows it."""
    return Listing[Any](
        data=[show(one) for one in page.items],
        has_more=page.next_cursor is not None,
        next_cursor=page.next_cursor,
    )


def _there(kind: Kind, account_id: str, found: Account | None) -> Account:
    if found is None:
        raise NotFound(f"No {kind.value} has the id '{account_id}'.", param=f"{kind.value}_id")
    return found


def _no_plan(plan_id: str) -> NotFound:
    return NotFound(f"No plan has the id '{plan_id}'.", param="plan_id")
