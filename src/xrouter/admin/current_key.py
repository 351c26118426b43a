"""`GET /api/v1/key`: the key that asks, as OpenRouter tells it, with what it has spent.

Field names: OpenRouter's SDK 1.3.84, which insists on all of them. Money is in roubles, which `currency` says. What
this gateway does not have (budgets, regions, organisations, free models) is null, empty, or -1 where OpenRouter writes
that for "no limit".
"""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from pydantic import BaseModel

from xrouter.admin.schemas import Roubles, Timestamp
from xrouter.admin.times import written
from xrouter.core.call import Caller, Scope
from xrouter.core.money import rub_text
from xrouter.core.records import KeyRecord


class FreeModelRequests(BaseModel):
    limit: int = -1
    remaining: int = -1
    used: int = 0


class RateLimit(BaseModel):
    """`requests` -1: this gateway sets no limit of its own."""

    interval: str = "10s"
    note: str = "There is no limit by rate; a vendor's own may apply."
    requests: int = -1


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
    rate_limit: RateLimit = RateLimit()
    free_model_daily_requests: FreeModelRequests = FreeModelRequests()
    byok_usage: Roubles = Decimal(0)
    byok_usage_daily: Roubles = Decimal(0)
    byok_usage_weekly: Roubles = Decimal(0)
    byok_usage_monthly: Roubles = Decimal(0)
    include_byok_in_limit: bool = False
    budgets: list[dict[str, Any]] = []
    effective_budget: dict[str, Any] | None = None
    allowed_data_regions: list[str] = []
    organization_id: str | None = None
    workspace_id: str | None = None


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
            creator_user_id=None if record is None else record.created_by,
            expires_at=None if caller.expires_at is None else written(caller.expires_at),
        )
    )
