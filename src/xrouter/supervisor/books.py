"""What the supervisor does with the database on behalf of its workers."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from xrouter.settings import Settings
from xrouter.stores.books import open_books
from xrouter.telemetry.metrics import Metrics

_FIGURES_S = 1.0


@asynccontextmanager
async def keep_books(settings: Settings, metrics: Metrics) -> AsyncIterator[None]:
    """Bring the schema to head and the bootstrap key in force, then move journals to the database until the
    end, and everything that is left of them at the end, when the workers are gone.

    Raises `ConfigError`, and at the end `DatabaseUnavailable`: then the journals keep everything."""
    books = open_books(settings)
    tasks = await books.prepare_now_or_later()
    tasks.append(asyncio.create_task(books.flusher.run()))

    async def tell() -> None:
        while True:
            await asyncio.sleep(_FIGURES_S)
            metrics.flusher_stands(books.flusher)

    tasks.append(asyncio.create_task(tell()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            await books.flusher.flush_all()
        finally:
            books.flusher.close()
            await books.database.close()
