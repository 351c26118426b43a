"""How many requests one worker serves at once, and what becomes of more: they wait a moment, the newest first, and are
refused before their body is read.

Overload is one of two things: as many requests run as may, or the event loop comes late to its timers, which says that
there is more work than processor. Whoever comes then stands in a line with a bound in number and in time. Under
overload the newest goes first: the oldest is the one whose client is most likely to give up, so serving it would help
nobody (https://queue.acm.org/detail.cfm?id=2839461). When the line is full, the oldest is refused.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable
from typing import Final

from xrouter.core.errors import Overloaded

LONGEST_WAIT_S: Final = 2.0
_TICK_S: Final = 0.1
_ADMITTED_PER_TICK: Final = 64
_RETRY_S: Final = 1.0


class Door:
    """`inside` are requests that were let in and have not left. `lagging`: the event loop was more than `max_lag_s`
    late, twice in a row (once may be a pause of the machine)."""

    __slots__ = ("_late_s", "_line", "_max_lag_s", "_most", "_most_waiting", "_wait_s", "inside", "lagging")

    def __init__(self, *, most: int, most_waiting: int, wait_s: float, max_lag_s: float) -> None:
        self._most = most
        self._most_waiting = most_waiting
        self._wait_s = wait_s
        self._max_lag_s = max_lag_s
        self._line: OrderedDict[asyncio.Future[None], None] = OrderedDict()
        self._late_s = 0.0
        self.inside = 0
        self.lagging = False

    @property
    def waiting(self) -> int:
        return len(self._line)

    def enter(self) -> Awaitable[None] | None:
        """Let a request in at once (None), or when the returned awaitable ends; that raises `Overloaded`. Whoever was
        let in must `leave`."""
        if self.inside < self._most and not self.lagging:
            self.inside += 1
            return None
        return self._wait()

    def leave(self) -> None:
        self.inside -= 1
        if self._line:
            self._admit(1)

    async def run(self) -> None:
        """Beside the requests: look how late the event loop is."""
        time = asyncio.get_running_loop().time
        while True:
            due = time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self.was_late(time() - due)

    def was_late(self, seconds: float) -> None:
        """A timer came so much after its time."""
        self.lagging = min(seconds, self._late_s) > self._max_lag_s
        self._late_s = seconds
        self._admit(_ADMITTED_PER_TICK)

    async def _wait(self) -> None:
        line = self._line
        if len(line) >= self._most_waiting:
            if not line:
                raise self._overloaded()
            oldest, _ = line.popitem(last=False)
            if not oldest.done():
                oldest.set_exception(self._overloaded())
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        line[turn] = None
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except BaseException as error:
            line.pop(turn, None)
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.leave()  # it was let in, in the very moment it left
            if isinstance(error, TimeoutError):
                raise self._overloaded() from None
            raise

    def _admit(self, most: int) -> None:
        while most and self._line and self.inside < self._most and not self.lagging:
            newest, _ = self._line.popitem()
            if not newest.done():
                newest.set_result(None)
                self.inside += 1
                most -= 1

    def _overloaded(self) -> Overloaded:
        why = "has more work than it can do" if self.lagging else f"already serves {self._most} requests"
        return Overloaded(f"This worker {why}. Try again in a second.", retry_after_s=_RETRY_S)
