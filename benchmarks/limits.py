"""What limits cost a call: admitting and settling it, and the headers of its answer, without anything else.

`python benchmarks/limits.py`: microseconds (the best of 20 turns) and function calls, for a process that is alone on
its host and for one beside which another one runs. Then authentication and limits of one call before and after: without
limits, with those of the plan `pro` and tokens at organisation, user and key (12 limits), and the same so small that
every call is drawn by itself; these take turns, and the CPU time is the median of 20.
"""

import cProfile
import pstats
import statistics
import tempfile
import time
import timeit
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from msgspec import Raw

from xrouter.core.call import Call, Caller, Scope
from xrouter.core.chat import ChatRequest
from xrouter.core.clock import SystemClock
from xrouter.core.limits import DAY_S, MINUTE_S, Level, Limit, Unit
from xrouter.core.secret import Secret
from xrouter.gateway import authenticate, limits
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.limiter import Limiter
from xrouter.gateway.output_guess import OutputGuess
from xrouter.stores.host_counters import HostCounters
from xrouter.stores.sql.keys import SqlKeys

MANY = 10**9
TURN = 1_000


def limit(unit: Unit, amount: int, window_s: int, level: Level = Level.KEY) -> Limit:
    return Limit(level, "s", "key 's'", unit, amount, window_s)


CASES: dict[str, tuple[Limit, ...]] = {
    "no limits": (),
    "3 on requests": (
        limit(Unit.REQUESTS, MANY, MINUTE_S),
        limit(Unit.REQUESTS, MANY, DAY_S),
        limit(Unit.REQUESTS, MANY, MINUTE_S, Level.TEAM),
    ),
    "requests, tokens, concurrent": (
        limit(Unit.REQUESTS, MANY, MINUTE_S),
        limit(Unit.TOKENS, MANY, MINUTE_S),
        limit(Unit.CONCURRENT, 10**6, 0),
    ),
    "5 concurrent, 2 on requests": (
        limit(Unit.CONCURRENT, 5, 0),
        limit(Unit.REQUESTS, MANY, MINUTE_S),
        limit(Unit.REQUESTS, MANY, DAY_S),
    ),
}
ONE = (limit(Unit.REQUESTS, MANY, MINUTE_S),)
EACH = (limit(Unit.REQUESTS, MANY, MINUTE_S, Level.END_USER), limit(Unit.REQUESTS, MANY, MINUTE_S, Level.TAG))


def measure(name: str, held: tuple[Limit, ...], limiter: Limiter, each: tuple[Limit, ...] = ()) -> str:
    parts = SimpleNamespace(limiter=limiter, catalog=Catalog({}), output_guess=OutputGuess())
    gateway = cast(Gateway, parts)  # of a gateway the step reads these three
    request = ChatRequest("m", False, {"messages": Raw(b'[{"role":"user","content":"hi"}]'), "max_tokens": Raw(b"50")})
    caller = Caller(name, "bench", frozenset({Scope.MODELS}), limits=held, each=each)
    call = Call(request, caller, "r", 0.0, 0.0, end_user="eu_0123456789abcdef0123456789abcdef", tags=("a", "b"))

    def once() -> None:
        limits.admit(call, gateway)
        limits.release(call, gateway)

    for _ in range(4):  # until slices have the size of what is used
        timeit.timeit(once, number=TURN)
        limiter.tick()
    took_us = min(timeit.repeat(once, number=TURN, repeat=20)) / TURN * 1e6
    profile = cProfile.Profile()
    profile.runcall(lambda: [once() for _ in range(100)])
    calls = pstats.Stats(profile).total_calls / 100  # type: ignore[attr-defined]
    limits.admit(call, gateway)
    hold: Any = call.hold
    headers_us = min(timeit.repeat(hold.headers, number=TURN, repeat=5)) / TURN * 1e6 if hold is not None else 0.0
    limits.release(call, gateway)
    limiter.close()
    return f"{name:<30}{took_us:>10.2f}{calls:>8.0f}{headers_us:>12.2f}"


class Paced(SystemClock):
    """Each call comes when one unit has been filled up: nothing lies in advance."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


def pro(large: bool) -> tuple[Limit, ...]:
    amounts = (MANY, MANY, 10**6, MANY) if large else (100, 1_000, 20, 100_000)
    return tuple(
        limit(unit, amount, window_s, level)
        for level in (Level.ORGANISATION, Level.USER, Level.KEY)
        for unit, amount, window_s in zip(
            (Unit.REQUESTS, Unit.REQUESTS, Unit.CONCURRENT, Unit.TOKENS), amounts, (MINUTE_S, DAY_S, 0, MINUTE_S),
            strict=True,
        )
    )  # fmt: skip


def before_and_after(directory: Path, beside: bool) -> None:
    """Authentication alone, and with limits, in turns."""
    request = ChatRequest("m", False, {"messages": Raw(b'[{"role":"user","content":"hi"}]'), "max_tokens": Raw(b"50")})
    clock = Paced()
    counters = HostCounters(directory, clock)
    other = HostCounters(directory, clock) if beside else None
    keys = SqlKeys(cast(Any, None), Secret("bench" * 10), SystemClock(), 1.0)
    found: dict[str, Caller] = {}
    memory: Any = keys
    memory._memory = SimpleNamespace(caller=lambda digest: found["caller"])  # of the real one the dictionary is missing
    turns: dict[str, list[float]] = {}
    plans = {"authentication alone": (), "plan pro, three levels": pro(True), "the same, one by one": pro(False)}
    gateways = {
        name: SimpleNamespace(limiter=Limiter(counters, clock), catalog=Catalog({}), output_guess=OutputGuess())
        for name in plans
    }

    def once(name: str) -> None:
        clock.at += 90.0  # a thousand in a day: one in 86.4 s
        with suppress(StopIteration):  # it waits for nothing
            authenticate.check("sk-bench", Scope.MODELS, keys, keys._clock, lambda: None).send(None)
        call = Call(request, found["caller"], "r", 0.0, 0.0)
        gateway = cast(Gateway, gateways[name])
        limits.admit(call, gateway)
        limits.release(call, gateway)

    for turn in range(24):
        for name, held in plans.items():
            found["caller"] = Caller(name, "bench", frozenset({Scope.MODELS}), limits=held)
            began = time.process_time()
            for number in range(250):
                once(name)
                if number % 50 == 49:
                    gateways[name].limiter.tick()
            if turn >= 4:
                turns.setdefault(name, []).append((time.process_time() - began) / 250 * 1e6)
    plain = statistics.median(turns["authentication alone"])
    for name, took in turns.items():
        middle = statistics.median(took)
        print(f"{name:<30}{middle:>10.2f}{middle - plain:>20.2f}")
    counters.close()
    if other is not None:
        other.close()


def main() -> None:
    clock = SystemClock()
    print(f"{'':<30}{'us a call':>10}{'calls':>8}{'headers us':>12}")
    for beside in (False, True):
        print("beside another process" if beside else "alone")
        with tempfile.TemporaryDirectory() as directory:
            counters = HostCounters(Path(directory), clock)
            other = HostCounters(Path(directory), clock) if beside else None
            for name, held in CASES.items():
                print(measure(name, held, Limiter(counters, clock)))
            print(measure("1, and 1 for each end user", ONE, Limiter(counters, clock), EACH[:1]))
            print(measure("1, and 1 for each of two tags", ONE, Limiter(counters, clock), EACH[1:]))
            counters.close()
            if other is not None:
                other.close()
    print(f"\n{'before and after':<30}{'us a call':>10}{'for limits':>20}")
    for beside in (False, True):
        print("beside another process" if beside else "alone")
        with tempfile.TemporaryDirectory() as directory:
            before_and_after(Path(directory), beside)


if __name__ == "__main__":
    main()
