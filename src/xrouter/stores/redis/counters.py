"""The port `SharedCounters` over Redis: one script call for all who ask in one turn of the event loop.

One call is under way at a time; who asks meanwhile goes with the next. So what this process says that it holds is
never older than what it said before.
"""

import asyncio
from collections.abc import Callable, Sequence
from math import inf
from pathlib import Path
from typing import Any, Final

from xrouter.core.gcra import PART
from xrouter.core.ids import ulid
from xrouter.core.limits import TOPIC_RECALL, Draw, Grant
from xrouter.core.ports import Topics
from xrouter.stores.redis.link import PREFIX, Link, RedisAway, Script

_EXCHANGE: Final = Script(Path(__file__).with_name("exchange.lua"))
_MOST_DRAWS: Final = 500
_MOST_SEEN: Final = 50_000

_Then = Callable[[list[Grant] | None], None]


class RedisCounters:
    """One for each process. `lease_s` is how long Redis believes what a process says that it holds."""

    def __init__(self, link: Link, topics: Topics, lease_s: float) -> None:
        self._link = link
        self._topics = topics
        self._lease_ms = int(lease_s * 1000)
        self._owner = ulid()
        self._waiting: list[tuple[Sequence[Draw], _Then]] = []
        self._task: asyncio.Task[None] | None = None
        self._seen: dict[str, float] = {}

    @property
    def away(self) -> bool:
        return self._link.breaker.open

    def exchange(self, draws: Sequence[Draw], then: _Then) -> None:
        if self.away:
            then(None)
            return
        self._waiting.append((draws, then))
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())

    def recall(self, counters: Sequence[str]) -> None:
        for counter in counters:
            self._topics.publish(TOPIC_RECALL, counter)

    async def close(self) -> None:
        """What was asked so far is answered."""
        if self._task is not None:
            await self._task

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # whoever asks in this turn of the loop goes with the first call
        while self._waiting:
            taken = self._take()
            draws = [(number, draw) for number, (group, _) in enumerate(taken) for draw in group]
            keys = [f"{PREFIX}limit:{draw.counter}" for _, draw in draws]
            arguments = [word for number, draw in draws for word in self._words(number, draw)]
            try:
                answer = await self._link.run_script(_EXCHANGE, keys, [self._owner, self._lease_ms, PART, *arguments])
                numbers = list(map(float, answer))
            except (RedisAway, TypeError, ValueError):
                for _, then in taken:
                    then(None)
                continue
            self._tell(taken, numbers)

    def _take(self) -> list[tuple[Sequence[Draw], _Then]]:
        taken: list[tuple[Sequence[Draw], _Then]] = []
        count = 0
        while self._waiting and (not taken or count + len(self._waiting[0][0]) <= _MOST_DRAWS):
            taken.append(self._waiting.pop(0))
            count += len(taken[-1][0])
        return taken

    def _words(self, group: int, draw: Draw) -> tuple[Any, ...]:
        amount = max(0, draw.amount)
        each_us = draw.window_s * 1e6 / max(1, amount)
        floor = self._seen.get(draw.counter, -inf) if draw.window_s else 0
        floor = max(0.0, floor)
        return (group, each_us, amount, draw.need, draw.want, draw.back, draw.held(), floor)

    def _tell(self, taken: list[tuple[Sequence[Draw], _Then]], numbers: list[float]) -> None:
        place = 0
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        for draws, then in taken:
            grants: list[Grant] = []
            for draw in draws:
                given, free, wait_s, tat = numbers[place : place + 4]
                grants.append(Grant(given, free, wait_s))
                place += 4
                if draw.window_s:
                    self._seen[draw.counter] = tat
            then(grants)
