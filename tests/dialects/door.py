"""The data plane on a real socket, before a gateway whose providers play scripts."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import uvicorn
from tests.gateway.script import World

from xrouter.core.call import Caller, Scope
from xrouter.dialects.data_plane import DataPlane
from xrouter.dialects.limits import Limits

KEY = "sk-door"
LIMITS = Limits(max_body_bytes=1 << 20, status_wait_s=5, ping_s=5, max_in_flight=50, trusted_proxies=0)


class OneKey:
    """Knows `KEY` and nobody else."""

    def known(self, credential: str) -> Caller | None:
        return Caller("k", "door", frozenset({Scope.MODELS})) if credential == KEY else None

    async def look_up(self, credential: str) -> Caller | None:
        return None


@asynccontextmanager
async def door(place: World, **limits: Any) -> AsyncIterator[str]:
    """The base URL of a data plane before `place`."""
    plane = DataPlane(replace(place.gateway, keys=OneKey()), replace(LIMITS, **limits))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    server = uvicorn.Server(
        uvicorn.Config(plane, http="httptools", ws="none", lifespan="off", log_level="critical", server_header=False)  # type: ignore[arg-type]
    )
    running = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        await running
        listener.close()
