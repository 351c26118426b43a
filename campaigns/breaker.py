"""The circuit breaker against a model that only remembers what happened and reads the rules aloud.

`python -m campaigns.breaker [SEQUENCES]`: so many random sequences of events (1,000,000), with equal seeds for both.
After every event both must say the same. Exit code 1 at the first difference, with the sequence that shows it.
"""

import sys
import time
from dataclasses import dataclass, field
from math import inf
from random import Random

from xrouter.gateway.breaker import Breaker

EVENTS = (8, 24, 24, 64)
PAUSES_S = (0.0, 0.0, 0.01, 0.3, 0.3, 1.0, 2.5, 9.5, 10.5, 31.0, 400.0)


@dataclass
class Ejection:
    reason: str
    at: float
    until: float
    row: int
    successes: int = 0


@dataclass
class Model:
    """Everything that was told since the breaker was last closed, and the ejection in force."""

    chance: Random
    told: list[tuple[float, bool]] = field(default_factory=list)
    ejection: Ejection | None = None
    probe: str | None = None

    def says(self, now: float) -> tuple[object, ...]:
        found = self.ejection
        if found is None:
            return "closed", None, -inf, 0, True
        half_open = now >= found.until
        may = half_open and self.probe is None
        return "half_open" if half_open else "open", found.reason, found.until, found.row, may

    def begin(self, name: str, now: float) -> None:
        if self.ejection is not None and now >= self.ejection.until and self.probe is None:
            self.probe = name

    def end(self, name: str, began: float, now: float, outcome: str) -> None:
        if self.probe == name:
            self.probe = None
        found = self.ejection
        if outcome == "nothing":
            return
        if outcome in ("auth_failed", "quota_exhausted"):
            until = now + 300
            if found is not None and now < found.until:
                until = max(until, found.until)
            self._eject(Ejection(outcome, now, until, found.row if found else 1))
        elif found is None:
            self.told.append((now, outcome != "success"))
            if outcome != "success" and (self._five_failed() or self._half_failed(now)):
                self._eject(Ejection(outcome, now, now + self._lasts(outcome, 1), 1))
        elif outcome == "success":
            if began >= found.at:
                found.successes += 1
                found.until = min(found.until, now)
                if found.successes == 2:
                    self.ejection, self.probe, self.told = None, None, []
        elif now < found.until:
            found.successes = 0
            found.until = max(found.until, now + self._lasts(outcome, found.row))
        elif began >= found.at:
            row = found.row + 1
            self._eject(Ejection(outcome, now, now + self._lasts(outcome, row), row))

    def hear(self, now: float, until: float) -> None:
        found = self.ejection
        if found is not None and now < found.until:
            found.until = max(found.until, until)
        elif until > now:
            self._eject(Ejection("failures", now, until, found.row if found else 1))

    def check(self, now: float) -> None:
        if self.ejection is not None:
            self.ejection.until = min(self.ejection.until, now)

    def _eject(self, ejection: Ejection) -> None:
        self.ejection, self.probe = ejection, None

    def _five_failed(self) -> bool:
        return len(self.told) >= 5 and all(failed for _, failed in self.told[-5:])

    def _half_failed(self, now: float) -> bool:
        lately = [failed for at, failed in self.told if int(now) - int(at) < 30]
        return len(lately) >= 10 and 2 * sum(lately) >= len(lately)

    def _lasts(self, outcome: str, row: int) -> float:
        if outcome == "dns":
            return 300.0
        return min(10.0 * row, 300.0) * (1.0 + 0.1 * (2.0 * self.chance.random() - 1.0))


def differs(seed: int) -> str | None:
    """None, or how breaker and model came apart in the sequence of that seed."""
    draw, here, there = Random(seed), Random(seed), Random(seed)
    breaker, model = Breaker(), Model(there)
    now, running, named, happened = 1_000.0 + draw.random(), [], 0, []
    liking = draw.choice((0.2, 0.5, 0.9))  # how often an attempt fails
    for _ in range(draw.choice(EVENTS)):
        now += draw.choice(PAUSES_S)
        kind = draw.random()
        if kind < 0.4 or not running:
            name = str(named)
            named += 1
            running.append((name, now))
            breaker.began(name, now)
            model.begin(name, now)
            happened.append(f"{now:.2f} begin {name}")
        elif kind < 0.94:
            name, began = running.pop(draw.randrange(len(running)) if draw.random() < 0.3 else -1)
            outcome = _outcome(draw, liking)
            if outcome == "nothing":
                breaker.passed(name)
            elif outcome == "success":
                breaker.succeeded(name, began, now)
            elif outcome in ("failures", "dns"):
                breaker.failed(name, began, now, here, outcome)
            else:
                breaker.eject(name, now, outcome)
            model.end(name, began, now, outcome)
            happened.append(f"{now:.2f} end {name} {outcome}")
        elif kind < 0.97:
            until = now + draw.choice((-1.0, 5.0, 60.0))
            breaker.adopt(now, until, "failures")
            model.hear(now, until)
            happened.append(f"{now:.2f} heard {until:.2f}")
        else:
            breaker.shorten(now)
            model.check(now)
            happened.append(f"{now:.2f} check")
        said = (*breaker.state(now), breaker.reason is None or (now >= breaker.until and breaker.probe is None))
        if said != model.says(now):
            return "\n".join([f"seed {seed}", *happened, f"breaker: {said}", f"model:   {model.says(now)}"])
    return None


def _outcome(draw: Random, liking: float) -> str:
    kind = draw.random()
    if kind < 0.05:
        return "nothing"
    if kind < 0.07:
        return draw.choice(("auth_failed", "quota_exhausted", "dns"))
    return "failures" if draw.random() < liking else "success"


def run(sequences: int, first_seed: int) -> str | None:
    for seed in range(first_seed, first_seed + sequences):
        found = differs(seed)
        if found is not None:
            return found
    return None


def main() -> int:
    sequences = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    began = time.monotonic()
    found = run(sequences, 0)
    took_s = time.monotonic() - began
    print(found or f"{sequences} sequences (seeds from 0) agree with the model; {took_s:.0f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
