"""What a key has spent, out of the books."""

from typing import Any

from sqlalchemy import insert

from xrouter.core.accounts import Kind, Place
from xrouter.core.call import State
from xrouter.core.clock import ManualClock
from xrouter.core.records import AccountSpec, AttemptFilter, KeySpec
from xrouter.core.secret import Secret
from xrouter.stores.sql.accounts import SqlAccounts
from xrouter.stores.sql.attempts import SqlAttempts
from xrouter.stores.sql.database import open_database
from xrouter.stores.sql.keys import SqlKeys
from xrouter.stores.sql.schema import attempts

ROW = {
    "call_id": "c",
    "request_id": "r",
    "number": 1,
    "model": "m",
    "deployment": "d",
    "provider": "p",
    "upstream_model": "m",
    "dialect": "openai",
    "streamed": False,
    "owner": "o",
    "state": State.SUCCEEDED.value,
    "phase": "shown",
    "input_tokens": 1,
    "output_tokens": 1,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "estimated": False,
    "unpriced": False,
}


async def test_each_point_in_time_has_its_own_sum(database_url: str) -> None:
    database = open_database(database_url)
    await database.migrate()
    costs = [("k", 10.0, 1), ("k", 20.0, 20), ("k", 30.0, 2**40), ("other", 30.0, 4_000)]
    rows = [
        ROW | {"id": str(place), "key_id": key, "started_at": at, "cost_micro": cost}
        for place, (key, at, cost) in enumerate(costs)
    ]
    await database.write(lambda connection: connection.execute(insert(attempts), rows))
    log = SqlAttempts(database)
    assert await log.spent_micro("k", (0.0, 20.0, 20.5, 31.0)) == (2**40 + 21, 2**40 + 20, 2**40, 0)
    assert await log.spent_micro("nobody", (0.0,)) == (0,)
    assert await log.spent_by_each(["k", "other", "nobody"], (0.0, 25.0)) == {
        "k": ((2**40 + 21, 2**40), 30.0),
        "other": ((4_000, 4_000), 30.0),
    }
    await database.close()


async def test_what_the_operator_has_spent_may_leave_calls_out(database_url: str) -> None:
    database = open_database(database_url)
    await database.migrate()
    calls = [("shadow-1", 10.0, 1, True), ("shadow-2", 20.0, 20, True), ("shadow-3", 30.0, 300, True),
             ("theirs", 30.0, 4_000, False)]  # fmt: skip
    rows = [
        ROW | {"id": call, "call_id": call, "key_id": "k", "started_at": at, "cost_micro": cost, "on_operator": theirs}
        for call, at, cost, theirs in calls
    ]
    await database.write(lambda connection: connection.execute(insert(attempts), rows))
    log = SqlAttempts(database)
    assert await log.operator_spent_micro("k", 15.0) == 320
    assert await log.operator_spent_micro("k", 0.0, frozenset({"shadow-2", "shadow-9"})) == 301
    assert await log.operator_spent_micro("nobody", 0.0, ["shadow-2"]) == 0
    await database.close()


async def test_the_books_of_a_place_are_those_of_its_keys(database_url: str) -> None:
    database = open_database(database_url)
    await database.migrate()
    keys = SqlKeys(database, Secret("p" * 40), ManualClock(), 1.0)
    accounts = SqlAccounts(database, ManualClock(), keys.learn)
    organisations = [await accounts.make(Kind.ORGANISATION, AccountSpec(name=name), Place()) for name in ("o", "p")]
    owners = [
        (await keys.make(KeySpec(name="k", organisation_id=one.id), "test")).record.id for one in organisations
    ] + [(await keys.make(KeySpec(name="k"), "test")).record.id]
    rows = [
        ROW | {"id": f"{place}", "key_id": key, "started_at": float(place), "cost_micro": 1, "end_user": f"eu_{place}"}
        for place, key in enumerate(owners)
    ]
    await database.write(lambda connection: connection.execute(insert(attempts), rows))
    log = SqlAttempts(database)

    async def seen(**wanted: Any) -> list[str]:
        return [row.id for row in (await log.page(AttemptFilter(**wanted), None, 10)).items]

    assert await seen() == ["2", "1", "0"]
    assert await seen(within=organisations[1].place) == ["1"]
    assert await seen(within=organisations[1].place, key_id=owners[0]) == []
    assert await seen(within=Place(organisations[0].id, "no team")) == []
    assert await seen(end_user="eu_2") == ["2"]
    await database.close()
