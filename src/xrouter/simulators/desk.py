"""What both vendors share: the switches, the counters, the faults, and how a request is taken in."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from xrouter.core.clock import Clock
from xrouter.simulators.counters import Counters, Row
from xrouter.simulators.delivery import Switches
from xrouter.simulators.faults import NONE, Board, Fault
from xrouter.simulators.wire import Wire

MAX_BODY_BYTES: Final = 20 * 1024 * 1024

ROW: Final = web.RequestKey("row", Row)

Handler = Callable[[web.Request, Wire], Awaitable[None]]


class Refusal(Exception):
    """A request that the vendor turns down, with the status and the vendor's own text."""

    def __init__(self, status: int, message: str = "", **extra: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.extra = extra


class Desk:
    """The state of the simulators. `reset` brings back the switches it was made with."""

    def __init__(self, seed: int, switches: Switches, clock: Clock) -> None:
        self.seed = seed
        self.clock = clock
        self.switches = switches
        self._initial = msgspec.structs.asdict(switches)
        self.counters = Counters(clock)
        self._expected: dict[asyncio.Task[None], Row] = {}  # one for each connection at most
        self.faults = Board()

    def arrived(self, request: web.BaseRequest, form: str) -> Row:
        """Count a request. Called as early as its head is known."""
        return self.counters.arrive(form, request.method, request.path, request.headers.get("x-request-id", ""))

    def expect(self, request: web.BaseRequest, form: str) -> None:
        """Count a request now, and close its row should its connection end before its handler begins."""
        request[ROW] = self._expected[request.task] = self.arrived(request, form)
        request.task.add_done_callback(self._ended)

    def _ended(self, connection: "asyncio.Task[None]") -> None:
        self.counters.finish(self._expected.pop(connection), gone=True)

    def exchange(self, form: str, handler: Handler) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """A route that is counted from its head to its end, or to the moment its client leaves."""

        async def handle(request: web.Request) -> web.StreamResponse:
            row = request.get(ROW) or self.arrived(request, form)
            if self._expected.pop(request.task, None) is not None:
                request.task.remove_done_callback(self._ended)
            wire = Wire(request, row, self.clock)
            gone = False
            self.counters.everyone.enter()
            try:
                await handler(request, wire)
            except asyncio.CancelledError:
                gone = wire.client_left
                raise
            except (ConnectionError, web.RequestPayloadError):
                gone = True
            finally:
                self.counters.everyone.leave()
                self.counters.finish(row, gone=gone)
            return wire.written

        return handle

    def fault(self, row: Row, asked: Fault, model: str) -> Fault:
        """The fault that the model id asks for, or else the one a rule has for the model."""
        fault = asked if asked is not NONE else self.faults.strike(model)
        row.model = model
        row.fault = str(fault)
        return fault

    def change(self, patch: dict[str, Any]) -> None:
        """Change some switches. Raises msgspec.ValidationError for an unknown one or a wrong type."""
        self.switches = msgspec.convert({**msgspec.structs.asdict(self.switches), **patch}, Switches)

    def reset(self) -> None:
        """Forget counters, faults and changed switches. Logins stay valid."""
        self.counters.reset()
        self.faults.clear()
        self.switches = Switches(**self._initial)


async def read_body(request: web.Request) -> bytes:
    """The body. Raises `Refusal` 413 above `MAX_BODY_BYTES`."""
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(413, "Payload too large") from None


def read_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object. Raises `Refusal` 400."""
    try:
        data = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Refusal(400, f"Invalid JSON: {error}") from None
    if not isinstance(data, dict):
        raise Refusal(400, "Invalid JSON: not an object")
    return data
