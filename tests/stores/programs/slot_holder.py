"""Takes slots named argv[2] (limit argv[3]) under argv[1]; prints the most holders it ever saw at once.

With argv[4] == "forever" holds one slot until it or its parent is killed; else 20 tasks take turns, each a few times,
and every holder leaves a file in `inside/` while it holds.
"""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from xrouter.core.ids import ulid
from xrouter.stores.slots import HostSlots

root, name, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
started_by = os.getppid()
slots = HostSlots(root / "slots")
inside = root / "inside"


@asynccontextmanager
async def hold(deadline: float) -> AsyncIterator[None]:
    room = slots.room(name, limit, 1_000)
    index = room.take()
    if index is None:
        index = await room.wait("", deadline)
    try:
        yield
    finally:
        room.give_back(index)


async def hold_for_ever(deadline: float) -> None:
    async with hold(deadline):
        sys.stdout.write("held\n")
        sys.stdout.flush()
        while os.getppid() == started_by:
            await asyncio.sleep(0.2)


def holders() -> int:
    return sum(1 for _ in inside.iterdir())


async def take_turns(deadline: float) -> int:
    most = 0
    for _ in range(4):
        async with hold(deadline):
            mark = inside / ulid()
            mark.touch()
            most = max(most, holders())
            await asyncio.sleep(0.002)
            most = max(most, holders())
            mark.unlink()
    return most


async def main() -> None:
    deadline = asyncio.get_running_loop().time() + 30
    if sys.argv[4] == "forever":
        await hold_for_ever(deadline)
    sys.stdin.read(1)
    seen = await asyncio.gather(*(take_turns(deadline) for _ in range(20)))
    sys.stdout.write(f"{max(seen)}\n")


asyncio.run(main())
