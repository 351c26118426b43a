"""The life of one serving process: open, serve until told to end, drain, close.

SIGTERM: `/health/ready` turns 503 and answers say `Connection: close`, but new connections are still served
for `drain_delay_s`, until load balancers have noticed. Then the listener closes and running calls get
`drain_max_s` to finish; what still runs gets an error event and is settled. Last the journal is flushed.
SIGINT is the same without the delay and with 5 s at most; a second one waits for nothing. SIGKILL is what the
journal is for.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import structlog

from xrouter.core.errors import GatewayError
from xrouter.settings import Settings
from xrouter.supervisor import garbage, large_pages
from xrouter.supervisor.http_server import Asgi, HttpServer
from xrouter.supervisor.listening import bind, url_of
from xrouter.supervisor.protocol import guarded
from xrouter.supervisor.shutdown import Shutdown

INTERRUPTED: Final = 130
"""Exit code after a second Ctrl-C, as shells expect it (128 + SIGINT)."""

LAST_WORDS_S: Final = 5.0
"""How long the error events at the end of a drain may take to be written, and then to be sent."""

HURRIED_WORDS_S: Final = 0.2
"""The same after a second Ctrl-C."""

CLOSE_S: Final = 10.0
"""How long closing (the last flush) may take; beyond it the journal keeps the rest for the next start."""

_PAUSE_S: Final = 0.01

_log = structlog.get_logger()

Announce = Callable[[str], None]
"""Gets the URL with the real port, once requests are answered there."""


class Application(Protocol):
    """A started `app.App`, as seen from here."""

    @property
    def asgi(self) -> Asgi: ...

    @property
    def in_flight(self) -> int:
        """Requests from their first byte to the last of their answer."""
        ...

    def drain_begin(self) -> None:
        """Not ready from now on; answers carry `Connection: close`."""
        ...

    async def drain_end(self, deadline_s: float) -> None:
        """Each running stream gets the error event `server_shutdown` and is settled."""
        ...

    async def close(self) -> None:
        """Flush and let go of everything. Raises `GatewayError` where not everything could be flushed."""
        ...


OpenApplication = Callable[[], Awaitable[Application]]


async def serve_one(
    settings: Settings,
    open_app: OpenApplication,
    announce: Announce,
    *,
    listener: socket.socket | None = None,
    shutdown: Shutdown | None = None,
) -> int:
    """Serve until a signal; the process's exit code.

    `listener` is a bound socket, else one is bound to `settings.host` and `settings.port`. Raises `ConfigError`
    where that is impossible, and whatever `open_app` raises.
    """
    shutdown = shutdown or Shutdown()
    with shutdown.on_signals(settings.drain_delay_s):
        listener = listener or await bind(settings.host, settings.port)
        url = url_of(listener)
        application = await open_app()
        try:
            protocol = guarded(max_head_bytes=settings.max_header_bytes, write_timeout_s=settings.write_timeout_s)
            server = HttpServer(application.asgi, listener, protocol)
            if not shutdown.begun.is_set():
                garbage.settle()
                await server.open()
                announce(url)
                await asyncio.to_thread(large_pages.use)  # takes a tenth of a second, and stops nobody
                await shutdown.begun.wait()
                await _drain(application, server, shutdown, min(settings.drain_max_s, shutdown.max_s))
        finally:
            closed = await _close(application)
    if shutdown.at_once.is_set():
        return INTERRUPTED
    return 0 if closed else 1


async def _drain(application: Application, server: HttpServer, shutdown: Shutdown, drain_max_s: float) -> None:
    application.drain_begin()
    if not shutdown.keep_listening:
        server.stop_listening()
    _log.info("draining", pid=os.getpid(), in_flight=application.in_flight, delay_s=shutdown.delay_s)
    await shutdown.hurried_within(shutdown.delay_s)
    server.stop_listening()
    server.end_connections()
    finished = await _finished(application, server, shutdown, drain_max_s)
    if not finished:
        _log.warning("ending requests", in_flight=application.in_flight)
        await application.drain_end(_last_words_s(shutdown))
    cut = await server.close(_last_words_s(shutdown))
    _log.info("drained", pid=os.getpid(), finished=finished, cut=cut)


def _last_words_s(shutdown: Shutdown) -> float:
    return HURRIED_WORDS_S if shutdown.at_once.is_set() else LAST_WORDS_S


async def _finished(application: Application, server: HttpServer, shutdown: Shutdown, limit_s: float) -> bool:
    """Wait for the running requests; false when there is a hurry or the time is up."""
    loop = asyncio.get_running_loop()
    until = loop.time() + limit_s
    while application.in_flight or not server.idle:
        if loop.time() >= until or await shutdown.hurried_within(_PAUSE_S):
            return False
    return True


async def _close(application: Application) -> bool:
    try:
        async with asyncio.timeout(CLOSE_S):
            await application.close()
    except TimeoutError:
        _log.error("closing took too long; the journal keeps what is not in the database", limit_s=CLOSE_S)
        return False
    except GatewayError as error:
        _log.error("the journal keeps what is not in the database", reason=error.message)
        return False
    return True
