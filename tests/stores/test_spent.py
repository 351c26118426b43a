"""What a key has spent, out of the books."""

from sqlalchemy import insert

from xrouter.core.call import State
from xrouter.stores.sql.attempts import SqlAttempts
from xrouter.stores.sql.database import open_database
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
    await database.close()
