"""`/api/v1/keys`: keys as OpenRouter's SDK 1.3.84 makes and lists them. `/admin/keys` does all of it, and more.

`hash` is a key's id, a workspace is a team (or the organisation, for a key without a team), `creator_user_id` the user
whose key it is. Money is in roubles, which `currency` says. What this gateway does not have is null or zero, and asking
for it is an error: a limit in money that nobody keeps would be worse than none.
"""

from dataclasses import replace
from decimal import Decimal
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Response
from pydantic import BaseModel, BeforeValidator, Field, StrictBool

from xrouter.admin.account_schemas import Id, Input, Name
from xrouter.admin.current_key import periods
from xrouter.admin.desk import Desk, ObjectId, place_of
from xrouter.admin.key_routes import changed, disabled, there
from xrouter.admin.schemas import Roubles, Timestamp, answer
from xrouter.admin.times import Time, written
from xrouter.core.accounts import Kind, nobody
from xrouter.core.call import Caller
from xrouter.core.errors import Invalid, NotFound
from xrouter.core.money import rub_text
from xrouter.core.records import KeyRecord, KeySpec
from xrouter.core.rights import granted

PAGE = 100
"""OpenRouter's own; `offset` counts from the newest key."""

_INSTALLATION = "default"
_Spent = tuple[tuple[int, ...], float | None]
_NOTHING: _Spent = ((0, 0, 0, 0), None)


def _no_money(value: object) -> None:
    if value is not None:
        raise ValueError(
            "this gateway keeps no limits in money: send null or leave it out; "
            "limits of requests and tokens are set in `limits` of /admin/keys"
        )


_NoMoney = Annotated[None, BeforeValidator(_no_money)]


class _Money(Input):
    limit: _NoMoney = Field(None, description="Limits in money are not there; of requests and tokens: /admin/keys.")
    limit_reset: _NoMoney = None
    include_byok_in_limit: Literal[False] | None = None


class NewRouterKey(_Money):
    name: Name
    expires_at: Time | None = None
    creator_user_id: Id | None = Field(None, description="The user whose key it is.")
    workspace_id: Id | None = Field(None, description="The team whose key it is, or the organisation.")


class RouterKeyChange(_Money):
    name: Name | None = None
    disabled: StrictBool | None = None
    workspace_id: Id | None = None


class RouterKeyQuery(Input):
    offset: int = Field(0, ge=0, le=2**31 - 1)
    include_disabled: bool = False
    include_expired: bool = False
    workspace_id: Id | None = None


class RouterKey(BaseModel):
    hash: str
    label: str
    name: str
    disabled: bool
    created_at: Timestamp
    updated_at: Timestamp
    expires_at: Timestamp | None
    last_used_at: Timestamp | None
    creator_user_id: str | None
    workspace_id: str
    external_user: None = None
    limit: Roubles | None = None
    limit_remaining: Roubles | None = None
    limit_reset: str | None = None
    include_byok_in_limit: bool = False
    usage: Roubles
    usage_daily: Roubles
    usage_weekly: Roubles
    usage_monthly: Roubles
    currency: Literal["RUB"] = "RUB"
    byok_usage: Roubles = Decimal(0)
    byok_usage_daily: Roubles = Decimal(0)
    byok_usage_weekly: Roubles = Decimal(0)
    byok_usage_monthly: Roubles = Decimal(0)


class RouterKeyAnswer(BaseModel):
    data: RouterKey


class NewRouterKeyAnswer(RouterKeyAnswer):
    """`key` is shown here only."""

    key: str


class RouterKeys(BaseModel):
    data: list[RouterKey]


class Deleted(BaseModel):
    deleted: Literal[True] = True


def add_openrouter_keys(app: FastAPI, desk: Desk) -> None:
    """The routes of `/api/v1/keys`."""
    _Admin = Annotated[Caller, desk.admin]  # noqa: N806 - a type
    keys, one = "/api/v1/keys", "/api/v1/keys/{hash}"

    async def shown(records: tuple[KeyRecord, ...]) -> list[RouterKey]:
        since = periods(desk.clock.now())
        spent = await desk.attempts.spent_by_each([record.id for record in records], since) if records else {}
        return [_shown(record, spent.get(record.id, _NOTHING)) for record in records]

    async def workspace(workspace_id: str | None, caller: Caller) -> dict[str, Any]:
        """The fields of a key's place for a workspace: a team, else an organisation, else the installation."""
        if workspace_id is None:
            return {}
        if workspace_id == _INSTALLATION:
            return {"team_id": None, "organisation_id": None}
        if workspace_id == caller.organisation_id:
            return {"team_id": None, "organisation_id": workspace_id}
        for kind in (Kind.TEAM, Kind.ORGANISATION):
            found = await desk.accounts.get(kind, workspace_id, place_of(caller))
            if found is not None:
                return {"team_id": found.place.team_id, "organisation_id": found.place.organisation_id}
        raise NotFound(f"No workspace has the id '{workspace_id}'.", param="workspace_id")

    @app.post(keys, status_code=201, response_model=NewRouterKeyAnswer, operation_id="create_router_key")
    async def create(wanted: NewRouterKey, caller: _Admin) -> Response:
        """Make a key."""
        if wanted.expires_at is not None and wanted.expires_at <= desk.clock.now():
            raise Invalid("'expires_at' must be in the future.", param="expires_at")
        place = await workspace(wanted.workspace_id, caller)
        spec = KeySpec(name=wanted.name, expires_at=wanted.expires_at, user_id=wanted.creator_user_id)
        spec = replace(spec, **place)
        if wanted.creator_user_id is not None and not await desk.accounts.get(
            Kind.USER, wanted.creator_user_id, place_of(caller)
        ):
            raise nobody(Kind.USER, wanted.creator_user_id, "creator_user_id")
        made = await desk.keys.make(granted(spec, *await desk.maker(caller)), caller.key_id, place_of(caller))
        (data,) = await shown((made.record,))
        return answer(NewRouterKeyAnswer(data=data, key=made.text.reveal()), 201)

    @app.get(keys, response_model=RouterKeys, operation_id="list_router_keys")
    async def listed(query: Annotated[RouterKeyQuery, Query()], caller: _Admin) -> Response:
        """A hundred keys from number `offset` on, newest first."""
        place = place_of(caller)
        wanted = await workspace(query.workspace_id, caller)
        for name, value in wanted.items():
            if value is not None:
                place = replace(place, **{name: value})
        records = await desk.keys.numbered(
            query.offset, PAGE, place, disabled=query.include_disabled, expired=query.include_expired
        )
        return answer(RouterKeys(data=await shown(records)))

    @app.get(one, response_model=RouterKeyAnswer, operation_id="get_router_key")
    async def get(hash: ObjectId, caller: _Admin) -> Response:  # noqa: A002 - its name
        """One key."""
        (data,) = await shown((there(hash, await desk.keys.get(hash, place_of(caller))),))
        return answer(RouterKeyAnswer(data=data))

    @app.patch(one, response_model=RouterKeyAnswer, operation_id="change_router_key")
    async def change(hash: ObjectId, wanted: RouterKeyChange, caller: _Admin) -> Response:  # noqa: A002 - its name
        """Change a key's name, disable or enable it, give it to another team."""
        fields: dict[str, Any] = {
            name: value for name in ("name", "disabled") if (value := getattr(wanted, name)) is not None
        }
        fields |= await workspace(wanted.workspace_id, caller)
        (data,) = await shown((await changed(desk, hash, fields, caller),))
        return answer(RouterKeyAnswer(data=data))

    @app.delete(one, response_model=Deleted, operation_id="delete_router_key")
    async def delete(hash: ObjectId, caller: _Admin) -> Response:  # noqa: A002 - its name
        """Disable a key: its row stays, because the books refer to it."""
        await disabled(desk, hash, caller)
        return answer(Deleted())


def _shown(record: KeyRecord, spent: _Spent) -> RouterKey:
    (total, daily, weekly, monthly), last = spent
    return RouterKey(
        hash=record.id,
        label=f"sk-xr-v1-{record.id[:3]}...{record.last4}",
        name=record.name,
        disabled=record.disabled,
        created_at=written(record.created_at),
        updated_at=written(record.updated_at),
        expires_at=None if record.expires_at is None else written(record.expires_at),
        last_used_at=None if last is None else written(last),
        creator_user_id=record.user_id,
        workspace_id=record.team_id or record.organisation_id or _INSTALLATION,
        usage=_rub(total),
        usage_daily=_rub(daily),
        usage_weekly=_rub(weekly),
        usage_monthly=_rub(monthly),
    )


def _rub(micro: int) -> Decimal:
    return Decimal(rub_text(micro))
