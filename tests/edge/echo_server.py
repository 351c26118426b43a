"""A real uvicorn with the guarded protocol and `Edge` around an echo application."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from tests.edge.corpus import HOSTS

from xrouter.core.errors import GatewayError
from xrouter.edge.body import ClientGone, read_body
from xrouter.edge.validator import Edge
from xrouter.supervisor.protocol import guarded

MAX_BODY = 64 * 1024


def refuse(scope: Any, error: GatewayError) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    body = json.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )
    return error.http_status, [(b"content-type", b"application/json")], body.encode()


class Echo:
    """Reads the body (unless the path says `unread`) and answers with what it saw.

    `seen` are the paths of requests that began, `served` of those that arrived whole, `ended` says how others did.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.served: list[str] = []
        self.ended: list[str] = []
        self.release = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.seen.append(scope["path"])
        if scope["path"] == "/slow":
            await self.release.wait()
        if scope["path"] == "/endless":
            await self._endless(send)
            return
        body = b""
        if scope["path"] != "/unread":
            try:
                body = await read_body(scope, receive, limit=MAX_BODY)
            except ClientGone:
                self.ended.append("gone")
                return
        self.served.append(scope["path"])
        answer = json.dumps(
            {
                "path": scope["path"],
                "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
                "body": body.decode("latin-1"),
            }
        ).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _endless(self, send: Any) -> None:
        """Writes far more than any socket buffer holds."""
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(4_000):
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
        self.ended.append("written")


class Server:
    def __init__(self, port: int, echo: Echo) -> None:
        self.port = port
        self.echo = echo

    async def exchange(self, data: bytes, *, timeout_s: float = 5.0) -> tuple[bytes, bool]:
        """Everything that the server says to `data`, and whether it closed the connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        answer, closed = b"", True
        try:
            writer.write(data)
            async with asyncio.timeout(timeout_s):
                while piece := await reader.read(65_536):
                    answer += piece
        except TimeoutError:
            closed = False
        except ConnectionError:
            pass  # a reset is an end, too
        finally:
            writer.close()
        return answer, closed


class Response:
    def __init__(self, status: int, headers: dict[str, str], body: bytes, missing: int) -> None:
        self.status, self.headers, self.body, self.missing = status, headers, body, missing

    def code(self) -> str | None:
        error = json.loads(self.body).get("error") if self.body else None
        return error["code"] if error else None


def responses(answer: bytes, *, heads: bool = False) -> list[Response]:
    """Splits what a server wrote into responses; 1xx are left out. `heads`: bodies never follow."""
    found = []
    while b"\r\n\r\n" in answer:
        head, _, answer = answer.partition(b"\r\n\r\n")
        line, *fields = head.split(b"\r\n")
        status = int(line.split(b" ")[1])
        if status < 200:
            continue
        headers = {
            name.decode().lower(): value.strip().decode()
            for name, _, value in (field.partition(b":") for field in fields)
        }
        length = 0 if heads else int(headers.get("content-length", "0"))
        found.append(Response(status, headers, answer[:length], length - len(answer[:length])))
        answer = answer[length:]
    return found


@asynccontextmanager
async def serve(
    *, head_timeout_s: float = 5.0, write_timeout_s: float = 5.0, keep_alive_s: int = 5, **edge: Any
) -> AsyncIterator[Server]:
    echo = Echo()
    settings: dict[str, Any] = {
        "allowed_hosts": HOSTS,
        "max_header_bytes": 32 * 1024,
        "max_body_bytes": MAX_BODY,
        "body_timeout_s": 5.0,
        "linger_s": 0.1,
        "refuse": refuse,
    }
    app = Edge(echo, **{**settings, **edge})
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        http=guarded(max_head_bytes=32 * 1024, head_timeout_s=head_timeout_s, write_timeout_s=write_timeout_s),
        ws="none",
        lifespan="off",
        log_level="critical",
        server_header=False,
        timeout_keep_alive=keep_alive_s,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve([listener]))
    try:
        async with asyncio.timeout(10):
            while not server.started:
                await asyncio.sleep(0.005)
        yield Server(listener.getsockname()[1], echo)
    finally:
        server.should_exit = True
        await running
        listener.close()
