"""One answer on one connection, byte by byte.

aiohttp reads the requests; the answers are written here by hand, because a faithful vendor must also be able
to lie about lengths, forget a terminating chunk and reset the connection.
"""

import asyncio
import socket
import struct
from collections.abc import Sequence
from email.utils import formatdate
from enum import Enum
from http import HTTPStatus
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from xrouter.core.clock import Clock
from xrouter.simulators.counters import Row

Headers = Sequence[tuple[str, str]]

REDIRECTED: Final = "/redirected"

_PHRASES: Final = {status.value: status.phrase for status in HTTPStatus} | {529: "Site is overloaded"}
_HEAD_START_S: Final = 0.02
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Framing(Enum):
    """How the client learns where the body ends (RFC 9112, section 6.3)."""

    LENGTH = "Content-Length"
    CHUNKED = "Transfer-Encoding: chunked"
    CLOSE = "the end of the connection"


class Written(web.StreamResponse):
    """Tells aiohttp that the answer is already on the wire, and whether another may follow."""

    def __init__(self, *, keep_alive: bool) -> None:
        super().__init__()
        self._may_follow = keep_alive

    @property
    def keep_alive(self) -> bool:
        return self._may_follow

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        return None


class Wire:
    """Writes one answer. Whatever is put is sent by the next `flush`, `end`, `hang_up` or `reset`.

    `pending` is how many bytes of the body wait for that. Sending raises ConnectionResetError once the client has left.
    """

    def __init__(self, request: web.Request, row: Row, clock: Clock) -> None:
        self._request = request
        self._clock = clock
        self._framing = Framing.LENGTH
        self._keep_alive = request.keep_alive
        self._buffer: list[bytes] = []
        self.pending = 0
        self.row = row

    @property
    def written(self) -> Written:
        """What the handler gives back to aiohttp."""
        return Written(keep_alive=self._keep_alive)

    @property
    def client_left(self) -> bool:
        transport = self._request.transport
        return transport is None or transport.is_closing()

    @property
    def elsewhere(self) -> str:
        """This server under another host name, at a path that counts who follows."""
        url = self._request.url
        host = "127.0.0.1" if url.host == "localhost" else "localhost"
        return f"http://{host}:{url.port}{REDIRECTED}"

    def head(self, status: int, headers: Headers, framing: Framing, length: int = 0) -> None:
        """Status line and headers. `length` is what Content-Length claims."""
        self.row.status = status
        self._framing = framing
        lines = [f"HTTP/1.1 {status} {_PHRASES.get(status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers]
        if framing is Framing.LENGTH:
            lines.append(f"Content-Length: {length}")
        elif framing is Framing.CHUNKED:
            lines.append("Transfer-Encoding: chunked")
        else:
            self._keep_alive = False
        if not self._keep_alive:
            lines.append("Connection: close")
        lines.append(f"Date: {formatdate(self._clock.now(), usegmt=True)}\r\n\r\n")
        self._buffer.append("\r\n".join(lines).encode("latin-1"))

    def put(self, data: bytes) -> None:
        """A piece of the body; in chunked framing it becomes one chunk."""
        if self._framing is Framing.CHUNKED:
            self._buffer.append(b"%x\r\n%b\r\n" % (len(data), data))
        else:
            self._buffer.append(data)
        self.row.bytes += len(data)
        self.pending += len(data)

    async def flush(self) -> None:
        """Send what was put; wait while the client does not read."""
        transport = self._request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has left")
        if self._buffer:
            transport.write(b"".join(self._buffer))
            self._buffer.clear()
            self.pending = 0
            await self._request.writer.drain()

    async def end(self) -> None:
        """The proper end of the body."""
        if self._framing is Framing.CHUNKED:
            self._buffer.append(b"0\r\n\r\n")
        await self.flush()
        if self._framing is Framing.CLOSE:
            self._close()

    async def hang_up(self) -> None:
        """Send the rest and close in order (FIN), whatever the framing promised."""
        await self.flush()
        self._close()

    async def reset(self) -> None:
        """Send the rest and reset the connection (RST).

        Many clients drop what they have not read yet when a reset arrives, so what was sent gets a head start.
        """
        await self.flush()
        if self.row.status:
            await asyncio.sleep(_HEAD_START_S)
        self._keep_alive = False
        transport = self._request.transport
        if transport is not None:
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            transport.abort()

    async def hold(self) -> None:
        """Say nothing more until the client leaves."""
        await self.flush()
        await asyncio.Event().wait()

    def _close(self) -> None:
        self._keep_alive = False
        if self._request.transport is not None:
            self._request.transport.close()
