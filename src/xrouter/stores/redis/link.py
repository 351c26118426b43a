"""The connection to Redis: short timeouts, no retries, a breaker, and a probe that finds out when it is back.

Nothing here ever holds up a request for longer than `TIMEOUT_S` twice (connecting, then the answer), and with the
breaker open not at all. Commands are those of Redis 6.2, so that Valkey and older servers do, too.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from xrouter.core.clock import Clock
from xrouter.core.ids import ulid
from xrouter.core.secret import Secret
from xrouter.stores.redis.breaker import Breaker

TIMEOUT_S: Final = 0.05
PROBE_S: Final = 0.5
_PRESENT_S: Final = 1.0
_GONE_S: Final = 10

SETTLE_S: Final = 1.75
"""Until all nodes have noticed that Redis is back, or that it has forgotten everything: each says every second that it
is there, tries twice a second whether a Redis that was away is back, and may wait for its timeouts. So long they go on
by themselves, each with its share."""

_GAP_S: Final = 0.25
"""Then everybody tells what was used meanwhile, and nobody draws."""
_MOST_CONNECTIONS: Final = 4
PREFIX: Final = "xrouter:"
EPOCH: Final = f"{PREFIX}epoch"

_log = structlog.get_logger()


class RedisAway(Exception):
    """Redis did not do what it was asked for, for whatever reason."""


class Script:
    """A Lua script and its name in Redis's cache."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_PRESENT: Final = Script(Path(__file__).with_name("present.lua"))
_UNKNOWN: Final = object()


def open_client(url: Secret, timeout_s: float | None = TIMEOUT_S, *, connect_s: float = TIMEOUT_S) -> Redis:
    """Raises ValueError for a URL that cannot be read. Connects when first used."""
    return Redis.from_url(
        url.reveal(),
        socket_timeout=timeout_s,
        socket_connect_timeout=connect_s,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), 0),
        retry_on_timeout=False,
        max_connections=_MOST_CONNECTIONS,
        protocol=2,
        decode_responses=True,
        driver_info=None,
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )


def stay_cancelled() -> None:
    """After every wait within redis-py, which (8.1) now and then swallows the cancellation of its task: without this,
    whoever closes would wait for ever."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


class Link:
    """One for each process. `host` names this host among the nodes; `nodes` is how many there were when Redis was last
    heard of; `on_nodes` is called when that changes. `epoch` names the time since which Redis has forgotten nothing.

    After a time without Redis, and when it has forgotten everything, it is not asked at once (`settling`): all nodes
    begin at the same moment, which `on_open` is called at. `on_epoch` is called when it has forgotten everything.
    """

    def __init__(self, url: Secret, clock: Clock, host: str, *, nodes: int = 1, settle_s: float = SETTLE_S) -> None:
        self._client = open_client(url)
        self.breaker = Breaker(clock)
        self._clock = clock
        self._host = host
        self._settle_s = settle_s
        self._gap_s = min(_GAP_S, settle_s)
        self._greeting = asyncio.Lock()
        self._opening: asyncio.TimerHandle | None = None
        self._draws_at = -inf
        self._whole_since = clock.monotonic()
        self._failing = False
        self.nodes = nodes
        self.epoch = ""
        self.settling = False
        self.on_nodes: Callable[[int], None] = lambda nodes: None
        self.on_epoch: Callable[[], None] = _nothing
        self.on_open: Callable[[], None] = _nothing

    async def run_script(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Its answer. Raises `RedisAway`."""
        answer = await self._try(lambda: self._by_name(script, keys, arguments))
        if answer is _UNKNOWN:  # a fresh server, or somebody has flushed its scripts
            await self.greet()
            answer = await self._try(lambda: self._client.eval(script.text, len(keys), *keys, *arguments))
        return answer

    async def met(self) -> None:
        """Redis was asked for its epoch at least once. Raises `RedisAway`."""
        if not self.epoch:
            await self.greet()

    async def greet(self) -> None:
        """Say that this node is there, and hear who else, and since when. Raises `RedisAway`."""
        async with self._greeting:
            returns = self.breaker.open
            answer = await self._ask_presence(False)
            if returns:  # said only to a server that answers: a slow one would set the moment and nobody would hear it
                answer = await self._ask_presence(True)
            nodes, epoch, opens_us = int(answer[0]), str(answer[1]), float(answer[2])
            forgot = epoch != self.epoch
            known, self.epoch = self.epoch, epoch
            if forgot and known:
                _log.warning("redis has forgotten what it counted; it goes on from what the nodes saw last")
                self.on_epoch()
            if forgot or returns:
                self._whole_since = self._clock.monotonic()
                self._open_in(opens_us / 1e6)
            self._count(nodes)
            if self.breaker.open:
                self.breaker.close()
                _log.info("redis is back")

    def gap_s(self) -> float:
        """How long nobody draws yet, because all are telling what was used without Redis."""
        return max(0.0, self._draws_at - self._clock.monotonic())

    async def publish(self, channel: str, words: str) -> None:
        """Raises `RedisAway`."""
        await self._try(lambda: self._client.publish(channel, words))

    async def run(self) -> None:
        """Beside the requests: say every few seconds that this node is there; while Redis is away, try whether it is
        back."""
        first = True
        while True:
            try:
                await self.greet()
            except RedisAway as error:
                if first:
                    self.breaker.trip()
                    _log.warning("redis cannot be reached; limits are counted by this host alone", reason=str(error))
            first = False
            await asyncio.sleep(PROBE_S if self.breaker.open or self._failing else _PRESENT_S)

    async def close(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
        await self._client.aclose()

    def _open_in(self, wait_s: float) -> None:
        """Everybody begins `wait_s` from now; below 0 they have begun already."""
        self._draws_at = self._clock.monotonic() + wait_s + self._gap_s
        self.settling = True
        if self._opening is not None:
            self._opening.cancel()
        if wait_s <= 0:
            self._open()
        else:
            self._opening = asyncio.get_running_loop().call_later(wait_s, self._open)

    def _open(self) -> None:
        self._opening = None
        self.settling = False
        self.on_open()

    def _count(self, nodes: int) -> None:
        """Fewer nodes are believed when all of them have had the time to say that they are there."""
        if nodes < self.nodes and self._clock.monotonic() - self._whole_since < _GONE_S + 2 * _PRESENT_S:
            return
        if nodes != self.nodes:
            self.nodes = nodes
            self.on_nodes(nodes)

    async def _ask_presence(self, returns: bool) -> Any:
        answer = await self._try(lambda: self._present(False, returns))
        if answer is _UNKNOWN:
            answer = await self._try(lambda: self._present(True, returns))
        return answer

    def _present(self, fresh: bool, returns: bool) -> Awaitable[Any]:
        keys = (f"{PREFIX}nodes", EPOCH)
        words = (self._host, _GONE_S, self.epoch, int(returns), int(fresh), ulid(), int(self._settle_s * 1000))
        if fresh:
            return self._client.eval(_PRESENT.text, len(keys), *keys, *words)
        return self._by_name(_PRESENT, keys, words)

    async def _by_name(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """`_UNKNOWN` where the server does not know the script."""
        try:
            return await self._client.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:
            return _UNKNOWN

    async def _try(self, work: Callable[[], Awaitable[Any]]) -> Any:
        was_open = self.breaker.open
        try:
            async with asyncio.timeout(4 * TIMEOUT_S):  # names that resolve slowly, servers that send by the byte
                answer = await work()
        except (RedisError, OSError, TimeoutError) as error:
            stay_cancelled()
            self._failing = True
            self.breaker.failed()
            if self.breaker.open and not was_open:
                _log.warning("redis is away; limits are counted by this host alone", reason=_words(error))
            raise RedisAway(_words(error)) from error
        stay_cancelled()
        self._failing = False
        return answer


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]


def _nothing() -> None:
    """Nobody listens."""
