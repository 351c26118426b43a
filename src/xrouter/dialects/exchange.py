"""One HTTP request at the door: its headers, its answer, and a watch on the client who may leave.

Raw ASGI (https://asgi.readthedocs.io/en/latest/specs/www.html), because this runs for every chunk.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

from xrouter.core.call import Call
from xrouter.core.closing import NOTHING
from xrouter.core.errors import Overloaded
from xrouter.core.ids import ulid
from xrouter.edge.client_ip import client_of

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

JSON = (b"content-type", b"application/json")
EVENT_STREAM: tuple[tuple[bytes, bytes], ...] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back otherwise
)
SERVER_SHUTDOWN = "server_shutdown"


class Exchange:
    """`id` is one ULID under both public ids, `req_...` and `chatcmpl-...`. `status` is what the client was told,
    0 before the status line; `call` is set once there is one."""

    __slots__ = (
        "_send", "_watch", "call", "headers", "id", "method", "path", "receive", "request_id", "scope", "started",
        "status", "trusted_proxies", "writes", "writing",
    )  # fmt: skip

    def __init__(self, scope: Scope, receive: Receive, send: Send, started: float, trusted_proxies: int) -> None:
        self.scope = scope
        self.trusted_proxies = trusted_proxies
        self.receive = receive
        self._send = send
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.id = ulid()
        self.request_id = "req_" + self.id
        self.started = started
        self.status = 0
        self.call: Call | None = None
        self.writes = 0
        self.writing = False
        self._watch: ClientWatch | None = None

    def header(self, name: bytes) -> str | None:
        """A request header (lower-case name) as text, None when absent."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1").strip()

    def credential(self) -> str | None:
        """The API key from `Authorization: Bearer`, `x-api-key` or `api-key`; never from the URL."""
        usual = self.headers.get(b"authorization", b"")
        if usual.startswith(b"Bearer "):
            return usual[7:].decode("latin-1").strip()
        return credential(self.header(b"authorization"), self.header(b"x-api-key"), self.header(b"api-key"))

    def address(self) -> str | None:
        """The client's address, as far as our proxies can be believed."""
        return client_of(self.scope, self.trusted_proxies)

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer. `content-length` and `x-request-id` are added."""
        self.status = status
        await self._send(
            {
                "type": "http.response.start",
                "status": status,
                "headers": [
                    *headers,
                    (b"content-length", b"%d" % len(body)),
                    (b"x-request-id", self.request_id.encode()),
                ],
            }
        )
        await self._send({"type": "http.response.body", "body": body})

    async def open_stream(self, headers: Headers) -> None:
        """The status line and headers of an event stream; nothing when they have left already."""
        if self.status:
            return
        self.status = 200
        await self._send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": [*EVENT_STREAM, *headers, (b"x-request-id", self.request_id.encode())],
            }
        )

    def write(self, data: bytes) -> Awaitable[None]:
        """One piece of an open stream. Waits while the client does not read."""
        self.writes += 1
        sent = self._send({"type": "http.response.body", "body": data, "more_body": True})
        return NOTHING if sent is NOTHING else self._written(sent)

    async def _written(self, sent: Awaitable[None]) -> None:
        self.writing = True
        await sent
        self.writing = False

    async def close_stream(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})

    def shut_down(self) -> None:
        """The process ends and cannot wait any longer: what still runs fails with `server_shutdown`."""
        if self._watch is not None:
            if self.call is not None:
                self.call.cut_by = SERVER_SHUTDOWN
            self._watch.interrupt(ServerShutdown())

    def release(self) -> None:
        """The last byte is out. Cut the rings (watch and exchange, call and attempts): freed now, the forty objects of
        a request cost nothing; left to the garbage collector they were a tenth of all work."""
        self._watch = None
        if self.call is not None:
            self.call.attempts.clear()
            self.call = None

    def watch_client(self, silence: "Silence | None") -> "ClientWatch":
        """Enter after the body was read, around everything that takes time. `silence` is what a stream may keep;
        None for a whole answer."""
        self._watch = ClientWatch(self, silence)
        return self._watch


def credential(authorization: str | None, x_api_key: str | None, api_key: str | None) -> str | None:
    """The API key out of the headers that may hold one; a Bearer wins. An `Authorization` of another kind is not
    for us: a proxy in front may ask for a password of its own."""
    if authorization is not None:
        kind, _, key = authorization.partition(" ")
        if kind.lower() == "bearer":
            return key.strip()
    return x_api_key or api_key


@dataclass(frozen=True, slots=True)
class Silence:
    """How long a stream may be silent, in seconds: before its status line, and after it between two comments."""

    status_wait_s: float
    ping_s: float


class ClientLeft(Exception):
    """Nobody listens any more: the client closed the connection, or the server cut it because the client had
    stopped reading."""


class ServerShutdown(Overloaded):
    """A drain came to its end with this call still running."""

    default_code = SERVER_SHUTDOWN

    def __init__(self) -> None:
        super().__init__("The server is shutting down and this call took too long to finish. Send it again.")


class ClientWatch:
    """Notices that the client left, and keeps a silent stream alive.

    Cancels the task that entered it and turns that cancellation into `ClientLeft` or `ServerShutdown` on the
    way out. A request that is answered within `_GRACE_S` pays for one timer and no task.
    """

    _GRACE_S = 0.05
    _LOOKS_PER_PING = 8

    __slots__ = (
        "_cause",
        "_exchange",
        "_listener",
        "_loop",
        "_pinger",
        "_quiet_s",
        "_seen",
        "_silence",
        "_task",
        "_timer",
    )

    def __init__(self, exchange: Exchange, silence: Silence | None) -> None:
        self._exchange = exchange
        self._silence = silence
        self._cause: Exception | None = None
        self._listener: asyncio.Task[None] | None = None
        self._pinger: asyncio.Task[None] | None = None
        self._seen = 0
        self._quiet_s = 0.0

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._task = task
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._GRACE_S, self._begin)
        return self

    def interrupt(self, cause: Exception) -> None:
        """Stop the guarded work; it ends with `cause`."""
        if self._cause is None:
            self._cause = cause
            self._task.cancel()

    def _begin(self) -> None:
        self._listener = self._loop.create_task(self._listen())
        if self._silence is not None:
            self._look(self._silence)

    async def _listen(self) -> None:
        while (await self._exchange.receive())["type"] != "http.disconnect":
            pass
        self.interrupt(ClientLeft())

    def _look(self, silence: Silence) -> None:
        """Has anything been written since the last look? Silence is counted in looks, so that a chunk costs no
        clock reading; a write that waits for a slow reader is not silence."""
        exchange = self._exchange
        allowed_s = silence.ping_s if exchange.status else silence.status_wait_s
        look_s = min(silence.status_wait_s, silence.ping_s) / self._LOOKS_PER_PING
        self._timer = self._loop.call_later(look_s, self._look, silence)
        if exchange.writes != self._seen or exchange.writing:
            self._seen, self._quiet_s = exchange.writes, 0.0
            return
        self._quiet_s += look_s
        if self._quiet_s >= allowed_s:
            self._pinger = self._loop.create_task(self._ping())

    async def _ping(self) -> None:
        """An SSE comment (https://html.spec.whatwg.org/multipage/server-sent-events.html), after the status
        line if that has not left yet: from here on a failure is told in band."""
        call = self._exchange.call
        assert call is not None, "pings are for calls"
        left = [] if call.hold is None else call.hold.headers()
        await self._exchange.open_stream([(b"x-generation-id", call.id.encode()), *left])
        await self._exchange.write(b": keep-alive\n\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        for task in (self._listener, self._pinger):
            if task is not None:
                task.cancel()
        if self._cause is not None and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise self._cause from None
