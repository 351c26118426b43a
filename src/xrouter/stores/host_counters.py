"""The port `Counters` for all processes of a host: the numbers lie in one file in the data directory.

So totals hold for all workers together, and outlive a restart. Each process has a place, a lock file that the kernel
frees when the process dies; what a dead process held of a concurrency is given back by whoever takes its place, and
by whoever would be refused for it.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Final

from xrouter.core.clock import Clock
from xrouter.core.gcra import PART, exchange, follow, untold
from xrouter.core.ids import ulid
from xrouter.core.limits import Draw, Grant
from xrouter.stores.counter_file import CounterFile, this_boot
from xrouter.stores.files import try_lock

_MOST_PLACES: Final = 256
_LOOK_AGAIN_S: Final = 1.0
MOST_SPILT: Final = 50_000


def host_id(directory: Path) -> str:
    """The name of this host among the nodes, made at its first start. Raises OSError."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, fresh = directory / "host", directory / f".host.{ulid()}"
    if not path.exists():
        fresh.touch(0o600)
        fresh.write_text(ulid())
        with suppress(FileExistsError):
            os.link(fresh, path)  # unlike a rename, it never replaces what another process has just made
        fresh.unlink()
    return path.read_text()


def known_nodes(directory: Path) -> int:
    """How many nodes there were when this host last knew: a start without Redis takes no more than its share."""
    try:
        return max(1, int((directory / "nodes").read_text()))
    except (OSError, ValueError):
        return 1


def keep_nodes(directory: Path, nodes: int) -> None:
    """For `known_nodes`, which then finds this number or the one before, never a part of it."""
    if known_nodes(directory) == nodes:
        return
    fresh = directory / f".nodes.{ulid()}"
    with suppress(OSError):  # it is only a memory
        fresh.write_text(str(nodes))
        fresh.replace(directory / "nodes")


class HostCounters:
    """One for each process. `share` is the part of each limit that this host may give out by itself."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        """Raises OSError where the directory cannot be used."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._clock = clock
        self._now = clock.monotonic()
        self._locks: dict[int, int] = {}
        self._place = self._take_place()
        self._others = self._other_places()
        if not any(this_boot()) and not any(map(self._lives, self._others)):
            (directory / "counters").unlink(missing_ok=True)  # nobody says whether its times are of this start
        self._file = CounterFile(directory / "counters", self._matters)
        self._joins = -1
        self._look_at = -inf
        self._spilt: dict[str, tuple[float, float]] = {}  # what found no room on a full disk counts in this process
        self.alone = False
        self.share = 1.0
        with self._file:
            self._none(self._place)

    def exchange(self, draws: Sequence[Draw]) -> list[Grant]:
        with self._file:
            self._now = now = self._clock.monotonic()
            self._look_around(now)
            part = 1.0 if self.alone else PART
            grants = exchange(draws, now, self, self.share, part)
            refused = [draw for draw, grant in zip(draws, grants, strict=True) if grant.wait_s and not draw.window_s]
            if refused and self._bury_the_dead():
                for draw in draws:
                    draw.back = 0.0  # that much was taken already
                grants = exchange(draws, now, self, self.share, part)
            return grants

    def follow(self, draws: Sequence[Draw], grants: Sequence[Grant]) -> list[bool]:
        with self._file:
            self._now = now = self._clock.monotonic()
            return follow(draws, grants, now, self)

    def untold(self, draws: Sequence[Draw]) -> list[float]:
        with self._file:
            self._now = now = self._clock.monotonic()
            return untold(draws, now, self, self.share)

    def hold(self, draw: Draw) -> None:
        with self._file:
            self.set_held(draw.counter, draw.held())

    def close(self) -> None:
        """What this process held of concurrencies is free again."""
        with self._file:
            self._none(self._place)
        self._file.close()
        for fd in self._locks.values():
            os.close(fd)
        self._locks.clear()

    # ── the numbers: a rate is (TAT, seconds for one unit), what a process holds is (units, -1 - its place) ──

    def tat(self, counter: str) -> tuple[float, float]:
        return self._file.read(counter) or self._spilt.get(counter, (-inf, 1.0))

    def set_tat(self, counter: str, tat: float, each_s: float) -> None:
        self._write(counter, tat, each_s)

    def held_by_others(self, counter: str) -> int:
        held = 0.0
        for place in self._others:
            found = self._file.read(f"{counter}#{place}")
            if found is not None:
                held += found[0]
        return int(held)

    def set_held(self, counter: str, held: int) -> None:
        self._write(f"{counter}#{self._place}", held, -1 - self._place)

    def _write(self, name: str, first: float, second: float) -> None:
        try:
            self._file.write(name, first, second)
        except OSError:
            if len(self._spilt) >= MOST_SPILT and name not in self._spilt:
                matter = [(name, pair) for name, pair in self._spilt.items() if self._matters(*pair) > 0]
                self._spilt = dict(matter[-MOST_SPILT // 2 :])
            self._spilt[name] = (first, second)

    def _matters(self, first: float, second: float) -> float:
        return inf if second < 0 and first > 0 else first - self._now if second > 0 else 0.0

    # ── the other processes ──────────────────────────────────────────────────────────────────────────────

    def _take_place(self) -> int:
        for place in range(_MOST_PLACES):
            if self._lock(place):
                return place
        raise OSError(f"{self._directory}: all {_MOST_PLACES} places for processes are taken")

    def _lock(self, place: int) -> bool:
        fd = self._locks.get(place)
        if fd is None:
            path = self._directory / f"place.{place}"
            fd = self._locks[place] = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        return try_lock(fd)

    def _look_around(self, now: float) -> None:
        """Who else is there? Looked up when somebody has come, and every second."""
        if self._file.joins == self._joins and now < self._look_at:
            return
        self._joins, self._look_at = self._file.joins, now + _LOOK_AGAIN_S
        self._others = self._other_places()
        self.alone = not any(map(self._lives, self._others))

    def _other_places(self) -> list[int]:
        found = [int(path.name.removeprefix("place.")) for path in self._directory.glob("place.*")]
        return [place for place in found if place != self._place]

    def _lives(self, place: int) -> bool:
        if not self._lock(place):
            return True
        os.close(self._locks.pop(place))  # which frees it
        return False

    def _bury_the_dead(self) -> bool:
        """Give back what processes hold that have died; whether there were any."""
        changed = False
        for place in self._others:
            if not self._lives(place):
                changed |= self._none(place)
        return changed

    def _none(self, place: int) -> bool:
        found: list[float] = []

        def forget(first: float, second: float) -> tuple[float, float] | None:
            if second != -1 - place or not first:
                return None
            found.append(first)
            return 0.0, second

        self._file.change(forget)
        return bool(found)
