"""A small application of the shape that the supervisor serves, for processes that the tests start."""

import asyncio
import os
import sys
import time
from pathlib import Path
from urllib.parse import parse_qs

from xrouter.telemetry.metrics import Metrics
from xrouter.telemetry.shared_dir import shared_dir


def say(url: str) -> None:
    """Tell the test where we listen."""
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()


def _block() -> None:
    """What no application should do to its event loop."""
    time.sleep(3600)


class FakeApp:
    def __init__(self, data_dir: Path) -> None:
        self.in_flight = 0
        self._data_dir = data_dir
        self._ready = True
        self._ending = asyncio.Event()
        self._metrics = Metrics(shared_dir(), models=["m"])

    def drain_begin(self) -> None:
        self._ready = False
        self._note("drain_begin")

    async def drain_end(self, deadline_s: float) -> None:
        self._note("drain_end")
        self._ending.set()
        until = asyncio.get_running_loop().time() + deadline_s
        while self.in_flight and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        self._note("close")
        if (self._data_dir / "closing-hangs").exists():
            await asyncio.sleep(3600)

    def _note(self, word: str) -> None:
        with (self._data_dir / f"life-{os.getpid()}").open("a") as file:
            file.write(word + "\n")

    async def asgi(self, scope, receive, send) -> None:
        self.in_flight += 1
        self._metrics.in_flight(1)
        self._metrics.fold()  # the real application does four times a second
        try:
            await self._answer(scope, send)
        finally:
            self._metrics.in_flight(-1)
            self._metrics.request_refused("openai", 200, None)
            self._metrics.fold()
            self.in_flight -= 1

    async def _answer(self, scope, send) -> None:
        path, query = scope["path"], parse_qs(scope["query_string"].decode())
        if path == "/stream":
            await self._stream(send, int(query.get("events", ["1000000"])[0]))
        elif path == "/metrics":
            await self._whole(send, 200, self._metrics.render()[1])
        elif path == "/block":
            await self._whole(send, 200, b"blocking")
            _block()
        elif path == "/health/ready":
            await self._whole(send, 200 if self._ready else 503, b"")
        else:
            await self._whole(send, 200, str(os.getpid()).encode())

    async def _head(self, send, status: int, length: int | None) -> None:
        headers = [] if length is None else [(b"content-length", str(length).encode())]
        if not self._ready:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})

    async def _whole(self, send, status: int, body: bytes) -> None:
        await self._head(send, status, len(body))
        await send({"type": "http.response.body", "body": body})

    async def _stream(self, send, events: int) -> None:
        await self._head(send, 200, None)
        for number in range(events):
            if self._ending.is_set():
                await send({"type": "http.response.body", "body": b"event: error\ndata: server_shutdown\n\n"})
                return
            await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n"})
