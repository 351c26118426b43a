"""`GET /api/v1/key`: whose key it is, and what it has spent."""

from datetime import UTC, datetime

import pytest
from tests.admin.books import NOW, Plane, attempt

from xrouter.admin.current_key import periods

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY_S = 86_400.0


async def test_the_sums_are_those_of_the_key_and_of_each_period(plane: Plane) -> None:
    _, today, monday, first = periods(NOW)
    assert first < monday < today, "NOW is a Friday in the middle of a month"
    for number, (at, cost) in enumerate(
        [(NOW, 1), (today, 20), (today - 1, 300), (monday, 4_000), (monday - 1, 50_000), (first - 1, 600_000)], 1
    ):
        plane.attempts.records.append(attempt(number, started_at=at, cost_micro=cost, key_id="kalice"))
    plane.attempts.records.append(attempt(9, started_at=NOW, cost_micro=7_000_000, key_id="kbob"))
    status, body, _ = await plane.ask("GET", "/api/v1/key", key="alice")
    assert status == 200
    data = body["data"]
    assert data["label"] == "alice"
    assert [data[name] for name in ("usage", "usage_monthly", "usage_weekly", "usage_daily")] == [
        "0.654321",
        "0.054321",
        "0.004321",
        "0.000021",
    ]
    assert (data["limit"], data["limit_remaining"], data["currency"]) == (None, None, "RUB")
    assert data["is_management_key"] is False


async def test_an_unused_key_has_spent_nothing(plane: Plane) -> None:
    _, body, _ = await plane.ask("GET", "/api/v1/key", key="root")
    assert body["data"]["usage"] == 0
    assert body["data"]["is_management_key"] is True


@pytest.mark.parametrize("day", ["2027-01-04", "2027-01-10", "2027-02-28", "2028-02-29", "2027-12-31"])
async def test_periods_begin_at_midnight_on_monday_and_on_the_first(day: str) -> None:
    now = datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp() + DAY_S - 1
    ever, *starts = periods(now)
    today, monday, first = (datetime.fromtimestamp(at, UTC) for at in starts)
    assert ever == 0
    assert today.isoformat() == f"{day}T00:00:00+00:00"
    assert (monday.weekday(), first.day) == (0, 1)
    assert (today - monday).days < 7
    assert first.month == today.month
