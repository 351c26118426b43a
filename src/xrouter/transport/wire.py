"""One connection: a socket, TLS inside of it where the URL wants it, and the answer that it is receiving.

TLS runs over `ssl.MemoryBIO` inside this protocol instead of in the event loop's own transport: uvloop's costs twice as
much for every piece of a stream.
"""

import asyncio
import re
import select
import ssl
from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from typing import Final, cast

from xrouter.transport.answer import Answer

# One read of decrypted bytes; OpenSSL gives at most one record (16 KiB) at a time.
_RECORD_BYTES: Final = 32 * 1024
# Up to this size, copying a body behind its head is cheaper than handing over two pieces.
_ONE_PIECE_BYTES: Final = 16 * 1024
# A proxy's answer to CONNECT.
_MAX_TUNNEL_HEAD_BYTES: Final = 16 * 1024
_TUNNEL_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: |\r?\n)")


class HungUp(ConnectionError):
    """The peer closed before the connection stood."""


class Wire(asyncio.Protocol):
    """A client connection. `since` is the loop time at which it became idle."""

    def __init__(self, loop: AbstractEventLoop, lost: Callable[["Wire"], None]) -> None:
        self._loop = loop
        self._lost = lost
        self._socket: asyncio.Transport | None = None
        self._readable: select.poll | None = None
        self._take: Callable[[bytes], None] = self._nobody_asked
        self._tls: ssl.SSLObject | None = None
        self._arriving = ssl.MemoryBIO()
        self._leaving = ssl.MemoryBIO()
        self._setting_up: Future[bytes] | None = None
        self._head = b""
        self._answer: Answer | None = None
        self._spoilt = False
        self.since = 0.0

    # ── setting up ──

    async def tunnel(self, connect: bytes) -> int:
        """Send a CONNECT request; the proxy's status. Raises `HungUp`, and ValueError for what is no HTTP."""
        self._take = self._tunnel_head
        self._setting_up = self._loop.create_future()
        self._open_socket().write(connect)
        head = await self._setting_up
        status = _TUNNEL_STATUS.match(head)
        if status is None:
            raise ValueError("spoke no HTTP")
        return int(status[1])

    async def start_tls(self, context: ssl.SSLContext, host: str) -> None:
        """Shake hands. Raises `ssl.SSLError`, or `HungUp`."""
        self._open_socket()
        self._tls = context.wrap_bio(self._arriving, self._leaving, server_hostname=host)
        self._take = self._shake
        self._setting_up = self._loop.create_future()
        self._shake(b"")
        await self._setting_up

    def _open_socket(self) -> asyncio.Transport:
        if self._socket is None or self._spoilt:
            raise HungUp("closed the connection")
        return self._socket

    def _tunnel_head(self, data: bytes) -> None:
        self._head += data
        # Before TLS the peer has nothing to say after its head: what follows it would be spoken out of turn.
        if b"\r\n\r\n" in self._head or len(self._head) > _MAX_TUNNEL_HEAD_BYTES:
            self._take = self._nobody_asked
            self._set_up(self._head)

    def _shake(self, data: bytes) -> None:
        assert self._tls is not None
        self._arriving.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._flush()  # the alert that tells the peer why
            if self._setting_up is not None and not self._setting_up.done():
                self._setting_up.set_exception(error)
            return
        else:
            self._take = self._nobody_asked
            self._set_up(b"")
        self._flush()

    def _set_up(self, result: bytes) -> None:
        if self._setting_up is not None and not self._setting_up.done():
            self._setting_up.set_result(result)

    # ── one exchange ──

    def ask(self, head: bytes, body: bytes, name: str) -> Answer:
        """Send a request; the answer that will come. Raises `ConnectionError` when the connection is closed."""
        socket = self._socket
        if socket is None or socket.is_closing():
            raise ConnectionResetError
        answer = self._answer = Answer(self._loop, name, self._pause, self._resume)
        if self._tls is None:
            self._take = answer.feed
            if len(body) <= _ONE_PIECE_BYTES:
                socket.write(head + body)
            else:
                socket.writelines((head, body))
        else:
            self._take = self._decrypt
            self._encrypt(head + body if len(body) <= _ONE_PIECE_BYTES else head)
            if len(body) > _ONE_PIECE_BYTES:
                self._encrypt(body)
        return answer

    def _pause(self) -> None:
        if self._socket is not None and not self._socket.is_closing():
            self._socket.pause_reading()

    def _resume(self) -> None:
        if self._socket is not None and not self._socket.is_closing():
            self._socket.resume_reading()

    def rest(self) -> bool:
        """The exchange is over: True when the connection can serve another one."""
        answer, self._answer = self._answer, None
        self._take = self._nobody_asked
        socket = self._socket
        if answer is None:
            return False
        answer.release()
        return (
            answer.reusable
            and not self._spoilt
            and socket is not None
            and not socket.is_closing()
            and socket.get_write_buffer_size() == 0  # an early answer: the request is still on its way
        )

    @property
    def stale(self) -> bool:
        """Has the peer closed this idle connection, or spoken out of turn?

        Asks the kernel, because the event loop may be behind. Whatever is readable on an idle connection means
        its end: a FIN, a TLS alert, or an answer that nobody asked for, which must not become the answer to the
        next request. 1 us.
        """
        if self._spoilt or self._socket is None or self._socket.is_closing():
            return True
        if self._readable is None:  # kept: the descriptor stays the same as long as there is a socket
            self._readable = select.poll()
            self._readable.register(self._socket.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(self._readable.poll(0))

    @property
    def peer(self) -> str | None:
        """The numeric address at the other end."""
        found = None if self._socket is None else self._socket.get_extra_info("peername")
        return None if found is None else str(found[0])

    def cut(self) -> None:
        """End the connection now. A mere close would first send what is still buffered, and under TLS wait for the
        peer's goodbye while the peer goes on generating."""
        self._spoilt = True
        if self._answer is not None:
            self._answer.fail("eof", "lost its connection: it was closed on our side")
        if self._socket is not None:
            self._socket.abort()

    # ── the event loop's calls ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)  # uvloop's is one by its methods, not by its class

    def data_received(self, data: bytes) -> None:
        self._take(data)

    def eof_received(self) -> None:
        """The peer has sent its last byte. None: the event loop closes our side, too."""
        self._spoilt = True
        self._hang_up()
        if self._answer is not None:
            self._answer.ended(politely=self._tls is None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._spoilt = True
        self._socket = None
        self._hang_up()
        if self._answer is not None:
            if exc is None:
                self._answer.ended(politely=False)
            else:
                self._answer.fail("reset", "reset the connection")
        self._lost(self)

    def _hang_up(self) -> None:
        if self._setting_up is not None and not self._setting_up.done():
            self._setting_up.set_exception(HungUp("closed the connection"))

    def _nobody_asked(self, data: bytes) -> None:
        """Bytes on an idle connection. TLS 1.3 servers send their session tickets there; anything else spoils it."""
        if self._tls is None or self._decrypted(data):
            self._spoilt = True

    # ── TLS ──

    def _decrypt(self, data: bytes) -> None:
        for piece in self._decrypted(data):
            if self._answer is not None:
                self._answer.feed(piece)

    def _decrypted(self, data: bytes) -> list[bytes]:
        """The plain bytes in `data` and what lay before it."""
        tls, pieces = self._tls, []
        assert tls is not None
        self._arriving.write(data)
        try:
            while piece := tls.read(_RECORD_BYTES):
                pieces.append(piece)
            self._farewell(pieces)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self._spoilt = True
            if self._answer is not None:
                for piece in pieces:
                    self._answer.feed(piece)
                self._answer.fail("protocol", "broke TLS")
            return []
        if self._leaving.pending:  # a key update wants an answer
            self._flush()
        return pieces

    def _farewell(self, pieces: list[bytes]) -> None:
        """`close_notify`: the peer's side ends here, in so many words."""
        self._spoilt = True
        if self._answer is not None:
            for piece in pieces:
                self._answer.feed(piece)
            pieces.clear()
            self._answer.ended(politely=True)

    def _encrypt(self, data: bytes) -> None:
        assert self._tls is not None
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        self._flush()

    def _flush(self) -> None:
        if self._leaving.pending and self._socket is not None and not self._socket.is_closing():
            self._socket.write(self._leaving.read())
