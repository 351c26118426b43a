"""A PostgreSQL that is away, frozen, slow or only a standby: nobody waits for long, and all is well after."""

import asyncio
from time import monotonic, sleep  # noqa: TID251 - how long something took
from typing import Any

import pytest
from sqlalchemy import Connection, text, update
from tests.postgres_server import PostgresServer, execute

from xrouter.stores.sql import database as database_module
from xrouter.stores.sql import postgresql
from xrouter.stores.sql.database import Database, DatabaseRefuses, DatabaseUnavailable, open_database
from xrouter.stores.sql.schema import key_version

_LIMIT_S = 0.4


def _one(connection: Connection) -> int:
    found: int = connection.execute(text("SELECT 1")).scalar_one()
    return found


def _sleep(seconds: float) -> Any:
    return lambda connection: connection.execute(text("SELECT pg_sleep(:s)"), {"s": seconds}).all()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same limits, but short."""
    monkeypatch.setattr(database_module, "_SERVER_ANSWERS_S", _LIMIT_S)
    monkeypatch.setattr(postgresql, "STATEMENT_S", _LIMIT_S)
    monkeypatch.setattr(postgresql, "CONNECT_S", _LIMIT_S)


async def _refused(database: Database) -> tuple[DatabaseUnavailable, float]:
    began = monotonic()
    with pytest.raises(DatabaseUnavailable) as caught:
        await database.read(_one)
    return caught.value, monotonic() - began


async def test_a_frozen_server_takes_nobody_longer_than_the_limit(
    hurried: None, own_postgres: PostgresServer, eventually: Any
) -> None:
    database = open_database(own_postgres.url())
    await asyncio.gather(*(database.read(_sleep(0.1)) for _ in range(postgresql.CONNECTIONS)))
    before = asyncio.all_tasks()
    own_postgres.freeze()
    found = await asyncio.gather(*(_refused(database) for _ in range(2 * postgresql.CONNECTIONS)))
    assert max(took for _, took in found) < _LIMIT_S + 0.5
    assert not any(isinstance(error, DatabaseRefuses) for error, _ in found)
    assert {error.message[:21] for error, _ in found} == {"The database did not "}
    own_postgres.thaw()
    began = monotonic()
    assert await database.read(_one) == 1
    assert monotonic() - began < 1
    await eventually(lambda: asyncio.all_tasks() == before)
    await database.close()


async def test_a_frozen_server_lets_nobody_in(hurried: None, own_postgres: PostgresServer) -> None:
    database = open_database(own_postgres.url())
    own_postgres.freeze()
    error, took = await _refused(database)
    assert took < _LIMIT_S + 0.5
    assert str(error)
    own_postgres.thaw()
    assert await database.read(_one) == 1
    await database.close()


async def test_a_slow_statement_ends_at_the_limit_there_and_here(
    hurried: None, postgres_url: str, eventually: Any
) -> None:
    database = open_database(postgres_url)
    began = monotonic()
    with pytest.raises(DatabaseUnavailable):
        await database.read(_sleep(30))
    assert monotonic() - began < _LIMIT_S + 0.5

    async def is_gone() -> bool:
        others = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
        running = text(others + " AND query LIKE '%pg_sleep($%'")
        return not await database.read(lambda connection: connection.execute(running).all())

    await eventually(is_gone)
    await database.close()


async def test_unhurried_work_takes_its_time(hurried: None, postgres_url: str) -> None:
    database = open_database(postgres_url)
    began = monotonic()
    assert len(await database.write_unhurried(_sleep(3 * _LIMIT_S))) == 1
    assert monotonic() - began >= 3 * _LIMIT_S
    await database.close()


async def test_a_restart_is_noticed_by_nobody_who_comes_after_it(own_postgres: PostgresServer) -> None:
    database = open_database(own_postgres.url())
    await asyncio.gather(*(database.read(_sleep(0.05)) for _ in range(4)))
    own_postgres.stop()
    error, took = await _refused(database)
    assert took < 1
    assert not isinstance(error, DatabaseRefuses)
    own_postgres.start()
    assert await asyncio.gather(*(database.read(_one) for _ in range(4))) == [1] * 4
    await database.close()


async def test_a_connection_cut_in_the_middle_of_a_statement_is_an_unavailable_database(
    own_postgres: PostgresServer,
) -> None:
    database = open_database(own_postgres.url())
    await database.read(_one)
    running = asyncio.create_task(database.read(_sleep(30)))
    await asyncio.sleep(0.2)  # it is under way; nothing here tells us so
    await asyncio.to_thread(own_postgres.restart)
    with pytest.raises(DatabaseUnavailable):
        await running
    assert await database.read(_one) == 1
    await database.close()


async def test_what_waiting_cannot_mend_is_told_apart(own_postgres: PostgresServer) -> None:
    url = own_postgres.url()
    password = url.partition("xrouter:")[2].partition("@")[0]
    for wrong in (
        url.replace(password, "wrong"),
        url.replace("/postgres", "/nothing"),
    ):
        database = open_database(wrong)
        error, _ = await _refused(database)
        assert isinstance(error, DatabaseRefuses), (wrong, error)
        assert password not in str(error)
        await database.close()
    execute(url, "CREATE ROLE reader LOGIN PASSWORD 'reader'")
    database = open_database(url.replace(f"xrouter:{password}", "reader:reader"))
    with pytest.raises(DatabaseRefuses):
        await database.migrate()
    await database.close()


@pytest.mark.parametrize(
    "url",
    [
        "mysql://a:sesame@b/c",
        "postgresql:///name",
        "postgresql+psycopg://a:sesame@b/c",
        "postgresql://a:sesame@b/c?sslmode=verify-full&sslrootcert=/nothing/here",
    ],
)
def test_other_urls_are_refused_without_repeating_them(url: str) -> None:
    with pytest.raises(ValueError, match="XROUTER_DATABASE_URL") as caught:
        open_database(url)
    assert "sesame" not in str(caught.value)


async def test_several_hosts_and_their_roles_may_be_named(own_postgres: PostgresServer) -> None:
    several = own_postgres.url().replace("@", "@127.0.0.1:1,") + "?target_session_attrs=read-write"
    database = open_database(several)
    assert await database.read(_one) == 1
    await database.close()


async def test_a_server_that_became_a_standby_is_left_at_once(postgres_url: str) -> None:
    database = open_database(postgres_url)
    await database.migrate()
    demote = text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
    await database.read(lambda connection: connection.execute(demote).close())
    create = text("CREATE TABLE t (n int)")
    with pytest.raises(DatabaseUnavailable, match="read-only"):
        await database.write(lambda connection: connection.execute(create).close())
    await database.write(lambda connection: connection.execute(create).close())
    await database.close()


async def test_a_process_that_freezes_in_a_transaction_does_not_lock_out_the_others_for_ever(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BEGIN_WRITING", database_module.BEGIN_WRITING.replace("30s", "300ms"))
    frozen, other = open_database(postgres_url), open_database(postgres_url)
    await other.migrate()

    def freeze(connection: Connection) -> None:
        connection.execute(update(key_version).values(version=1))
        sleep(1)  # the whole process, with its event loop
        connection.execute(update(key_version).values(version=2))

    with pytest.raises(DatabaseUnavailable):
        await frozen.write(freeze)
    await other.write(lambda connection: connection.execute(update(key_version).values(version=3)).close())
    for database in (frozen, other):
        await database.close()


async def test_a_pooler_may_give_each_transaction_another_connection(postgres_url: str) -> None:
    """So nothing of a transaction stays behind in its session, prepared statements least of all."""
    database = open_database(postgres_url)
    await database.migrate()
    for _ in range(3):
        await database.write(lambda connection: connection.execute(update(key_version).values(version=3)).close())
    left = text("SELECT name FROM pg_prepared_statements WHERE name <> ''")
    assert await database.read(lambda connection: connection.execute(left).all()) == []
    await database.close()
