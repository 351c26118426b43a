"""Runs a flusher over the journals in argv[1] into the database argv[2] until it or its parent is killed."""

import asyncio
import os
import sys
from pathlib import Path

from xrouter.core.clock import SystemClock
from xrouter.stores.flusher import Flusher
from xrouter.stores.sql.database import open_database


async def main() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    flushing = asyncio.create_task(Flusher(Path(sys.argv[1]), open_database(sys.argv[2]), SystemClock(), 0.001).run())
    while os.getppid() == started_by and not flushing.done():
        await asyncio.sleep(0.2)


started_by = os.getppid()


asyncio.run(main())
