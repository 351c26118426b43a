"""The Redis that several nodes share: does it answer, let us in, know our commands, and answer in time?"""

import statistics
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from xrouter.core.clock import Clock
from xrouter.doctor.finding import Finding, failed, good, skipped, warning
from xrouter.settings import Settings
from xrouter.stores.redis.link import TIMEOUT_S, open_client

_REDIS: Final = "redis"
_PATIENCE_S: Final = 3.0
_PINGS: Final = 9
_SLOW_S: Final = TIMEOUT_S / 5
OLDEST: Final = (6, 2)
"""What the scripts need."""


async def examine(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    """Changes nothing there. Says nothing where no Redis is set."""
    if settings.redis_url is None:
        return
    try:
        client = open_client(settings.redis_url, _PATIENCE_S, connect_s=_PATIENCE_S)
    except ValueError as error:
        yield failed(_REDIS, "reachable", str(error), "mend XROUTER_REDIS_URL: redis://user:password@host:6379/0")
        return
    try:
        async for finding in _examine(client, clock):
            yield finding
    finally:
        await client.aclose()


async def _examine(client: Redis, clock: Clock) -> AsyncIterator[Finding]:
    try:
        await client.ping()
    except (AuthenticationError, NoPermissionError) as error:
        yield good(_REDIS, "reachable", "it answers")
        yield failed(_REDIS, "password", str(error), "put the right user and password into XROUTER_REDIS_URL")
        return
    except (RedisError, OSError) as error:
        mend = "is it running, are host, port and database in XROUTER_REDIS_URL right, and may we connect?"
        yield failed(_REDIS, "reachable", str(error) or type(error).__name__, mend)
        return
    yield good(_REDIS, "reachable", "it answers")
    yield good(_REDIS, "password", "it lets us in")
    try:
        said = await client.info()
    except ResponseError as error:
        yield skipped(_REDIS, "version", f"it does not say: {error}")
    except (RedisError, OSError) as error:
        yield failed(_REDIS, "version", str(error), "it broke off: look into its log")
        return
    else:
        for finding in kind(said):
            yield finding
    try:
        yield latency([await _ping_s(client, clock) for _ in range(_PINGS)])
    except (RedisError, OSError) as error:
        yield failed(_REDIS, "latency", str(error), "it broke off: look into its log")


async def _ping_s(client: Redis, clock: Clock) -> float:
    began = clock.monotonic()
    await client.ping()
    return clock.monotonic() - began


def kind(said: Mapping[str, Any]) -> Iterator[Finding]:
    """What its `INFO` shows: new enough, no cluster, no replica."""
    version = str(said.get("redis_version", ""))  # Valkey names the Redis that it is compatible with, too
    numbers = tuple(int(part) for part in version.split(".") if part.isdigit())
    if not numbers:
        yield skipped(_REDIS, "version", "it does not say its version")
    elif numbers < OLDEST:
        words = f"it is {version}, and our scripts need {'.'.join(map(str, OLDEST))}"
        yield failed(_REDIS, "version", words, "upgrade it, or take Valkey")
    else:
        yield good(_REDIS, "version", version)
    if said.get("redis_mode") == "cluster":
        mend = "name a single server, or a primary with replicas behind one address"
        yield failed(_REDIS, "writable", "it is a cluster, which is not supported", mend)
    elif said.get("role") in ("slave", "replica"):
        yield failed(_REDIS, "writable", "it is a replica", "connect to the primary")
    else:
        yield good(_REDIS, "writable", "it is a primary")


def latency(pings_s: list[float]) -> Finding:
    """How long it takes to answer, against how long a call waits for it."""
    usual_s = statistics.median(pings_s)
    words = f"it answers in {usual_s * 1000:.1f} ms; a call waits {TIMEOUT_S * 1000:g} ms for it"
    mend = "move it nearer to the gateway, or see what keeps it busy (SLOWLOG GET)"
    if usual_s >= TIMEOUT_S:
        return failed(_REDIS, "latency", f"{words}, then each host counts by itself", mend)
    if usual_s >= _SLOW_S:
        return warning(_REDIS, "latency", words, mend)
    return good(_REDIS, "latency", words)
