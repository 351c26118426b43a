"""`GET /api/v1/key`: the key that asks, as OpenRouter tells it, with what it has spent.

Field names: OpenRouter's SDK 1.3.84, which insists on all of them. Money is in roubles, which `currency` says. What
this gateway does not have (budgets, regions, free models) is null, empty, or -1 where OpenRouter writes that for "no
limit". A workspace is a team. `limits`, `models`, `operations` and `networks` are ours: what the key may do, with all
that stands above it.
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel

from xrouter.admin.schemas import Roubles, Timestamp
from xrouter.admin.times import written
from xrouter.core.call import Caller, Scope
from xrouter.core.limits import Level, Limit, Unit
from xrouter.core.money import rub_text
from xrouter.core.operation import Operation
from xrouter.core.records import KeyRecord


class FreeModelRequests(BaseModel):
    limit: int = -1
    remaining: int = -1
    used: int = 0


class RateLimit(BaseModel):
    """The tightest limit of requests that counts every model; `requests` -1: there is none here."""

    interval: str = "10s"
    note: str = "There is no limit by rate; a vendor's own may apply."
    requests: int = -1


class KeyLimit(BaseModel):
    """One of the limits that must pass. `window_s` is 0 for what runs at once. With the level `end_user` or `tag` it
    holds for each of them by itself."""

    level: Level
    owner: str
    unit: Unit
    amount: int
    window_s: int
    model: str | None
    exact: bool


class CurrentKeyData(BaseModel):
    """`usage` since the key was made; the others since midnight, Monday and the first of the month, in UTC."""

    label: str
    usage: Roubles
    usage_daily: Roubles
    usage_weekly: Roubles
    usage_monthly: Roubles
    currency: Literal["RUB"] = "RUB"
    limit: Roubles | None = None
    limit_remaining: Roubles | None = None
    limit_reset: str | None = None
    is_free_tier: bool = False
    is_management_key: bool
    is_provisioning_key: bool
    creator_user_id: str | None
    expires_at: Timestamp | None
    rate_limit: RateLimit
    limits: list[KeyLimit]
    models: list[list[str]] | None
    operations: list[Operation] | None
    networks: list[str] | None
    free_model_daily_requests: FreeModelRequests = FreeModelRequests()
    byok_usage: Roubles = Decimal(0)
    byok_usage_daily: Roubles = Decimal(0)
    byok_usage_weekly: Roubles = Decimal(0)
    byok_usage_monthly: Roubles = Decimal(0)
    include_byok_in_limit: bool = False
    budgets: list[dict[str, Any]] = []
    effective_budget: dict[str, Any] | None = None
    allowed_data_regions: list[str] = []
    organization_id: str | None
    workspace_id: str | None


class CurrentKey(BaseModel):
    data: CurrentKeyData


def periods(now: float) -> tuple[float, float, float, float]:
    """Where each sum begins, in seconds since the epoch: ever, today, this week, this month."""
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    monday = today - timedelta(days=today.weekday())
    return 0.0, today.timestamp(), monday.timestamp(), today.replace(day=1).timestamp()


def current_key(caller: Caller, record: KeyRecord | None, spent_micro: tuple[int, ...]) -> CurrentKey:
    """The key of `caller`, and its sums for `periods`. `record` is None where the books no longer hold the key."""
    total, daily, weekly, monthly = (Decimal(rub_text(micro)) for micro in spent_micro)
    return CurrentKey(
        data=CurrentKeyData(
            label=caller.name,
            usage=total,
            usage_daily=daily,
            usage_weekly=weekly,
            usage_monthly=monthly,
            is_management_key=caller.may(Scope.ADMIN),
            is_provisioning_key=caller.may(Scope.ADMIN),
            creator_user_id=None if record is None else record.user_id or record.created_by,
            expires_at=None if caller.expires_at is None else written(caller.expires_at),
            rate_limit=_rate_limit(caller),
            limits=[_limit(one) for one in (*caller.limits, *caller.each)],
            models=[list(group) for group in caller.models] or None,
            operations=None if caller.operations is None else sorted(caller.operations),
            networks=None if caller.networks is None else list(caller.networks),
            organization_id=caller.organisation_id,
            workspace_id=caller.team_id,
        )
    )


def _limit(one: Limit) -> KeyLimit:
    return KeyLimit(
        level=one.level,
        owner=one.owner,
        unit=one.unit,
        amount=one.amount,
        window_s=one.window_s,
        model=one.model,
        exact=one.exact,
    )


def _rate_limit(caller: Caller) -> RateLimit:
    rates = [one for one in caller.limits if one.unit is Unit.REQUESTS and one.model is None]
    if not rates:
        return RateLimit()
    tightest = min(rates, key=lambda one: one.amount / one.window_s)
    return RateLimit(
        interval=f"{tightest.window_s}s", note=f"By {tightest.owner}. `limits` has all.", requests=tightest.amount
    )
