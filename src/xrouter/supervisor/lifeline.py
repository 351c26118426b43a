"""The socket pair between the supervisor and one worker.

Up: a byte when the worker serves, then one for each heartbeat of its event loop. Down: a byte that asks the
worker to retire, and one that asks it to look at the configuration. Both ways: messages of one line for the other
workers, which the supervisor passes on. When either end dies, the kernel closes it and the other one reads its end.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final

READY: Final = b"r"
ALIVE: Final = b"."
RETIRE: Final = b"t"
RELOAD: Final = b"l"

_MESSAGE: Final = b"\x01"
_END: Final = b"\n"
_MOST_BYTES: Final = 64 * 1024
_MOST_HELD: Final = 1024 * 1024


def _nobody(_: bytes) -> None: ...


class Lifeline:
    """One end, watched by the running event loop. `on_bytes` gets each word, `on_message` each message, `on_end` is
    told of the other's death."""

    def __init__(
        self,
        end: socket.socket,
        *,
        on_bytes: Callable[[bytes], None],
        on_end: Callable[[], None],
        on_message: Callable[[bytes], None] = _nobody,
    ) -> None:
        self._end = end
        self._on_bytes = on_bytes
        self._on_end = on_end
        self._on_message = on_message
        self._came = b""
        self._held = b""
        end.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(end, self._readable)

    def send(self, word: bytes) -> None:
        """Never waits: when the other side reads nothing, one word less does not matter."""
        if self._held:
            self._hold(word)
            return
        try:
            sent = self._end.send(word)
        except BlockingIOError:
            sent = 0
        except OSError:
            return
        if sent < len(word):
            self._hold(word[sent:], begun=sent > 0)

    def send_message(self, words: bytes) -> None:
        """The same for a message; it must not hold a line's end."""
        self.send(_MESSAGE + words + _END)

    def close(self) -> None:
        self._loop.remove_reader(self._end)
        self._loop.remove_writer(self._end)
        self._end.close()

    def _hold(self, rest: bytes, *, begun: bool = False) -> None:
        """Until the other side reads. Messages not without bounds; but what has begun must end."""
        if begun or len(rest) == 1 or len(self._held) + len(rest) <= _MOST_HELD:
            if not self._held:
                self._loop.add_writer(self._end, self._writable)
            self._held += rest

    def _writable(self) -> None:
        try:
            self._held = self._held[self._end.send(self._held) :]
        except BlockingIOError:
            return
        except OSError:
            self._held = b""
        if not self._held:
            self._loop.remove_writer(self._end)

    def _readable(self) -> None:
        try:
            data = self._end.recv(_MOST_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._came += data
            self._read()
        else:
            self._loop.remove_reader(self._end)
            self._on_end()

    def _read(self) -> None:
        while self._came:
            words, _, rest = self._came.partition(_MESSAGE)
            if words:
                self._came = self._came[len(words) :]
                self._on_bytes(words)
                continue
            message, ended, rest = rest.partition(_END)
            if not ended:
                if len(self._came) > _MOST_HELD:
                    self._came = b""  # nobody of ours says so much
                return
            self._came = rest
            self._on_message(message)
