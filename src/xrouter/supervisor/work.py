"""What a worker does beside serving: it tells the supervisor that it lives, and notices when nobody listens."""

import asyncio
import socket
from collections.abc import Sequence

import structlog

from xrouter.settings import Settings
from xrouter.supervisor.lifeline import ALIVE, READY, RETIRE, Lifeline
from xrouter.supervisor.serve import OpenApplication, serve_one
from xrouter.supervisor.shutdown import Shutdown

_log = structlog.get_logger()


async def work(settings: Settings, open_app: OpenApplication, arguments: Sequence[str]) -> int:
    """Serve as one of several; the exit code.

    `arguments` come from the supervisor: the descriptor of the listening socket, that of the lifeline, and
    the seconds between two heartbeats.
    """
    listener = socket.socket(fileno=int(arguments[0]))
    heartbeat_s = float(arguments[2])
    shutdown = Shutdown()

    def told(words: bytes) -> None:
        if RETIRE in words:
            # The other workers take new connections; those that we have get time to move over.
            shutdown.begin(settings.drain_delay_s, keep_listening=False)

    def orphaned() -> None:
        if not shutdown.begun.is_set():
            _log.error("the supervisor is gone; draining")
        shutdown.begin(keep_listening=False)

    lifeline = Lifeline(socket.socket(fileno=int(arguments[1])), on_bytes=told, on_end=orphaned)
    beating = asyncio.create_task(_beat(lifeline, heartbeat_s))
    try:
        return await serve_one(
            settings, open_app, lambda url: lifeline.send(READY), listener=listener, shutdown=shutdown
        )
    finally:
        beating.cancel()
        lifeline.close()


async def _beat(lifeline: Lifeline, every_s: float) -> None:
    while True:
        lifeline.send(ALIVE)
        await asyncio.sleep(every_s)
