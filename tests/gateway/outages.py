"""Several nodes, one Redis, and its outages, in virtual time: a model of what `stores/redis` does, around the real
limiter and the real arithmetic.

A call is admitted or not in the moment in which it comes, but for those that wait until all have told what they used
without Redis.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar

from xrouter.core.call import Caller
from xrouter.core.clock import ManualClock
from xrouter.core.gcra import PART, MemoryCounters, exchange
from xrouter.core.limits import Draw, Grant, Limit
from xrouter.gateway.limiter import TICK_S, Held, Limiter, Refusal
from xrouter.stores.redis.breaker import Breaker
from xrouter.stores.redis.link import PROBE_S, SETTLE_S

PRESENT_S = 1.0
GAP_S = 0.25
SAME_OUTAGE_S = 5.0
STEP_S = 0.05

_Answer = TypeVar("_Answer")
Then = Callable[[list[Grant] | None], None]


@dataclass
class News:
    """What one process tells, once."""

    draws: list[tuple[Draw, float, float]]  # with the units used, and a floor
    name: int
    floors: bool


class Redis:
    """One server. Frozen, it does later what it was asked for meanwhile, and nobody hears the answer."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.counts = MemoryCounters(clock, {}, {})
        self.epoch, self.opens_at = 1, -inf
        self.down = self.frozen = False
        self.known: set[int] = set()
        self.asked_meanwhile: list[Callable[[], object]] = []

    def do(self, work: Callable[[], _Answer]) -> _Answer | None:
        if self.frozen:
            self.asked_meanwhile.append(work)
        return None if self.down or self.frozen else work()

    def thaw(self) -> None:
        self.frozen = False
        for work in self.asked_meanwhile:
            work()
        self.asked_meanwhile.clear()

    def forget(self) -> None:
        self.counts = MemoryCounters(self.clock, {}, {})
        self.epoch, self.opens_at = self.epoch + 1, -inf
        self.known.clear()
        self.asked_meanwhile.clear()

    def greet(self, returns: bool) -> tuple[int, float]:
        now = self.clock.monotonic()
        if (self.epoch > 1 and self.opens_at == -inf) or (returns and now > self.opens_at + SAME_OUTAGE_S):
            self.opens_at = now + SETTLE_S
        return self.epoch, self.opens_at - now

    def draw(self, draws: Sequence[Draw], epoch: int) -> list[Grant] | str:
        if epoch != self.epoch:
            return "epoch"
        return exchange(draws, self.clock.monotonic(), self.counts, 1.0, PART)

    def tell(self, news: News, epoch: int) -> str:
        if epoch != self.epoch:
            return "epoch"
        if news.name not in self.known:
            self.known.add(news.name)
            now = self.clock.monotonic()
            for draw, units, floor in news.draws:
                full_s = draw.window_s / draw.amount
                tat = max(self.counts.tat(draw.counter)[0], floor, now) + units * full_s
                self.counts.set_tat(draw.counter, max(tat, now), full_s)
        return "told"


class Shared:
    """The port `SharedCounters` of one node."""

    def __init__(self, redis: Redis, clock: ManualClock, phase_s: float) -> None:
        self.redis, self.clock = redis, clock
        self.breaker = Breaker(clock)
        self.epoch, self.settling, self.failing = 1, False, False
        self.opens_at = self.draws_at = -inf
        self.probe_at = clock.monotonic() + phase_s
        self.seen: dict[str, tuple[Draw, float]] = {}
        self.news: list[News] = []
        self.waiting: list[tuple[Sequence[Draw], Then]] = []
        self.on_back: Callable[[], None] = lambda: None
        self._names = id(self) * 1_000_000

    @property
    def away(self) -> bool:
        return self.breaker.open or self.settling

    def recall(self, counters: Sequence[str]) -> None: ...

    def exchange(self, draws: Sequence[Draw], then: Then) -> None:
        if self.away:
            then(None)
            return
        self.waiting.append((draws, then))
        self.serve()

    def tell(self, draws: Sequence[Draw]) -> None:
        self._add([(draw, -draw.back, -inf) for draw in draws if draw.window_s])
        self.serve()

    def _add(self, draws: list[tuple[Draw, float, float]], floors: bool = False) -> None:
        self._names += 1
        self.news.insert(0 if floors else len(self.news), News(draws, self._names, floors))

    def _failed(self) -> None:
        self.failing = True
        self.breaker.failed()

    def serve(self) -> None:
        while self.news and not self.breaker.open and (self.news[0].floors or not self.settling):
            news, epoch = self.news[0], self.epoch
            said = self.redis.do(lambda news=news, epoch=epoch: self.redis.tell(news, epoch))
            if said is None:
                self._failed()
                self._nobody()
                return
            if said == "epoch":
                self.greet()
            else:
                self.news.remove(news)
                for draw, _, _ in news.draws:
                    self.seen[draw.counter] = draw, self.redis.counts.tat(draw.counter)[0]
        if self.away:
            self._nobody()
        while self.waiting and self.clock.monotonic() >= self.draws_at:
            draws, then = self.waiting.pop(0)
            epoch = self.epoch
            grants = self.redis.do(lambda draws=draws, epoch=epoch: self.redis.draw(draws, epoch))
            if grants is None:
                self._failed()
                then(None)
            elif isinstance(grants, str):
                self.greet()
                then(None)
            else:
                self.failing = False
                for draw in draws:
                    self.seen[draw.counter] = draw, self.redis.counts.tat(draw.counter)[0]
                then(grants)

    def _nobody(self) -> None:
        waiting, self.waiting = self.waiting, []
        for _, then in waiting:
            then(None)

    def greet(self) -> None:
        returns = self.breaker.open
        said = self.redis.do(lambda: self.redis.greet(returns))
        if said is None:
            self._failed()
            return
        self.failing = False
        forgot, self.epoch = said[0] != self.epoch, said[0]
        self.breaker.close()
        if forgot:
            self._add([(draw, 0.0, tat) for draw, tat in self.seen.values()], floors=True)
        if forgot or returns:
            now = self.clock.monotonic()
            self.settling, self.opens_at, self.draws_at = True, now + said[1], now + said[1] + GAP_S

    def step(self) -> None:
        now = self.clock.monotonic()
        if now >= self.probe_at:
            self.greet()
            self.probe_at = now + (PROBE_S if self.breaker.open or self.failing else PRESENT_S)
        if self.settling and not self.breaker.open and now >= self.opens_at:
            self.settling = False
            self.on_back()
        self.serve()


@dataclass
class Ideal:
    """The store that sees everything; below 0 too much was admitted, in some stretch of time by so many units."""

    amount: float
    rate: float
    at: float
    left: float = field(init=False)
    least: float = field(init=False)

    def __post_init__(self) -> None:
        self.left = self.least = self.amount

    def use(self, now: float, units: float) -> None:
        self.left = min(self.amount, self.left + (now - self.at) * self.rate) - units
        self.at = now
        self.least = min(self.least, self.left)


class Cluster:
    """Nodes that count one limit.

    `surplus` is what the last outage may let pass: what was too much when it came, and for each node its share of what
    the others had used since it heard of the counter.
    """

    def __init__(self, limit: Limit, nodes: int, pick: random.Random) -> None:
        self.clock, self.limit, self.pick = ManualClock(), limit, pick
        self.redis = Redis(self.clock)
        self.nears = [MemoryCounters(self.clock) for _ in range(nodes)]
        for near in self.nears:
            near.share = 1 / nodes
        self.shared = [Shared(self.redis, self.clock, pick.random()) for _ in range(nodes)]
        pairs = zip(self.nears, self.shared, strict=True)
        self.limiters = [Limiter(near, self.clock, shared) for near, shared in pairs]
        self.caller = Caller("k", "test", frozenset(), limits=(limit,))
        self.ideal = Ideal(limit.amount, limit.amount / limit.window_s, self.clock.monotonic())
        self.surplus = 0.0
        self.tick_at = self.clock.monotonic()
        self.open: list[tuple[float, Held, int, int]] = []

    def missing(self, tat: float) -> float:
        return max(0.0, tat - self.clock.monotonic()) * self.limit.amount / self.limit.window_s

    def outage(self, kind: str, meanwhile: Callable[[], None]) -> None:
        """From now on nodes hear nothing, until `meanwhile` is over."""
        self.ideal.use(self.clock.monotonic(), 0)
        self.ideal.least = self.ideal.left
        self.surplus = max(0.0, -self.ideal.left)
        truth = self.missing(self.redis.counts.tat(self.limit.counter)[0])
        for near in self.nears:
            heard = self.missing(near.tat(f"{self.limit.counter}@")[0])
            self.surplus += near.share * max(0.0, truth - heard)
        if kind == "flushed":
            self.redis.forget()
            meanwhile()
            return
        self.redis.frozen, self.redis.down = kind == "frozen", kind != "frozen"
        meanwhile()
        if kind == "frozen":
            self.redis.thaw()
        elif kind == "restarted":
            self.redis.forget()
        self.redis.down = False

    def call(self, node: int, units: int = 1, used: int | None = None, lasts_s: float = 0.0) -> None:
        """`used` units of those that were reserved, after `lasts_s`."""
        limiter = self.limiters[node]
        plan = limiter.plan(self.caller, "m", lambda models: [str(models)])

        def decided(refusal: Refusal | None) -> None:
            if refusal is None:
                self.ideal.use(self.clock.monotonic(), units)
                ends_at = self.clock.monotonic() + lasts_s
                self.open.append((ends_at, Held(limiter, plan, units), units, units if used is None else used))

        if limiter.take(plan, units):
            decided(None)
        elif limiter.shares:
            limiter.ask(plan, units, *limiter.missing(plan, units), _Decided(decided))
        else:
            decided(limiter.take_near(plan, units))

    def step(self) -> None:
        self.clock.advance(STEP_S)
        now = self.clock.monotonic()
        for shared in self.shared:
            shared.step()
        for ended in [one for one in self.open if one[0] <= now]:
            self.open.remove(ended)
            _, hold, reserved, used = ended
            hold.settle(used)
            self.ideal.use(now, used - reserved)
        if now >= self.tick_at:
            self.tick_at = now + TICK_S
            for limiter in self.limiters:
                limiter.hurry()
                limiter.tick()


class _Decided:
    def __init__(self, then: Callable[[Refusal | None], None]) -> None:
        self._then = then
        self.waits = True

    def __call__(self, refusal: Refusal | None) -> None:
        self.waits = False
        self._then(refusal)
