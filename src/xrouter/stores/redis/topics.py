"""The port `Topics` over Redis's publish/subscribe."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing, suppress
from typing import Any, Final

from redis.exceptions import RedisError

from xrouter.core.clock import Clock
from xrouter.core.secret import Secret
from xrouter.stores.redis.link import PREFIX, Link, RedisAway, open_client, stay_cancelled

_PREFIX: Final = f"{PREFIX}topic:"
_LISTEN_S: Final = 1.0
_SILENT_S: Final = 5.0
_AGAIN_S: Final = 0.5
_MOST_WAITING: Final = 1_000


class RedisTopics:
    """One for each process. `run` listens, on a connection of its own that is proven to live by a ping a second."""

    def __init__(self, url: Secret, link: Link, clock: Clock) -> None:
        self._client = open_client(url, timeout_s=_LISTEN_S)
        self._link = link
        self._clock = clock
        self._heard: dict[str, list[Callable[[str], None]]] = {}
        self._waiting: list[tuple[str, str]] = []
        self._sending: asyncio.Task[None] | None = None

    def publish(self, topic: str, words: str = "") -> None:
        if self._link.breaker.open or len(self._waiting) >= _MOST_WAITING:
            return
        self._waiting.append((_PREFIX + topic, words))
        if self._sending is None or self._sending.done():
            self._sending = asyncio.get_running_loop().create_task(self._send())

    def subscribe(self, topic: str, heard: Callable[[str], None]) -> None:
        """Before `run` begins."""
        self._heard.setdefault(_PREFIX + topic, []).append(heard)

    async def run(self) -> None:
        """Listen, and begin again whenever the connection ends."""
        if not self._heard:
            return
        while True:
            with suppress(RedisError, OSError, TimeoutError):
                async with aclosing(self._client.pubsub()) as pubsub:
                    await pubsub.subscribe(*self._heard)
                    await self._listen(pubsub)
            stay_cancelled()
            await asyncio.sleep(_AGAIN_S)

    async def close(self) -> None:
        if self._sending is not None:
            await self._sending
        await self._client.aclose()

    async def _listen(self, pubsub: Any) -> None:
        """Until the connection breaks or says nothing for too long."""
        alive_at = self._clock.monotonic()
        missing = set(self._heard)
        while self._clock.monotonic() - alive_at < _SILENT_S:
            message = await pubsub.get_message(timeout=_LISTEN_S)
            stay_cancelled()
            if message is None:
                await pubsub.ping()
                continue
            alive_at = self._clock.monotonic()
            channel = message["channel"]
            if message["type"] == "subscribe" and channel in missing:
                missing.discard(channel)
                self._tell(channel, "")  # what was said until now is lost
            elif message["type"] == "message":
                self._tell(channel, message["data"])

    def _tell(self, channel: str, words: str) -> None:
        for heard in self._heard.get(channel, ()):
            heard(words)

    async def _send(self) -> None:
        while self._waiting:
            channel, words = self._waiting.pop(0)
            with suppress(RedisAway):
                await self._link.publish(channel, words)
