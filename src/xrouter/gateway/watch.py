"""One timer per attempt, re-armed by setting a number.

`asyncio.timeout` costs about 4 us, too much for every event of a stream, and one that is held across a
`yield` would cancel a slow reader instead of a slow vendor. So the timer here looks at a due time when it
fires: not due yet, or nobody waits on the vendor: it sleeps on. Due: it cancels the task that waits.
"""

import asyncio
from collections.abc import Callable
from types import TracebackType

from xrouter.core.closing import NOTHING, Nothing


class Watch:
    """Cancels the task that entered it once `due` (loop time) has passed while it waits on the vendor.

    Turns that cancellation into `error()` on the way out, and leaves every other one alone.
    """

    __slots__ = ("_error", "_expired", "_handle", "_loop", "_task", "due", "resting")

    def __init__(self, due: float, error: Callable[[], Exception]) -> None:
        self.due = due
        self._error = error
        self.resting = False
        self._expired = False

    def __aenter__(self) -> Nothing:
        self._loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._task = task
        self._handle = self._loop.call_at(self.due, self._fire)
        return NOTHING

    def arm(self, due: float) -> None:
        """The vendor has until `due` from now on. An earlier due time than before needs a new timer."""
        if due < self.due:
            self._handle.cancel()
            self._handle = self._loop.call_at(due, self._fire)
        self.due = due

    def _fire(self) -> None:
        now = self._loop.time()
        if self.resting:
            # The client is slow, not the vendor: look again later. Its own limit is the door's business.
            self._handle = self._loop.call_at(now + 1.0, self._fire)
        elif now < self.due:
            self._handle = self._loop.call_at(self.due, self._fire)
        else:
            self._expired = True
            self._task.cancel()

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Nothing:
        self._handle.cancel()
        if self._expired and self._task.uncancel() == 0 and kind is asyncio.CancelledError:
            raise self._error() from None
        return NOTHING
