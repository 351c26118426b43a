"""The port `SharedCounters` over Redis: one script call for all who ask in one turn of the event loop.

One call is under way at a time; who asks meanwhile goes with the next. So what this process says that it holds is
never older than what it said before, and what it tells comes before what it asks for.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from xrouter.core.clock import Clock
from xrouter.core.gcra import PART
from xrouter.core.ids import ulid
from xrouter.core.limits import TOPIC_RECALL, Draw, Grant
from xrouter.core.ports import Topics
from xrouter.stores.redis.link import EPOCH, PREFIX, PROBE_S, Link, RedisAway, Script

_EXCHANGE: Final = Script(Path(__file__).with_name("exchange.lua"))
_TELL: Final = Script(Path(__file__).with_name("tell.lua"))
_MOST_DRAWS: Final = 500
_MOST_SEEN: Final = 50_000
_MOST_NEWS: Final = 200
_OLD_NEWS_S: Final = 60.0
"""What could not be told for so long is forgotten: nobody knows how much of it has been filled up since."""

_Then = Callable[[list[Grant] | None], None]


@dataclass(frozen=True, slots=True)
class _Seen:
    """A rate as Redis had it last: TAT and seconds for one unit in microseconds, and the amount."""

    tat: float
    each_us: float
    amount: int


@dataclass(frozen=True, slots=True, eq=False)
class _News:
    """One message: its name, so that it counts once; since when it waits; counters, and five words for each. `floors`
    tell how far the counters had come, and all nodes do that before any tells what came on top."""

    name: str
    at: float
    floors: bool
    counters: list[str]
    words: list[Any]


class RedisCounters:
    """One for each process. `lease_s` is how long Redis believes what a process says that it holds."""

    def __init__(self, link: Link, topics: Topics, lease_s: float, clock: Clock) -> None:
        self._link = link
        self._topics = topics
        self._clock = clock
        self._lease_ms = int(lease_s * 1000)
        self._owner = ulid()
        self._waiting: list[tuple[Sequence[Draw], _Then]] = []
        self._news: list[_News] = []
        self._task: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._seen: dict[str, _Seen] = {}
        self.on_back: Callable[[], None] = _nobody
        link.on_epoch = self._tell_seen
        link.on_open = self._opened

    @property
    def away(self) -> bool:
        return self._link.breaker.open or self._link.settling

    def exchange(self, draws: Sequence[Draw], then: _Then) -> None:
        if self.away:
            then(None)
            return
        self._waiting.append((draws, then))
        self._start()

    def tell(self, draws: Sequence[Draw]) -> None:
        for first in range(0, len(draws), _MOST_DRAWS):
            part = draws[first : first + _MOST_DRAWS]
            words = [word for draw in part for word in (*_pace(draw), -draw.back, draw.held(), 0)]
            self._news.append(_News(ulid(), self._clock.monotonic(), False, [draw.counter for draw in part], words))
        del self._news[:-_MOST_NEWS]
        self._start()

    def recall(self, counters: Sequence[str]) -> None:
        for counter in counters:
            self._topics.publish(TOPIC_RECALL, counter)

    async def close(self) -> None:
        """What was asked so far is answered."""
        if self._task is not None:
            await self._task
        if self._again is not None:
            self._again.cancel()

    # ── what is asked ────────────────────────────────────────────────────────────────────────────────────

    def _start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def _serve(self) -> None:
        await asyncio.sleep(0)  # whoever asks in this turn of the loop goes with the first call
        while self._waiting or self._next_news() is not None:
            try:
                await self._link.met()
                await self._send_news()
            except RedisAway:
                self._nobody_answers(self._take_all())
                self._again = asyncio.get_running_loop().call_later(PROBE_S, self._tell_again)
                return
            if self.away:  # since they asked
                self._nobody_answers(self._take_all())
            elif self._waiting and (gap_s := self._link.gap_s()):
                await asyncio.sleep(gap_s)  # the other nodes are telling, too
            elif taken := self._take():
                await self._ask(taken)

    async def _ask(self, taken: list[tuple[Sequence[Draw], _Then]]) -> None:
        draws = [(number, draw) for number, (group, _) in enumerate(taken) for draw in group]
        keys = [*(_key(draw.counter) for _, draw in draws), EPOCH]
        arguments = [word for number, draw in draws for word in self._words(number, draw)]
        head = (self._owner, self._lease_ms, PART, self._link.epoch)
        try:
            answer = await self._link.run_script(_EXCHANGE, keys, [*head, *arguments])
            if answer == ["epoch"]:
                await self._link.greet()
            numbers = list(map(float, answer))
        except (RedisAway, TypeError, ValueError):  # nothing was given in another epoch, either
            self._nobody_answers(taken)
            return
        self._answer(taken, numbers)

    def _nobody_answers(self, taken: list[tuple[Sequence[Draw], _Then]]) -> None:
        for _, then in taken:
            then(None)

    def _take_all(self) -> list[tuple[Sequence[Draw], _Then]]:
        taken, self._waiting = self._waiting, []
        return taken

    def _take(self) -> list[tuple[Sequence[Draw], _Then]]:
        taken: list[tuple[Sequence[Draw], _Then]] = []
        count = 0
        while self._waiting and (not taken or count + len(self._waiting[0][0]) <= _MOST_DRAWS):
            taken.append(self._waiting.pop(0))
            count += len(taken[-1][0])
        return taken

    def _words(self, group: int, draw: Draw) -> tuple[Any, ...]:
        seen = self._seen.get(draw.counter) if draw.window_s else None
        floor = 0.0 if seen is None else seen.tat
        return (group, *_pace(draw), draw.need, draw.want, draw.back, draw.held(), floor)

    def _answer(self, taken: list[tuple[Sequence[Draw], _Then]], numbers: list[float]) -> None:
        place = 0
        if len(self._seen) > _MOST_SEEN:
            self._forget_half()
        for draws, then in taken:
            grants: list[Grant] = []
            for draw in draws:
                given, free, wait_s, tat = numbers[place : place + 4]
                grants.append(Grant(given, free, wait_s))
                place += 4
                if draw.window_s and draw.amount > 0:
                    self._seen[draw.counter] = _Seen(tat, *_pace(draw))
            then(grants)

    def _forget_half(self) -> None:
        """Of the counters that Redis once told us of, those that are soonest full again."""
        latest = sorted(self._seen.items(), key=lambda one: one[1].tat)[_MOST_SEEN // 2 :]
        self._seen = dict(latest)

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────

    def _opened(self) -> None:
        self.on_back()
        if self._news:
            self._start()

    def _tell_seen(self) -> None:
        """Redis has forgotten everything: it goes on from what its clients saw last, each of them."""
        seen, now = list(self._seen.items()), self._clock.monotonic()
        news = []
        for first in range(0, len(seen), _MOST_DRAWS):
            part = seen[first : first + _MOST_DRAWS]
            words = [word for _, one in part for word in (one.each_us, one.amount, 0, 0, one.tat)]
            news.append(_News(ulid(), now, True, [counter for counter, _ in part], words))
        self._news[:0] = news  # what was used since comes on top of it
        if news:
            self._start()

    def _tell_again(self) -> None:
        """Where the breaker is open, its end will be told."""
        if self._news and not self._link.breaker.open:
            self._start()

    def _next_news(self) -> _News | None:
        return self._news[0] if self._news and (self._news[0].floors or not self._link.settling) else None

    def _heard(self, news: _News, tats: Sequence[str]) -> None:
        for place, counter in enumerate(news.counters):
            each_us, amount = news.words[place * 5 : place * 5 + 2]
            if each_us and amount:
                self._seen[counter] = _Seen(float(tats[place]), each_us, amount)

    async def _send_news(self) -> None:
        """Raises `RedisAway`; what was not told then is told when Redis is back."""
        while (news := self._next_news()) is not None:
            if self._clock.monotonic() - news.at < _OLD_NEWS_S:
                keys = [*map(_key, news.counters), EPOCH, f"{PREFIX}told:{news.name}"]
                head = (self._owner, self._lease_ms, self._link.epoch)
                answer = await self._link.run_script(_TELL, keys, [*head, *news.words])
                if answer == ["epoch"]:
                    await self._link.greet()
                    continue
                if len(answer) == len(news.counters):
                    self._heard(news, answer)
            if news in self._news:  # others may have come before it, or it was one too many
                self._news.remove(news)


def _key(counter: str) -> str:
    return f"{PREFIX}limit:{counter}"


def _pace(draw: Draw) -> tuple[float, int]:
    """Microseconds for one unit, and the amount."""
    amount = max(0, draw.amount)
    return draw.window_s * 1e6 / max(1, amount), amount


def _nobody() -> None:
    """Nobody has anything to tell."""
