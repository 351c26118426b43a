"""A scripted HTTP server on a raw socket, a transport that may reach it, and both event loops we run on."""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio
import trustme
import uvloop

from xrouter.transport.client import HttpTransport, open_transport


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, Any]:
    return {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}


@dataclass(eq=False)
class Peer:
    """The server's end of one connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    number: int

    async def request(self) -> bytes:
        """Head and body of the next request; b"" when the client has gone."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        length = 0
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                length = int(line.partition(b":")[2])
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End with RST instead of FIN."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass(eq=False)
class Server:
    """`script` runs for every connection; when it returns, the connection is closed."""

    script: Script
    port: int = 0
    connections: int = 0
    peers: list[Peer] = field(default_factory=list)
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set each time a script ends."""
    _tasks: set["asyncio.Task[None]"] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/chat/completions"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer, self.connections)
        self.connections += 1
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.script(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client may go at any time, and the fixture ends what still waits
        finally:
            self._tasks.discard(task)
            self.ended.set()
            writer.close()

    async def stop(self) -> None:
        while self._tasks:
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.sleep(0)


@pytest_asyncio.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[Server]]]:
    """`await serve(script, tls=None)` starts a server; all of them stop after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(script: Script, tls: ssl.SSLContext | None = None) -> Server:
            server = Server(script)
            listener = await asyncio.start_server(server.accept, "127.0.0.1", 0, ssl=tls)
            server.port = listener.sockets[0].getsockname()[1]
            stack.push_async_callback(server.stop)
            stack.callback(listener.close)
            return server

        yield start


@pytest_asyncio.fixture
async def dial() -> AsyncIterator[Callable[..., HttpTransport]]:
    """`dial(**settings)` opens a transport that trusts 127.0.0.1; all of them close after the test."""
    opened: list[HttpTransport] = []

    def open_one(**settings: Any) -> HttpTransport:
        defaults: dict[str, Any] = {
            "provider": "acme",
            "connect_timeout_s": 5.0,
            "ca_bundle": None,
            "proxy": None,
            "allow_private": [],
            "trusted_hosts": frozenset({"127.0.0.1"}),
        }
        opened.append(open_transport(**{**defaults, **settings}))
        return opened[-1]

    yield open_one
    for transport in opened:
        await transport.close()


@pytest.fixture
def names() -> type["Names"]:
    return Names


class Names:
    """A resolver that answers from a table: name -> addresses, or the error to raise."""

    def __init__(self, table: dict[str, list[str] | OSError]) -> None:
        self.table = table
        self.asked: list[str] = []

    async def __call__(self, host: str) -> list[str]:
        self.asked.append(host)
        found = self.table[host]
        if isinstance(found, OSError):
            raise found
        return found


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def server_tls() -> Callable[[trustme.LeafCert], ssl.SSLContext]:
    def make(certificate: trustme.LeafCert) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        return context

    return make
