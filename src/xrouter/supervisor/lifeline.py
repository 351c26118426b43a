"""The socket pair between the supervisor and one worker.

Up: a byte when the worker serves, then one for each heartbeat of its event loop. Down: a byte that asks the
worker to retire, and one that asks it to look at the configuration. When either end dies, the kernel closes it and
the other one reads its end.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

READY: Final = b"r"
ALIVE: Final = b"."
RETIRE: Final = b"t"
RELOAD: Final = b"l"

_MOST_BYTES: Final = 4096


class Lifeline:
    """One end, watched by the running event loop. `on_bytes` gets what arrives, `on_end` the other's death."""

    def __init__(self, end: socket.socket, *, on_bytes: Callable[[bytes], None], on_end: Callable[[], None]) -> None:
        self._end = end
        self._on_bytes = on_bytes
        self._on_end = on_end
        end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._readable)

    def send(self, word: bytes) -> None:
        """Never waits: when the other side reads nothing, one word less does not matter."""
        try:
            self._end.send(word)
        except OSError:
            return

    def close(self) -> None:
        self._loop.remove_reader(self._end)
        self._end.close()

    def _readable(self) -> None:
        try:
            data = self._end.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._on_bytes(data)
        else:
            self._loop.remove_reader(self._end)
            self._on_end()
