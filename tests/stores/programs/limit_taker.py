"""Admits calls under a limit as fast as it can, or holds one: `limit_taker.py DIRECTORY UNIT AMOUNT SECONDS`.

Prints `ready`, waits for a line, then for so many seconds admits, ends and counts; prints how many were admitted and
how many ran at most. SECONDS 0: admits one call, prints `held` and never ends it.
"""

import sys
import time
from pathlib import Path

from xrouter.core.call import Caller, Scope
from xrouter.core.clock import SystemClock
from xrouter.core.limits import Level, Limit, Unit
from xrouter.gateway.limiter import Held, Limiter
from xrouter.stores.host_counters import HostCounters

directory, unit, amount, seconds = Path(sys.argv[1]), Unit(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
clock = SystemClock()
counters = HostCounters(directory, clock)
limiter = Limiter(counters, clock)
window_s = 0 if unit is Unit.CONCURRENT else 60
one = Limit(Level.KEY, "k", "key 'k'", unit, amount, window_s)
plan = limiter.plan(Caller("k", "k", frozenset({Scope.MODELS}), limits=(one,)), "m", lambda models: [])


def say(words: str) -> None:
    sys.stdout.write(words + "\n")
    sys.stdout.flush()


def admit() -> Held | None:
    admitted = limiter.take(plan, 0) or limiter.take_near(plan, 0) is None
    return Held(limiter, plan, 0) if admitted else None


say("ready")
sys.stdin.readline()
if not seconds:
    assert admit() is not None
    say("held")
    sys.stdin.readline()
began = ticked = clock.monotonic()
admitted = 0
while clock.monotonic() - began < seconds:
    held = admit()
    if held is not None:
        admitted += 1
        held.settle(0)
    else:
        time.sleep(0.0005)
    if clock.monotonic() - ticked > 0.1:
        ticked = clock.monotonic()
        limiter.tick()
say(f"{admitted} {clock.monotonic() - began}")
limiter.close()
counters.close()
