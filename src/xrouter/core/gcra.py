"""The arithmetic of limits: the generic cell rate algorithm (GCRA, ITU-T I.371, annex A). Pure; time is passed in.

A counter is one number, the theoretical arrival time (TAT): when the store would be full again. With T seconds for
one unit, `TAT - now` seconds are T times what is missing. A unit is used by moving TAT forward by T, and may be used
as long as TAT does not come to lie more than the whole window ahead. So `amount` units may be used at once, after
that one every T seconds; in any stretch of time never more than `amount` and what was filled up in it.

A debt (more was used than had been given) moves TAT further ahead than the window: the next windows pay.

Who gives out a share of a limit by itself reckons with T / share: the same TAT says, of the whole limit and of the
share, which part is missing. That is what makes shares add up. With shares that are 1 together, what is missing of
each of them is together never less than what a single store would miss that had seen all of it: a store fills at its
rate only while something is missing, so it can have filled no more than all shares together would have.

Running calls have no rate: they are counted as what each process holds, and the sum never passes the amount.
`stores/redis/exchange.lua` is the same for all nodes; a test holds the two together.
"""

from collections.abc import Sequence
from math import floor, inf
from typing import Final, Protocol

from xrouter.core.clock import Clock
from xrouter.core.limits import Draw, Grant

_ROUNDING_S: Final = 1e-7
"""What sums of times may lose by rounding, years after the start of a machine."""

RUNNING_WAIT_S: Final = 1.0
"""When a call may end is not known: what is said of it."""

PART: Final = 1 / 16
"""At most this part of what is free goes to one process in advance: near its end a limit is given out one by one, and
no process sits on what another one wants."""


_TOLD: Final = "@"
"""Behind a counter's name: its TAT as far as shared counters know it."""


class Tallies(Protocol):
    """Where the numbers are kept."""

    def tat(self, counter: str) -> tuple[float, float]:
        """TAT, and the T of the whole limit at that time; -inf for a counter that was never used."""
        ...

    def set_tat(self, counter: str, tat: float, each_s: float) -> None: ...

    def held_by_others(self, counter: str) -> int: ...

    def set_held(self, counter: str, held: int) -> None: ...


def exchange(
    draws: Sequence[Draw], now: float, tallies: Tallies, share: float = 1.0, part: float = PART
) -> list[Grant]:
    """Serve all of `draws` or give nothing to any. `share` is the part of each limit that these tallies stand for;
    `part` of what is free may be given in advance."""
    looked = [(_rate if draw.window_s else _running)(draw, now, tallies, share) for draw in draws]
    served = all(suffices(free, need, each_s) for _, free, need, each_s in looked)
    grants: list[Grant] = []
    for draw, (base, free, need, each_s) in zip(draws, looked, strict=True):
        given = max(need, min(draw.want, floor(free * part))) if served else 0.0
        if draw.window_s and draw.amount <= 0:
            pass  # what was used under another amount stays known
        elif draw.window_s:
            tallies.set_tat(draw.counter, base + given * each_s, draw.window_s / draw.amount)
        else:
            tallies.set_held(draw.counter, int(base + given))
        wait_s = 0.0
        if not suffices(free, need, each_s):
            wait_s = (need - free) * each_s if draw.window_s else RUNNING_WAIT_S
        grants.append(Grant(given, free - given, wait_s))
    return grants


def suffices(free: float, need: float, each_s: float) -> bool:
    """Is what is needed free? `each_s` is 0 where running calls are counted."""
    return free + 1e-6 + (_ROUNDING_S / each_s if each_s else 0.0) >= need


def follow(draws: Sequence[Draw], grants: Sequence[Grant], now: float, tallies: Tallies) -> list[bool]:
    """Shared counters have said what is left for everybody: `share` of it is what may be given here without them. What
    was used here and they have not been told of (`untold`) stays missing beside it; says of which there is some."""
    found: list[bool] = []
    for draw, grant in zip(draws, grants, strict=True):
        waits = False
        if not draw.window_s:
            tallies.set_held(draw.counter, draw.held())
        elif draw.amount > 0:
            full_s = draw.window_s / draw.amount
            mine_s = _untold_s(draw, now, tallies)
            heard = now + max(0.0, draw.amount - grant.free) * full_s
            tallies.set_tat(draw.counter, heard + mine_s, full_s)
            tallies.set_tat(draw.counter + _TOLD, heard, full_s)
            waits = abs(mine_s) > _ROUNDING_S
        found.append(waits)
    return found


def untold(draws: Sequence[Draw], now: float, tallies: Tallies, share: float = 1.0) -> list[float]:
    """How many units of each were used here without shared counters: who asks tells them. Below 0 where more came back
    than was used."""
    found: list[float] = []
    for draw in draws:
        units = 0.0
        if draw.window_s and draw.amount > 0:
            full_s = draw.window_s / draw.amount
            units = _untold_s(draw, now, tallies) * share / full_s
            tat = _as_now(draw.counter, now, full_s, draw.amount, tallies)
            tallies.set_tat(draw.counter + _TOLD, tat, full_s)
        found.append(units if abs(units) > _ROUNDING_S else 0.0)
    return found


def _untold_s(draw: Draw, now: float, tallies: Tallies) -> float:
    full_s = draw.window_s / draw.amount
    told = _as_now(draw.counter + _TOLD, now, full_s, draw.amount, tallies)
    return _as_now(draw.counter, now, full_s, draw.amount, tallies) - told


def _pace(draw: Draw, share: float) -> tuple[float, float]:
    """Seconds for one unit, and how many may be used at once. Who has a share below one whole unit still gets one at
    a time, only rarely."""
    if draw.amount <= 0:
        return float(draw.window_s), 0.0
    amount = draw.amount * share
    return draw.window_s / amount, max(1.0, amount)


def _as_now(counter: str, now: float, full_s: float, amount: float, tallies: Tallies) -> float:
    """TAT, not before now; `full_s` is T of the whole limit. Where the amount has changed since: what was missing is
    missing still, but not more than all of it."""
    tat, before_s = tallies.tat(counter)
    if tat <= now:
        return now
    if abs(before_s - full_s) > full_s * 1e-9:
        return now + min((tat - now) / before_s, amount) * full_s
    return tat


def _rate(draw: Draw, now: float, tallies: Tallies, share: float) -> tuple[float, float, float, float]:
    """TAT with what came back, what is free, what is needed, seconds for one unit."""
    each_s, burst = _pace(draw, share)
    full_s = draw.window_s / draw.amount if draw.amount > 0 else each_s
    base = max(_as_now(draw.counter, now, full_s, draw.amount, tallies) - draw.back * each_s, now)
    need = draw.need if burst < 1.0 else min(draw.need, burst)
    return base, burst - (base - now) / each_s, need, each_s


def _running(draw: Draw, now: float, tallies: Tallies, share: float) -> tuple[float, float, float, float]:
    """What the process holds, what is free beside it, what is needed."""
    held = draw.held()
    most = max(1, floor(draw.amount * share)) if draw.amount > 0 else 0
    return held, float(most - tallies.held_by_others(draw.counter) - held), draw.need, 0.0


class MemoryCounters:
    """The port `Counters` within one process. Several of them over the same two mappings are as several processes."""

    def __init__(
        self,
        clock: Clock,
        tats: dict[str, tuple[float, float]] | None = None,
        held: dict[str, dict[int, int]] | None = None,
    ) -> None:
        self._clock = clock
        self._tats = {} if tats is None else tats
        self._held = {} if held is None else held
        self.alone = tats is None
        self.share = 1.0

    def exchange(self, draws: Sequence[Draw]) -> list[Grant]:
        return exchange(draws, self._clock.monotonic(), self, self.share, 1.0 if self.alone else PART)

    def follow(self, draws: Sequence[Draw], grants: Sequence[Grant]) -> list[bool]:
        return follow(draws, grants, self._clock.monotonic(), self)

    def untold(self, draws: Sequence[Draw]) -> list[float]:
        return untold(draws, self._clock.monotonic(), self, self.share)

    def hold(self, draw: Draw) -> None:
        self.set_held(draw.counter, draw.held())

    def tat(self, counter: str) -> tuple[float, float]:
        return self._tats.get(counter, (-inf, 1.0))

    def set_tat(self, counter: str, tat: float, each_s: float) -> None:
        self._tats[counter] = (tat, each_s)

    def held_by_others(self, counter: str) -> int:
        return sum(held for owner, held in self._held.get(counter, {}).items() if owner != id(self))

    def set_held(self, counter: str, held: int) -> None:
        self._held.setdefault(counter, {})[id(self)] = held
