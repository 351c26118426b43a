"""Both databases for every test that takes `database`: once on SQLite, once on PostgreSQL. A pytest plugin.

That is how a store joins the conformance suite: its tests take `database` (our tables at their newest revision),
`database_url` (an empty database) or `switchable` (a database that the test can take away), wherever they stand.
"""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from xrouter.stores.sql.database import Database, DatabaseUnavailable, open_database


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database, without our tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'xrouter.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """Our tables, empty."""
    opened = open_database(database_url)
    await opened.migrate()
    yield opened
    await opened.close()


class Switchable(Database):
    """A database that a test can take away."""

    def __init__(self, inner: Database) -> None:
        super().__init__(inner._engine, inner._unhurried)
        self.away = False
        self.reads = 0

    async def read(self, work: Callable[[Connection], Any]) -> Any:
        self.reads += 1
        if self.away:
            raise DatabaseUnavailable("switched off")
        return await super().read(work)

    async def write(self, work: Callable[[Connection], Any]) -> Any:
        if self.away:
            raise DatabaseUnavailable("switched off")
        return await super().write(work)


@pytest.fixture
def switchable(database: Database) -> Switchable:
    return Switchable(database)
