"""Runs a flusher over the journals in argv[1] into the database argv[2] until it is killed."""

import asyncio
import sys
from pathlib import Path

from xrouter.core.clock import SystemClock
from xrouter.stores.flusher import Flusher
from xrouter.stores.sql.database import open_database


async def main() -> None:
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    await Flusher(Path(sys.argv[1]), open_database(sys.argv[2]), SystemClock(), 0.001).run()


asyncio.run(main())
