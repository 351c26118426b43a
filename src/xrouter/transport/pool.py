"""The connections of one provider: how many, to where, and which of them may serve again."""

from asyncio import Future, TimerHandle, get_running_loop, timeout
from collections import deque
from collections.abc import Sequence
from typing import Final

from xrouter.transport import CannotConnect
from xrouter.transport.dial import Dialler
from xrouter.transport.guard import ForbiddenAddress, Network, check_url, is_trusted
from xrouter.transport.route import Route
from xrouter.transport.wire import Wire

# Idle connections are kept for less time than any server known to us keeps them: uvicorn (and so vLLM) closes
# after 5 s, nginx after 75 s. Were ours the longer time, a request could leave at the very moment the server
# closes, and a POST that breaks off there may have done its work: it could not be repeated.
_KEEPALIVE_S: Final = 4.0
_MAX_ROUTES: Final = 256


class Pool:
    """Hands out connections. Every `take()` that returns is followed by one `give_back()`.

    `proxied` says that everything goes through a proxy; it looks the names up and would see plain http.
    """

    def __init__(
        self,
        dialler: Dialler,
        *,
        provider: str,
        proxied: bool,
        allow_private: Sequence[Network],
        trusted_hosts: frozenset[str],
        max_connections: int,
        wait_s: float,
    ) -> None:
        self._dialler = dialler
        self._provider = provider
        self._proxied = proxied
        self._allow_private = tuple(allow_private)
        self._trusted_hosts = trusted_hosts
        self._max_connections = max_connections
        self._wait_s = wait_s
        self._loop = get_running_loop()
        self._free = max_connections
        self._waiting: deque[Future[None]] = deque()
        self._routes: dict[str, Route] = {}
        self._idle: dict[tuple[str, bool], deque[Wire]] = {}
        self._open: set[Wire] = set()
        self._sweeper: TimerHandle | None = None
        self._closed = False

    def route(self, url: str) -> Route:
        """Where the URL leads. Raises `CannotConnect` when it may not be dialled."""
        route = self._routes.get(url)
        if route is None:
            if len(self._routes) >= _MAX_ROUTES:  # they come from the configuration; this only bounds a mistake
                self._routes.clear()
            route = self._routes[url] = self._make_route(url)
        return route

    def _make_route(self, url: str) -> Route:
        try:
            parsed = check_url(url, allow_private=self._allow_private, trusted_hosts=self._trusted_hosts)
        except ForbiddenAddress as error:
            raise CannotConnect("forbidden_address", f"{self._provider}: {error}") from None
        plain = parsed.scheme == "http"
        if plain and self._proxied:
            raise CannotConnect(
                "forbidden_address",
                f"{self._provider}: http to {parsed.raw_host} would pass the proxy in clear; use https",
            )
        return Route(parsed, inside_only=plain and not is_trusted(parsed.raw_host or "", self._trusted_hosts))

    def take_idle(self, route: Route) -> Wire | None:
        """A kept connection with nothing of this request on it yet; None where `take` has to wait for one. No other
        task runs between this and the caller's write."""
        if self._free and not self._closed and (wire := self._kept(route)) is not None:
            self._free -= 1
            return wire
        return None

    def _kept(self, route: Route) -> Wire | None:
        kept = self._idle.get(route.key)
        while kept:
            wire = kept.pop()
            if not wire.stale:
                return wire
            wire.cut()  # the peer has left; nothing was written: take another one
        return None

    async def take(self, route: Route) -> Wire:
        """A connection with nothing of this request on it yet. Raises `CannotConnect`.

        From its return to the caller's write no other task runs, when a kept connection is handed out.
        """
        if self._closed:
            raise CannotConnect("pool", f"{self._provider}: the client is shut down")
        if self._free:
            self._free -= 1
        else:
            await self._wait_for_slot()
        if (wire := self._kept(route)) is not None:
            return wire
        try:
            wire = await self._dialler.dial(route, self._open.discard)
        except BaseException:
            self._release_slot()
            raise
        if self._closed:
            wire.cut()
            self._release_slot()
            raise CannotConnect("pool", f"{self._provider}: the client is shut down")
        self._open.add(wire)
        return wire

    def give_back(self, route: Route, wire: Wire) -> None:
        """The exchange is over. A connection that cannot serve again is cut."""
        self._release_slot()
        if not wire.rest() or self._closed:
            wire.cut()
            return
        wire.since = self._loop.time()
        kept = self._idle.get(route.key)
        if kept is None:
            kept = self._idle[route.key] = deque()
        kept.append(wire)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_KEEPALIVE_S, self._sweep)

    async def close(self) -> None:
        """Cut every connection, also those in use."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
        for wire in tuple(self._open):
            wire.cut()
        self._idle.clear()

    def _sweep(self) -> None:
        """End what has been idle for too long; the one that served last stands last."""
        self._sweeper = None
        oldest = self._loop.time()
        limit = oldest - _KEEPALIVE_S
        for key, kept in list(self._idle.items()):
            while kept and kept[0].since <= limit:
                kept.popleft().cut()
            if kept:
                oldest = min(oldest, kept[0].since)
            else:
                del self._idle[key]
        if self._idle:
            self._sweeper = self._loop.call_at(oldest + _KEEPALIVE_S, self._sweep)

    async def _wait_for_slot(self) -> None:
        # asyncio.Semaphore does the same, but makes a coroutine and two generators also when nobody waits.
        turn: Future[None] = self._loop.create_future()
        self._waiting.append(turn)
        try:
            async with timeout(self._wait_s):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release_slot()  # it was ours already when we gave up
            if not isinstance(error, TimeoutError):
                raise
            raise CannotConnect(
                "pool", f"{self._provider}: all {self._max_connections} connections were in use for {self._wait_s:g} s"
            ) from None

    def _release_slot(self) -> None:
        """To whoever has waited longest, else to the free ones."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():  # else its owner has given up
                turn.set_result(None)
                return
        self._free += 1
