"""Answers to repeated writes, in both databases: made once, kept a day, and never readable there."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import Connection, select

from xrouter.core.clock import ManualClock
from xrouter.core.errors import Conflict, IdempotencyMismatch
from xrouter.core.ports import StoredAnswer, Turn
from xrouter.core.secret import Secret
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.idempotency import SqlIdempotentWrites
from xrouter.stores.sql.schema import idempotent_writes

ONE, OTHER = b"1" * 32, b"2" * 32
BODY = b'{"key": "sk-xr-v1-canary"}'


@pytest.fixture
def writes(database: Database, clock: ManualClock) -> SqlIdempotentWrites:
    return SqlIdempotentWrites(database, Secret("pepper" * 8), clock)


async def begun(writes: SqlIdempotentWrites, name: str = "k mine") -> Turn:
    turn = await writes.begin(name, ONE)
    assert isinstance(turn, Turn)
    return turn


async def test_an_answer_is_kept_for_a_day(writes: SqlIdempotentWrites, clock: ManualClock) -> None:
    await writes.keep(await begun(writes), 201, BODY)
    clock.advance(86_399)
    assert await writes.begin("k mine", ONE) == StoredAnswer(201, BODY)
    with pytest.raises(IdempotencyMismatch):
        await writes.begin("k mine", OTHER)
    await begun(writes, "other mine")
    clock.advance(2)
    await begun(writes)


async def test_nothing_of_an_answer_or_its_name_can_be_read(writes: SqlIdempotentWrites, database: Database) -> None:
    await writes.keep(await begun(writes), 201, BODY)

    def rows(connection: Connection) -> str:
        return repr(connection.execute(select(idempotent_writes)).all())

    stored = await database.read(rows)
    assert "canary" not in stored
    assert "mine" not in stored


async def test_of_many_that_begin_at_once_one_writes(writes: SqlIdempotentWrites, clock: ManualClock) -> None:
    done = await asyncio.gather(*(writes.begin("k mine", ONE) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(one, Turn) for one in done) == 1
    assert sum(isinstance(one, Conflict) for one in done) == 9
    clock.advance(61)  # its process has died
    await begun(writes)


async def test_a_turn_that_was_lost_writes_nothing(writes: SqlIdempotentWrites, clock: ManualClock) -> None:
    late = await begun(writes)
    clock.advance(61)
    current = await begun(writes)
    await writes.keep(late, 201, b"late")
    await writes.free(late)
    with pytest.raises(Conflict):
        await writes.begin("k mine", ONE)
    await writes.keep(current, 200, b"current")
    assert await writes.begin("k mine", ONE) == StoredAnswer(200, b"current")


async def test_a_freed_name_may_be_used_for_something_else(writes: SqlIdempotentWrites) -> None:
    await writes.free(await begun(writes))
    assert isinstance(await writes.begin("k mine", OTHER), Turn)


async def test_old_rows_go(writes: SqlIdempotentWrites, database: Database, clock: ManualClock) -> None:
    for number in range(5):
        await begun(writes, f"k {number}")
    clock.advance(86_401)
    await begun(writes, "k last")

    def count(connection: Connection) -> Any:
        return len(connection.execute(select(idempotent_writes.c.id)).all())

    assert await database.read(count) == 1
