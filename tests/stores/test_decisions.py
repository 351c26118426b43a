"""Decisions in the books, the configurations that they were made by, and how well each deployment did."""

import asyncio
from typing import Any

from sqlalchemy import insert, select
from tests.stores.rows import made_up

from xrouter.core.call import State
from xrouter.stores.sql.attempts import SqlAttempts
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.decisions import SqlDecisions
from xrouter.stores.sql.schema import attempts, configurations

NOW = 1_800_000_000.0


async def fill(database: Database, rows: list[dict[str, Any]]) -> None:
    made = [made_up(attempts, number) | row for number, row in enumerate(rows)]
    await database.write(lambda connection: connection.execute(insert(attempts), made))


async def test_decisions_come_in_their_order_and_only_those_of_the_time(database: Database) -> None:
    rows = [
        {"started_at": NOW + number // 3, "decision": None if number % 5 == 0 else bytes([number % 256, 255, 0])}
        for number in range(1_300)
    ]
    await fill(database, rows)
    decisions = SqlDecisions(database)
    found = [one async for one in decisions.all()]
    wanted = [row["decision"] for row in rows if row["decision"] is not None]
    assert [one.started_at for one in found] == sorted(one.started_at for one in found)
    assert sorted(one.decision for one in found) == sorted(wanted)
    some = [one async for one in decisions.all(NOW + 10, NOW + 20)]
    assert [one.started_at for one in some] == [
        row["started_at"] for row in rows if row["decision"] and NOW + 10 <= row["started_at"] < NOW + 20
    ]


async def test_a_configuration_is_kept_once_whoever_says_it(database: Database) -> None:
    decisions = SqlDecisions(database)
    await asyncio.gather(*(decisions.keep("abc", f'{{"by": {number}}}', NOW + number) for number in range(5)))
    await decisions.keep("def", "{}", NOW)
    rows = await database.read(lambda connection: connection.execute(select(configurations)).all())
    assert sorted(row.revision for row in rows) == ["abc", "def"]
    assert await decisions.picture("def") == "{}"
    assert await decisions.picture("nobody") is None


async def test_uptime_is_the_share_of_good_minutes(database: Database) -> None:
    """Four of five must have succeeded; what the client did, and a 429, counts for nothing."""
    good = {"state": State.SUCCEEDED.value, "upstream_status": 200}
    bad = {"state": State.FAILED.value, "upstream_status": 503}
    lost = {"state": State.FAILED.value, "upstream_status": None}
    theirs = {"state": State.FAILED.value, "upstream_status": 400}
    busy = {"state": State.FAILED.value, "upstream_status": 429}
    left = {"state": State.CANCELLED.value, "upstream_status": 200}

    def at(minutes_ago: int, *each: dict[str, Any], deployment: str = "a/m") -> list[dict[str, Any]]:
        return [{"deployment": deployment, "started_at": NOW - 60 * minutes_ago + 0.5, **one} for one in each]

    await fill(
        database,
        [
            *at(1, good, good, good, good, bad),  # a good minute: four of five
            *at(2, good, good, good, lost),  # a bad one
            *at(3, good, theirs, busy, left),
            *at(20, bad),
            *at(600, good),
            *at(1_500, bad),  # more than a day ago
            *at(1, theirs, deployment="b/m"),
            *at(2, bad, deployment="c/m"),
        ],
    )
    found = await SqlAttempts(database).uptimes((NOW - 300, NOW - 1_800, NOW - 86_400))
    assert found["a/m"] == (66.67, 50.0, 60.0)
    assert "b/m" not in found
    assert found["c/m"] == (0.0, 0.0, 0.0)
