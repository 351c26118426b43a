"""The simulators as a server of their own."""

import asyncio
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import uvloop
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader
from aiohttp.web_protocol import RequestHandler

from xrouter.core.clock import Clock, SystemClock
from xrouter.simulators import anthropic, delivery, gigachat, mts, vllm, yandex
from xrouter.simulators.anthropic import Anthropic
from xrouter.simulators.control import Control
from xrouter.simulators.desk import MAX_BODY_BYTES, Desk
from xrouter.simulators.gigachat import GigaChat
from xrouter.simulators.gigachat_login import Login
from xrouter.simulators.mts import Mts
from xrouter.simulators.vllm import Vllm
from xrouter.simulators.wire import REDIRECTED, Wire
from xrouter.simulators.yandex import Yandex
from xrouter.simulators.yandex_login import YandexLogin

BACKLOG: Final = 4_096
_ELSEWHERE: Final = "redirected"
_DESK: Final = web.AppKey("desk", Desk)


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast simulated models talk: milliseconds between pieces, and before the first (None: five pieces)."""

    chunk_ms: float = 0.0
    first_ms: float | None = None


def build(seed: int, pace: Pace = Pace(), *, clock: Clock | None = None) -> web.Application:
    """The web application. Run it with `running` or `serve`: only they see a client leave at once."""
    clock = clock or SystemClock()
    desk = Desk(seed, delivery.Switches(pace_ms=pace.chunk_ms, first_ms=pace.first_ms), clock)
    login, iam = Login(desk), YandexLogin(desk)
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[_DESK] = desk
    for method, path, control in Control(desk, login, iam).routes():
        app.router.add_route(method, path, control)
    vendors = (
        (gigachat.FORM, GigaChat(desk, login).routes()),
        (vllm.FORM, Vllm(desk).routes()),
        (yandex.FORM, Yandex(desk, iam).routes()),
        (mts.FORM, Mts(desk).routes()),
        (anthropic.FORM, Anthropic(desk).routes()),
    )
    for form, routes in vendors:
        for method, path, handler in routes:
            app.router.add_route(method, f"/{form}{path}", desk.exchange(form, handler))

    async def redirected(_request: web.Request, wire: Wire) -> None:
        desk.counters.totals.redirects_followed += 1
        await delivery.whole(wire, 200, [("Content-Type", "text/plain")], b"nobody should follow a redirect here")

    app.router.add_route("*", REDIRECTED, desk.exchange(_ELSEWHERE, redirected))
    return app


@asynccontextmanager
async def running(
    app: web.Application, host: str = "127.0.0.1", port: int = 0, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serve `app` inside the block, over `tls` where it is given; gives the port. Leaving the block cuts every
    connection."""
    # A handler is cancelled when its client leaves: that is how a vendor stops generating, and how we know.
    runner = web.AppRunner(
        app, handler_cancellation=True, access_log=None, keepalive_timeout=75.0, shutdown_timeout=0.05
    )
    await runner.setup()
    try:
        if runner.server is not None:
            _count_at_head(runner.server, app[_DESK])
        await web.TCPSite(runner, host, port, backlog=BACKLOG, ssl_context=tls).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def serve(host: str, port: int, seed: int, pace_ms: float, ready: Callable[[int], None]) -> None:
    """Serve until cancelled. `ready` is called once with the port, when connections are accepted."""
    async with running(build(seed, Pace(pace_ms)), host, port) as taken:
        ready(taken)
        await asyncio.Event().wait()


def run(host: str, port: int, seed: int, pace_ms: float, announce: Callable[[int], None]) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError when the address cannot be had."""

    async def until_told() -> None:
        loop = asyncio.get_running_loop()
        serving = asyncio.ensure_future(serve(host, port, seed, pace_ms, announce))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, serving.cancel)
        try:
            await serving
        except asyncio.CancelledError:
            if not serving.cancelled():
                raise

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(until_told())


def _count_at_head(server: web.Server, desk: Desk) -> None:
    """Count a request when its head is parsed, before its handler has a chance to run.

    A client that is killed right after it sent a request cancels the handler before its first step; the
    request was seen all the same.
    """
    make = server.request_factory

    def make_counted(
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        request = make(message, payload, protocol, writer, task)
        form = request.path.split("/", 2)[1] if request.path.startswith("/") else ""
        if form in (gigachat.FORM, vllm.FORM, yandex.FORM, mts.FORM, anthropic.FORM, _ELSEWHERE):
            desk.expect(request, form)
        return request

    server.request_factory = make_counted
