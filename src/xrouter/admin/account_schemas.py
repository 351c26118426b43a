"""Keys, accounts and plans as the admin API takes and gives them.

In a change, a field that is left out stays as it is, and null takes away what was said.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, StringConstraints

from xrouter.admin.schemas import Timestamp
from xrouter.admin.times import Time, written
from xrouter.core import networks
from xrouter.core.accounts import (
    MAX_AMOUNT,
    MAX_GLOBS,
    MAX_LIMITS,
    MAX_NETWORKS,
    WINDOWS,
    Account,
    Allowance,
    Plan,
    check_globs,
    check_limits,
)
from xrouter.core.api_key import MAX_DAYS, MAX_NAME_LENGTH, NAME_PATTERN
from xrouter.core.call import Scope
from xrouter.core.limits import Per, Unit
from xrouter.core.operation import Operation
from xrouter.core.records import KeyRecord
from xrouter.core.standing import Standing, standing_of_key

DAY_S = 86_400
DEFAULT_GRACE_S = DAY_S
MAX_GRACE_S = 30 * DAY_S

_NAMES = {seconds: name for name, seconds in WINDOWS.items()}

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_NAME_LENGTH, pattern=NAME_PATTERN)
]
Id = Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._-]+$")]


class Input(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class LimitInput(Input):
    """At most `amount` of `unit` in each window. `concurrent` has no window."""

    unit: Unit
    amount: int = Field(ge=0, le=MAX_AMOUNT, strict=True)
    window: Literal["minute", "day"] | None = None
    model: str | None = Field(None, description="A glob over model ids: only their calls count. Null counts all.")
    exact: StrictBool = Field(False, description="One counter for all nodes, asked before each call.")
    per: Per | None = Field(
        None, description="It holds for each end user, or for each tag, by itself; calls without one pass it by."
    )

    @property
    def allowance(self) -> Allowance:
        window_s = WINDOWS[self.window] if self.window is not None else 0
        return Allowance(self.unit, self.amount, window_s, self.model, self.exact, self.per)


def _limits(found: list[LimitInput]) -> list[LimitInput]:
    check_limits(one.allowance for one in found)
    return found


def _globs(found: list[str] | None) -> list[str] | None:
    check_globs(found or ())
    return found


def _networks(found: list[str] | None) -> list[str] | None:
    return None if found is None else list(dict.fromkeys(networks.plain(one) for one in found))


class Narrowing(Input):
    """What every level may say."""

    disabled: StrictBool = False
    plan_id: Id | None = Field(None, description="The limits of this plan hold where `limits` says nothing else.")
    limits: Annotated[list[LimitInput], AfterValidator(_limits)] = Field([], max_length=MAX_LIMITS)
    models: Annotated[list[str] | None, AfterValidator(_globs)] = Field(
        None, max_length=MAX_GLOBS, description="Globs over model ids and aliases; null allows all."
    )
    operations: list[Operation] | None = Field(None, description="The endpoints; null allows all.")
    networks: Annotated[list[str] | None, AfterValidator(_networks)] = Field(
        None, max_length=MAX_NETWORKS, description="CIDR; null allows all."
    )


class NewOrganisation(Narrowing):
    name: Name


class NewTeam(NewOrganisation):
    organisation_id: Id | None = Field(None, description="Whose team it is; your own where left out.")


class NewUser(NewTeam):
    team_id: Id | None = None


class AccountChange(Narrowing):
    name: Name = Field("", validate_default=False)


class NewPlan(Input):
    name: Name
    limits: Annotated[list[LimitInput], AfterValidator(_limits)] = Field([], max_length=MAX_LIMITS)
    disabled: StrictBool = Field(False, description="Given to nobody any more; whoever has it keeps it.")


class PlanChange(NewPlan):
    name: Name = Field("", validate_default=False)


class KeyFields(Narrowing):
    scopes: list[Scope] = Field(
        [Scope.MODELS], min_length=1, max_length=len(Scope), description="`admin` includes the others."
    )
    expires_at: Time | None = None
    expires_in_days: float | None = Field(None, gt=0, le=MAX_DAYS, allow_inf_nan=False, strict=True)
    organisation_id: Id | None = None
    team_id: Id | None = None
    user_id: Id | None = None


class NewKeyInput(KeyFields):
    name: Name = Field(description="For people: whose key it is.")


class KeyChange(KeyFields):
    name: Name = Field("", validate_default=False)


class RotateInput(Input):
    grace_s: float = Field(
        DEFAULT_GRACE_S,
        ge=0,
        le=MAX_GRACE_S,
        allow_inf_nan=False,
        strict=True,
        description="How long the former secret works.",
    )


def said(wanted: Input) -> dict[str, Any]:
    """The fields that the client sent, in the words of core; the end of a key is for `end_of`."""
    found: dict[str, Any] = {}
    for name in wanted.model_fields_set - {"expires_at", "expires_in_days"}:
        value = getattr(wanted, name)
        if name == "limits":
            value = tuple(one.allowance for one in value)
        elif name in ("scopes", "operations") and value is not None:
            value = frozenset(value)
        elif isinstance(value, list):
            value = tuple(value)
        found[name] = value
    return found


class Limit(BaseModel):
    unit: Unit
    amount: int
    window: Literal["minute", "day"] | None
    model: str | None
    exact: bool
    per: Per | None


class _Shown(BaseModel):
    id: str
    name: str
    disabled: bool
    limits: list[Limit]


class PlanShown(_Shown):
    """The times of a built-in plan are null until somebody changes it."""

    object: Literal["plan"] = "plan"
    created_at: Timestamp | None
    updated_at: Timestamp | None


class _Narrowed(_Shown):
    created_at: Timestamp
    updated_at: Timestamp
    plan_id: str | None
    models: list[str] | None
    operations: list[Operation] | None
    networks: list[str] | None


class Organisation(_Narrowed):
    object: Literal["organisation"] = "organisation"


class Team(_Narrowed):
    object: Literal["team"] = "team"
    organisation_id: str


class User(_Narrowed):
    object: Literal["user"] = "user"
    organisation_id: str
    team_id: str | None


class Key(_Narrowed):
    """An API key without its secret. Until `former_until` the secret before the last rotation works, too."""

    object: Literal["key"] = "key"
    scopes: list[Scope]
    last4: str
    created_by: str
    expires_at: Timestamp | None
    former_until: Timestamp | None
    deleted_at: Timestamp | None
    organisation_id: str | None
    team_id: str | None
    user_id: str | None
    state: Standing = Field(description="Whether it works, with all that stands above it.")
    state_reason: str | None = Field(description="Why it does not.")


class FreshKey(Key):
    """A key at the only moment when its text is shown."""

    key: str


def organisation(one: Account) -> Organisation:
    return Organisation(**_narrowed(one))


def team(one: Account) -> Team:
    return Team(**_narrowed(one), organisation_id=one.place.organisation_id or "")


def user(one: Account) -> User:
    return User(**_narrowed(one), organisation_id=one.place.organisation_id or "", team_id=one.place.team_id)


def plan(one: Plan) -> PlanShown:
    times = {"created_at": _written(one.created_at or None), "updated_at": _written(one.updated_at or None)}
    return PlanShown(**_shown(one) | times)


def key(record: KeyRecord, above: Mapping[str, Account], now: float) -> Key:
    """`above` holds whoever stands above it, by id."""
    return Key(**_key(record, above, now))


def fresh_key(record: KeyRecord, above: Mapping[str, Account], now: float, text: str) -> FreshKey:
    return FreshKey(**_key(record, above, now), key=text)


def _key(record: KeyRecord, above: Mapping[str, Account], now: float) -> dict[str, Any]:
    state, reason = standing_of_key(record, above, now)
    return {
        "state": state,
        "state_reason": reason,
        "deleted_at": _written(record.deleted_at),
        **_narrowed(record),
        "scopes": sorted(record.scopes),
        "last4": record.last4,
        "created_by": record.created_by,
        "expires_at": _written(record.expires_at),
        "former_until": _written(record.former_until),
        "organisation_id": record.organisation_id,
        "team_id": record.team_id,
        "user_id": record.user_id,
    }


def _narrowed(one: Account | KeyRecord) -> dict[str, Any]:
    return {
        **_shown(one),
        "plan_id": one.plan_id,
        "models": one.models,
        "operations": None if one.operations is None else sorted(one.operations),
        "networks": one.networks,
    }


def _shown(one: Account | KeyRecord | Plan) -> dict[str, Any]:
    return {
        "id": one.id,
        "name": one.name,
        "created_at": written(one.created_at),
        "updated_at": written(one.updated_at),
        "disabled": one.disabled,
        "limits": list(_shown_limits(one.limits)),
    }


def _shown_limits(limits: Iterable[Allowance]) -> Iterable[Limit]:
    for one in limits:
        window: Any = _NAMES.get(one.window_s)
        yield Limit(unit=one.unit, amount=one.amount, window=window, model=one.model, exact=one.exact, per=one.per)


def _written(seconds: float | None) -> str | None:
    return None if seconds is None else written(seconds)
