"""The connection to Redis: short timeouts, no retries, a breaker, and a probe that finds out when it is back.

Nothing here ever holds up a request for longer than `TIMEOUT_S` twice (connecting, then the answer), and with the
breaker open not at all. Commands are those of Redis 6.2, so that Valkey and older servers do, too.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

import structlog
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.maint_notifications import MaintNotificationsConfig

from xrouter.core.clock import Clock
from xrouter.core.secret import Secret
from xrouter.stores.redis.breaker import Breaker

TIMEOUT_S: Final = 0.05
PROBE_S: Final = 0.5
_PRESENT_S: Final = 2.0
_GONE_S: Final = 10
_MOST_CONNECTIONS: Final = 4
PREFIX: Final = "xrouter:"

_log = structlog.get_logger()


class RedisAway(Exception):
    """Redis did not do what it was asked for, for whatever reason."""


class Script:
    """A Lua script and its name in Redis's cache."""

    def __init__(self, path: Path) -> None:
        self.text = path.read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()


_PRESENT: Final = Script(Path(__file__).with_name("present.lua"))


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
    heard of. `on_nodes` is called with each count."""

    def __init__(self, url: Secret, clock: Clock, host: str) -> None:
        self._client = open_client(url)
        self.breaker = Breaker(clock)
        self._host = host
        self.nodes = 1
        self.on_nodes: Callable[[int], None] = lambda nodes: None

    async def run_script(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        """Its answer. Raises `RedisAway`."""
        return await self._try(lambda: self._evaluate(script, keys, arguments))

    async def publish(self, channel: str, words: str) -> None:
        """Raises `RedisAway`."""
        await self._try(lambda: self._client.publish(channel, words))

    async def run(self) -> None:
        """Beside the requests: say every few seconds that this node is there; while Redis is away, try whether it is
        back."""
        first = True
        while True:
            try:
                await self._tell_presence()
            except RedisAway as error:
                if first:
                    self.breaker.trip()
                    _log.warning("redis cannot be reached; limits are counted by this host alone", reason=str(error))
            else:
                if self.breaker.open:
                    self.breaker.close()
                    _log.info("redis is back")
            first = False
            await asyncio.sleep(PROBE_S if self.breaker.open else _PRESENT_S)

    async def close(self) -> None:
        await self._client.aclose()

    async def _tell_presence(self) -> None:
        self.nodes = int(await self.run_script(_PRESENT, [f"{PREFIX}nodes"], [self._host, _GONE_S]))
        self.on_nodes(self.nodes)

    async def _evaluate(self, script: Script, keys: Sequence[str], arguments: Sequence[Any]) -> Any:
        try:
            return await self._client.evalsha(script.sha, len(keys), *keys, *arguments)
        except NoScriptError:  # a fresh server, or somebody has flushed its scripts
            return await self._client.eval(script.text, len(keys), *keys, *arguments)

    async def _try(self, work: Callable[[], Awaitable[Any]]) -> Any:
        was_open = self.breaker.open
        try:
            async with asyncio.timeout(4 * TIMEOUT_S):  # names that resolve slowly, servers that send by the byte
                answer = await work()
        except (RedisError, OSError, TimeoutError) as error:
            stay_cancelled()
            self.breaker.failed()
            if self.breaker.open and not was_open:
                _log.warning("redis is away; limits are counted by this host alone", reason=_words(error))
            raise RedisAway(_words(error)) from error
        stay_cancelled()
        return answer


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]
