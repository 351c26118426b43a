"""Servers that fail below HTTP, or in it: what no proper web server can be made to do.

Each fault has a port of its own. Who speaks HTTP at all answers in OpenAI's form and recites what a simulator would.
"""

import asyncio
import gzip
import json
import random
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import cache
from random import Random
from typing import Any

import trustme

from xrouter.simulators import speech

PIECE_CHARS = 4
SHOWN = 6  # pieces before a fault that strikes in the middle
LOSS = 0.2
RESENT_S = 0.2  # the least time after which TCP sends a lost segment again
_RESET = struct.pack("ii", 1, 0)
_OK = b"HTTP/1.1 200 OK\r\nContent-Type: %b\r\n"
_BOMB_BYTES = 128 * 1024 * 1024  # twice what a body may have


class Peer:
    """One connection. `body` is the request's, decoded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.body: dict[str, Any] = {}

    async def request(self) -> bool:
        """Read one; False when the client has left."""
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            size = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == b"content-length:"), 0)
            self.body = json.loads(await self._reader.readexactly(size) or b"{}")
        except (asyncio.IncompleteReadError, ConnectionError):
            return False
        return True

    @property
    def stream(self) -> bool:
        return bool(self.body.get("stream"))

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def silence(self) -> None:
        """Say nothing until the client leaves."""
        with suppress(ConnectionError):
            while await self._reader.read(1024):
                pass

    async def reset(self) -> None:
        await asyncio.sleep(0.02)  # what was sent gets a head start: a reset may overtake it
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    # ── the answer ──

    def text(self) -> str:
        asked = next(one["content"] for one in self.body["messages"] if one["role"] == "user")
        said = speech.ordered(asked, Random(0))
        assert said is not None, "an order that can be recited"
        return said

    def events(self) -> list[bytes]:
        """A good stream, event by event."""
        text, usage = self.text(), {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49}
        deltas: list[dict[str, Any]] = [
            {"content": text[at : at + PIECE_CHARS]} for at in range(0, len(text), PIECE_CHARS)
        ]
        choices = [[{"index": 0, "delta": delta, "finish_reason": None}] for delta in deltas]
        choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
        chunks: list[dict[str, Any]] = [{"model": "m", "choices": choice} for choice in choices]
        chunks.append({"model": "m", "choices": [], "usage": usage})
        return [b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks] + [b"data: [DONE]\n\n"]

    def whole(self) -> bytes:
        message = {"role": "assistant", "content": self.text()}
        usage = {"prompt_tokens": 9, "completion_tokens": 40, "total_tokens": 49}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({"model": "m", "choices": [choice], "usage": usage}).encode()

    def pieces(self) -> list[bytes]:
        """The body of a good answer, streamed or whole."""
        body = self.whole()
        return self.events() if self.stream else [body[: len(body) // 2], body[len(body) // 2 :]]

    def early(self) -> list[bytes]:
        """A part of it: some events, or the first half."""
        return self.pieces()[:SHOWN] if self.stream else self.pieces()[:1]

    @property
    def head(self) -> bytes:
        return _OK % (b"text/event-stream" if self.stream else b"application/json")


Play = Callable[[Peer], Awaitable[None]]


def _chunked(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def rst_before_headers(peer: Peer) -> None:
    await peer.reset()


async def rst_mid_headers(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Ty")
    await peer.reset()


async def eof_before_status(_peer: Peer) -> None:
    return


async def eof_mid_headers(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\nContent-Ty")


async def flood_1xx(peer: Peer) -> None:
    while True:
        await peer.send(b"HTTP/1.1 102 Processing\r\n\r\n" * 100)
        await asyncio.sleep(0.01)


async def not_http(peer: Peer) -> None:
    await peer.send(b"220 mail.example.test ESMTP ready\r\n")
    await peer.silence()


async def endless_headers(peer: Peer) -> None:
    await peer.send(b"HTTP/1.1 200 OK\r\n")
    while True:
        await peer.send(b"X-Padding: %b\r\n" % (b"a" * 4096))


async def slow_headers(peer: Peer) -> None:
    """A header at a byte a second."""
    for byte in b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n":
        await peer.send(bytes([byte]))
        await asyncio.sleep(1)


async def slow_body(peer: Peer) -> None:
    """A body at a byte a second."""
    await peer.send(peer.head + b"\r\n")
    for byte in b"".join(peer.pieces()):
        await peer.send(bytes([byte]))
        await asyncio.sleep(1)


async def slow_body_late(peer: Peer) -> None:
    """The same after a part of the answer."""
    await peer.send(peer.head + b"\r\n" + b"".join(peer.early()))
    for byte in b"".join(peer.pieces()[len(peer.early()) :]):
        await peer.send(bytes([byte]))
        await asyncio.sleep(1)


async def rst_mid_chunk(peer: Peer) -> None:
    part = b"".join(peer.early())
    await peer.send(peer.head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b" % (2 * len(part), part))
    await peer.reset()


async def chunked_cut(peer: Peer) -> None:
    part = b"".join(peer.early())
    await peer.send(peer.head + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(part))


async def chunk_size_nonsense(peer: Peer) -> None:
    part = b"".join(peer.early())
    await peer.send(peer.head + b"Transfer-Encoding: chunked\r\n\r\n" + _chunked(part) + b"zz\r\n")
    await peer.silence()


async def length_too_long(peer: Peer) -> None:
    """Content-Length promises more than comes before the end."""
    part = b"".join(peer.early())
    await peer.send(peer.head + b"Content-Length: %d\r\n\r\n%b" % (100 + len(part), part))


async def length_too_short(peer: Peer) -> None:
    """Content-Length promises less than is sent."""
    part, whole = b"".join(peer.early()), b"".join(peer.pieces())
    await peer.send(peer.head + b"Content-Length: %d\r\n\r\n%b" % (len(part), whole))


async def two_lengths(peer: Peer) -> None:
    body = b"".join(peer.pieces())
    await peer.send(peer.head + b"Content-Length: 7\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def gzip_bomb(peer: Peer) -> None:
    """A small body that unpacks to a big one, though nobody asked for compression."""
    body = _bomb()
    await peer.send(peer.head + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


@cache
def _bomb() -> bytes:
    return gzip.compress(bytes(_BOMB_BYTES), 1)


async def endless_body(peer: Peer) -> None:
    """No event, no end, and many bytes."""
    await peer.send(peer.head + b"\r\n")
    while True:
        await peer.send(b": %b\n" % (b"a" * 65_000))
        await asyncio.sleep(0.001)


async def done_twice(peer: Peer) -> None:
    end = b"data: [DONE]\n\n" * 2 if peer.stream else b"\r\n\r\n"
    await peer.send(peer.head + b"\r\n" + b"".join(peer.pieces()) + end)


async def lossy(peer: Peer) -> None:
    """One segment of five is lost and sent again, as the reader of a TCP connection notices it."""
    rng = random.Random(peer.text())
    await peer.send(peer.head + b"\r\n")
    body = b"".join(peer.pieces())
    for at in range(0, len(body), 1460):
        if rng.random() < LOSS:
            await asyncio.sleep(RESENT_S)
        await peer.send(body[at : at + 1460])


async def silence(peer: Peer) -> None:
    """Connected, and never a word: also to whoever begins a TLS handshake."""
    await peer.silence()


EARLY: dict[str, Play] = {
    "rst-before-headers": rst_before_headers,
    "rst-mid-headers": rst_mid_headers,
    "eof-before-status": eof_before_status,
    "eof-mid-headers": eof_mid_headers,
    "flood-1xx": flood_1xx,
    "not-http": not_http,
    "endless-headers": endless_headers,
    "slow-headers": slow_headers,
    "slow-body": slow_body,
    "two-lengths": two_lengths,
    "gzip-bomb": gzip_bomb,
    "endless-body": endless_body,
}
LATE: dict[str, Play] = {
    "slow-body-late": slow_body_late,
    "rst-mid-chunk": rst_mid_chunk,
    "chunked-cut": chunked_cut,
    "chunk-size-nonsense": chunk_size_nonsense,
    "length-too-long": length_too_long,
    "length-too-short": length_too_short,
}
HARMLESS: dict[str, Play] = {"done-twice": done_twice, "lossy": lossy}
# Where there is no server that could speak HTTP.
UNREACHABLE = ("dns-nxdomain", "dns-slow", "refused", "blackhole", "tls-bad-cert", "tls-stall")
NAMES = (*UNREACHABLE, *EARLY, *LATE, *HARMLESS)


@asynccontextmanager
async def serving() -> AsyncIterator[dict[str, str]]:
    """Every fault, as the base URL at which it strikes."""
    urls = {"dns-nxdomain": "https://api.nowhere.test/v1", "dns-slow": "https://api.slow.test/v1"}
    await asyncio.to_thread(_bomb)  # packing takes a second, which nobody shall wait for later
    async with AsyncExitStack() as stack:
        for name, play in {**EARLY, **LATE, **HARMLESS}.items():
            urls[name] = f"http://127.0.0.1:{await _serve(stack, play)}/v1"
        urls["tls-stall"] = f"https://127.0.0.1:{await _serve(stack, silence, speaks=False)}/v1"
        urls["tls-bad-cert"] = f"https://127.0.0.1:{await _serve(stack, done_twice, tls=_own_tls())}/v1"
        urls["refused"] = f"http://127.0.0.1:{_closed_port()}/v1"
        urls["blackhole"] = f"http://127.0.0.1:{_blackhole(stack)}/v1"
        assert set(urls) == set(NAMES)
        yield urls


async def _serve(stack: AsyncExitStack, play: Play, *, speaks: bool = True, tls: ssl.SSLContext | None = None) -> int:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        try:
            if not speaks or await peer.request():
                await play(peer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the campaign is over
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    stack.callback(server.close)
    port: int = server.sockets[0].getsockname()[1]
    return port


def _own_tls() -> ssl.SSLContext:
    """A certificate of an authority that nobody knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def _closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _blackhole(stack: AsyncExitStack) -> int:
    """A port whose queue of connections is full and never emptied: Linux drops what else comes, without a word."""
    listening = stack.enter_context(closing(socket.socket()))
    listening.bind(("127.0.0.1", 0))
    listening.listen(0)
    port: int = listening.getsockname()[1]
    for _ in range(3):
        filling = stack.enter_context(closing(socket.socket()))
        filling.setblocking(False)
        with suppress(BlockingIOError):
            filling.connect(("127.0.0.1", port))
    return port
