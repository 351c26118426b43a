"""What several nodes share through Redis: limits and messages. Imported only where XROUTER_REDIS_URL is set."""

from collections.abc import Coroutine
from typing import Any

from xrouter.core.clock import Clock
from xrouter.core.secret import Secret
from xrouter.stores.redis.counters import RedisCounters
from xrouter.stores.redis.link import SETTLE_S, Link
from xrouter.stores.redis.slots import RedisSlots
from xrouter.stores.redis.topics import RedisTopics


class RedisStore:
    """One for each process."""

    def __init__(
        self, url: Secret, clock: Clock, *, host: str, lease_s: float, nodes: int = 1, settle_s: float = SETTLE_S
    ) -> None:
        """`nodes` is how many there were when this host last knew. Raises ValueError for a URL that cannot be read;
        does not connect yet."""
        self.link = Link(url, clock, host, nodes=nodes, settle_s=settle_s)
        self.topics = RedisTopics(url, self.link, clock)
        self.counters = RedisCounters(self.link, self.topics, lease_s, clock)
        self.slots = RedisSlots(self.link, host)

    def beside(self) -> tuple[Coroutine[Any, Any, None], ...]:
        """What runs beside the requests. Subscriptions come before."""
        return self.link.run(), self.topics.run()

    async def close(self) -> None:
        await self.counters.close()
        await self.topics.close()
        await self.link.close()
