"""`xrouter serve` on a machine that has faults of its own: names below `.nowhere.test` do not exist, those below
`.slow.test` are looked for longer than anybody waits, and the wall clock jumps by an hour, ahead
or back, every second."""

import asyncio
import socket
import sys
import time

from xrouter.cli import main
from xrouter.core.clock import SystemClock
from xrouter.transport.guard import GuardedLookup

HOUR_S = 3600.0

_resolve = GuardedLookup._resolve


async def resolve(self: GuardedLookup, host: str) -> list[str]:
    if host.endswith(".nowhere.test"):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
    if host.endswith(".slow.test"):
        await asyncio.sleep(HOUR_S)
    return await _resolve(self, host)


def jumping() -> float:
    now = time.time()
    return now + HOUR_S * (1 - int(now) % 3)


if __name__ == "__main__":
    GuardedLookup._resolve = resolve  # type: ignore[method-assign]
    SystemClock.now = staticmethod(jumping)
    sys.argv[1:] = ["serve"]
    sys.exit(main())
