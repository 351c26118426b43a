"""uvicorn as a library: its HTTP protocol on our socket, without its signals, lifespan and access log."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import uvicorn

from xrouter.settings import ConfigError
from xrouter.supervisor.listening import BACKLOG, url_of

Asgi = Callable[
    [MutableMapping[str, Any], Callable[[], Awaitable[Any]], Callable[[MutableMapping[str, Any]], Awaitable[None]]],
    Awaitable[None],
]

KEEP_ALIVE_S: Final = 75
"""Longer than the 60 s of common load balancers, so that they, not we, end idle connections."""

_PAUSE_S: Final = 0.01


class HttpServer:
    """Serves `asgi` on one bound socket. `protocol` is the class that reads and writes HTTP/1.1."""

    def __init__(self, asgi: Asgi, listener: socket.socket, protocol: type[asyncio.Protocol]) -> None:
        config = uvicorn.Config(
            asgi,
            http=protocol,
            ws="none",
            loop="uvloop",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_S,
        )
        config.load()
        self._server = uvicorn.Server(config)
        self._server.lifespan = config.lifespan_class(config)
        self._listener = listener
        self._state = self._server.server_state
        self._ticks: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Listen and serve. Takes the socket over. Raises `ConfigError` where another process that bound the
        same address was faster to listen on it."""
        try:
            await self._server.startup(sockets=[self._listener])
        except OSError as error:
            raise ConfigError(f"cannot listen on {url_of(self._listener)}: {error.strerror}") from None
        self._ticks = asyncio.create_task(self._server.main_loop())  # keeps the Date header right

    def stop_listening(self) -> None:
        """No new connections from now on."""
        for server in self._server.servers:
            server.close()
        self._listener.close()

    def end_connections(self) -> None:
        """Close idle connections now, the others after the answer that they are in."""
        for connection in list(self._state.connections):
            connection.shutdown()

    @property
    def idle(self) -> bool:
        """No request is being answered."""
        return not self._state.tasks

    async def close(self, deadline_s: float) -> int:
        """Wait for answers to end and to be sent, then cut what is left; how many requests were cut."""
        until = asyncio.get_running_loop().time() + deadline_s
        while (  # noqa: ASYNC110 - uvicorn has no event for it, and it happens once in a life
            self._state.tasks or self._state.connections
        ) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(_PAUSE_S)
        left = list(self._state.tasks)
        for task in left:
            task.cancel()
        for connection in list(self._state.connections):
            connection.transport.abort()
        if left:
            await asyncio.wait(left, timeout=1.0)
        if self._ticks is not None:
            self._server.should_exit = True
            self._ticks.cancel()
            await asyncio.wait([self._ticks])
        return len(left)
