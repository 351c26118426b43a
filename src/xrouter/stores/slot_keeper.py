"""Shares the slots of credentials with other nodes, beside the calls: says what this host uses and wants, and lets its
processes know how many they may take.

One process of a host does so, whichever holds the lock; when it dies, another one goes on. A share only becomes smaller
by slots that are free: who holds one beyond it keeps it until its call ends, and until then it is said to be held.
While the other nodes cannot be asked, the host keeps what it has.
"""

import asyncio
import fcntl
import os
from collections.abc import Callable
from math import floor
from pathlib import Path
from typing import Final

from xrouter.core.clock import Clock
from xrouter.core.ports import SharedSlots, SlotClaim
from xrouter.stores.files import try_lock
from xrouter.stores.slots import HostSlots, Room

TICK_S: Final = 0.2


class SlotKeeper:
    """`share` is the part of a limit that this host takes where it has never reached the others; `alone` says that
    no other process of this host serves."""

    def __init__(
        self,
        slots: HostSlots,
        shared: SharedSlots,
        clock: Clock,
        *,
        share: Callable[[], float],
        lease_s: float,
        alone: bool,
    ) -> None:
        self._slots = slots
        self._shared = shared
        self._clock = clock
        self._share = share
        self._lease_s = lease_s
        self._alone = alone
        self._begun: set[str] = set()
        self._lock = os.open(slots.directory / "keeper", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        self._keeps = False

    async def run(self) -> None:
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    def begin(self) -> None:
        """Before anybody is served: what an earlier start has left counts no more, if we are the first of this one."""
        self._keeps = self._keeps or try_lock(self._lock)
        if self._keeps:
            for room in self._slots.rooms.values():
                if room.limit:
                    self._begin(room)

    async def tick(self) -> None:
        """One exchange; two where slots came free by it, which others may wait for."""
        self._keeps = self._keeps or try_lock(self._lock)
        if self._keeps and await self._exchange():
            await self._exchange()

    def close(self) -> None:
        os.close(self._lock)

    async def _exchange(self) -> bool:
        rooms = [room for room in self._slots.rooms.values() if room.limit]
        for room in rooms:
            self._begin(room)
        claims = [self._claim(room) for room in rooms]
        leases = await self._shared.exchange(claims)
        if leases is None:
            for room in rooms:
                if room.share.until == 0:  # the others were never reached
                    room.share.write(max(1, floor(room.limit * self._share())), 0)
            return False
        lowered = False
        until = self._clock.monotonic() + self._lease_s
        for room, claim, lease in zip(rooms, claims, leases, strict=True):
            slots = min(lease.slots, lease.target)
            lowered = lowered or slots < claim.held
            room.share.write(slots, until)
            room.look()
        return lowered

    def _begin(self, room: Room) -> None:
        """A share that another start of this host has left is nobody's any more."""
        if room.name in self._begun:
            return
        self._begun.add(room.name)
        now = self._clock.monotonic()
        if not now < room.share.until <= now + self._lease_s:
            room.share.write(0, 0)

    def _claim(self, room: Room) -> SlotClaim:
        top = min(room.limit, room.share.read() or 0)
        busy = set(room.held) if self._alone else {index for index in range(room.limit) if self._is_busy(room, index)}
        held = top + sum(index >= top for index in busy)
        waiting = room.waiting if room.running < room.window.limit else 0  # more slots would not help
        if not self._alone and len(busy) >= top and not waiting and self._others_wait(room):
            waiting = max(1, top)
        return SlotClaim(room.path.name, room.limit, held, min(room.limit, len(busy) + waiting))

    @staticmethod
    def _is_busy(room: Room, index: int) -> bool:
        """Does any process of this host hold the slot? Asked with a descriptor of our own, as another process would."""
        return index in room.held or _is_locked(room.file(str(index)))

    @staticmethod
    def _others_wait(room: Room) -> bool:
        return _is_locked(room.file("queue"))


def _is_locked(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if not try_lock(fd):
            return True
        fcntl.flock(fd, fcntl.LOCK_UN)
    finally:
        os.close(fd)
    return False
