"""One of several: serves like a single process, tells its supervisor that it lives, and ends when it is gone."""

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from xrouter.core.ports import Topics
from xrouter.settings import Settings
from xrouter.supervisor.lifeline import ALIVE, READY, RELOAD, RETIRE, Lifeline
from xrouter.supervisor.serve_one import Application, serve_one
from xrouter.supervisor.shutdown import Shutdown
from xrouter.supervisor.siblings import Siblings

_log = structlog.get_logger()


class Arguments(NamedTuple):
    """What a supervisor tells its worker on the command line: the descriptors of the listening socket and of the
    lifeline, which the worker inherits, and the seconds between two heartbeats."""

    listener_fd: int
    lifeline_fd: int
    heartbeat_s: float

    @classmethod
    def read(cls, words: Sequence[str]) -> "Arguments":
        """From the command line. Raises ValueError."""
        listener_fd, lifeline_fd, heartbeat_s = words
        return cls(int(listener_fd), int(lifeline_fd), float(heartbeat_s))

    def written(self) -> list[str]:
        """For the command line."""
        return [str(value) for value in self]


OpenWorker = Callable[[Topics], Awaitable[Application]]
"""Opens the application of one worker, which speaks with the others by what is given."""


async def serve_as_worker(settings: Settings, open_app: OpenWorker, arguments: Arguments) -> int:
    """Serve until the supervisor says so, or is gone; the exit code."""
    listener = socket.socket(fileno=arguments.listener_fd)
    shutdown = Shutdown()

    def told(words: bytes) -> None:
        if RETIRE in words:
            # The other workers take new connections; those that we have get time to move over.
            shutdown.begin(settings.drain_delay_s, keep_listening=False)
        if RELOAD in words:
            signal.raise_signal(signal.SIGHUP)

    def orphaned() -> None:
        if not shutdown.begun.is_set():
            _log.error("the supervisor is gone; draining")
        shutdown.begin(keep_listening=False)

    # Until the application watches its configuration, which begins with a look at it, there is nothing to be told.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)
    siblings = Siblings()
    lifeline = Lifeline(
        socket.socket(fileno=arguments.lifeline_fd), on_bytes=told, on_end=orphaned, on_message=siblings.take
    )
    siblings.join(lifeline)
    beating = asyncio.create_task(_beat(lifeline, arguments.heartbeat_s))
    try:
        return await serve_one(
            settings,
            lambda: open_app(siblings),
            lambda url: lifeline.send(READY),
            listener=listener,
            shutdown=shutdown,
        )
    finally:
        beating.cancel()
        lifeline.close()


async def _beat(lifeline: Lifeline, every_s: float) -> None:
    while True:
        lifeline.send(ALIVE)
        await asyncio.sleep(every_s)
