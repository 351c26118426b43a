"""The hedged first token: a stream that is slow to begin is asked of a second deployment, and whoever has content first
answers. Off unless the route says so.

Both are whole attempts with records, slots and deadlines of their own. The one that loses is cut off at once and booked
on the operator: the client has nothing of it. How many calls may have a second attempt is bounded by a budget that
every call fills a little.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Self

from xrouter.core.call import Attempt, Call, Piece
from xrouter.core.closing import closing
from xrouter.core.ports import Slots
from xrouter.gateway import dispatch
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.hedger import Hedger
from xrouter.gateway.route import Candidate

MAX_WAITING = 16
"""Events of the second attempt that wait for the client; then its vendor waits, too."""

LOST = "hedge_lost"


def send(call: Call, plan: tuple[Candidate, ...], gateway: Gateway) -> AsyncGenerator[Piece, None]:
    """As `dispatch.send`, with a second attempt where the route says so and the first one is slow to begin."""
    hedger = gateway.hedgers.get(gateway.catalog.plain(call.request.model))
    if hedger is None:
        return dispatch.send(call, plan, gateway)
    after_s = hedger.after_s(plan[0], gateway.health)
    spare = next((one for one in plan if one.deployment.key != plan[0].deployment.key), None)
    if after_s is None or spare is None:
        return dispatch.send(call, plan, gateway)
    second = (spare, *(one for one in plan if one is not spare))
    return _raced(call, plan, _Race(call, second, after_s, hedger, gateway))


async def _raced(call: Call, plan: tuple[Candidate, ...], race: "_Race") -> AsyncGenerator[Piece, None]:
    """The events of whoever has the first one."""
    async with race:
        async with closing(events := dispatch.send(call, plan, race.gateway)):
            try:
                event = await anext(events)
            except asyncio.CancelledError:
                if not race.was_lost():
                    raise
            except Exception:  # whoever comes second may still have an answer
                if not await race.may_be_saved():
                    raise
            else:
                race.is_won()
                yield event
                async for event in events:
                    yield event
                return
        while (next_event := await race.next()) is not None:
            yield next_event


class _Race:
    """The second runner. The first one runs in the task of whoever reads, as it would without hedging: until it has
    been silent for too long, this is only a timer.

    `dispatch.send` gives nothing before content, so its first event is the first content.
    """

    __slots__ = ("_after_s", "_call", "_came", "_cancels", "_first_failed", "_hedger", "_over", "_plan", "_reader",
                 "_runner", "_timer", "_won", "gateway")  # fmt: skip

    def __init__(
        self, call: Call, plan: tuple[Candidate, ...], after_s: float, hedger: Hedger, gateway: Gateway
    ) -> None:
        self.gateway = gateway
        self._call = call
        self._plan = plan
        self._after_s = after_s
        self._hedger = hedger
        self._came: asyncio.Queue[Piece | Exception | None] = asyncio.Queue(MAX_WAITING)
        self._runner: asyncio.Task[None] | None = None
        self._over = asyncio.Event()  # the second one has content, or has ended
        self._won: bool | None = None  # by the first one; None while nobody has content
        self._first_failed = self._cancels = False

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._reader = task
        self._timer = asyncio.get_running_loop().call_later(self._after_s, self._start)
        return self

    def is_won(self) -> None:
        """The first one has content."""
        self._won = True
        self._timer.cancel()
        if self._runner is not None:
            self._lose(lambda attempt: attempt.beside)
            self._runner.cancel()

    def was_lost(self) -> bool:
        """Whoever reads was cancelled: by the second one, which has content, and by nobody else?"""
        return self._cancels and self._reader.uncancel() == 0

    async def may_be_saved(self) -> bool:
        """The first one has failed: does the second one have an answer?"""
        self._first_failed = True
        self._timer.cancel()
        if self._runner is None:
            return False
        await self._over.wait()
        return self._won is False

    async def next(self) -> Piece | None:
        """The next event of the second one, which has won; None at the end."""
        came = await self._came.get()
        if isinstance(came, Exception):
            raise came
        return came

    def _start(self) -> None:
        """The first one is slow. A second attempt that would only wait for a slot helps nobody."""
        if _is_free(self._plan[0], self.gateway.slots) and self._hedger.spend():
            self._runner = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            async with closing(events := dispatch.send(self._call, self._plan, self.gateway, beside=True)):
                async for event in events:
                    if self._won is None:
                        self._win()
                    await self._came.put(event)
        except Exception as error:  # noqa: BLE001 - `next` raises it in the task of whoever reads
            if self._won is False:
                await self._came.put(error)
            else:
                self._lose(lambda attempt: attempt.beside)
        else:
            await self._came.put(None)
        finally:
            self._over.set()

    def _win(self) -> None:
        self._won = False
        self._hedger.won += 1
        self._over.set()
        if self._first_failed:
            return
        now = self.gateway.clock.monotonic()
        for attempt in self._lose(lambda attempt: not attempt.beside and attempt.ended is None):
            self.gateway.health.shown(attempt, now)  # it would have taken longer still: else the slow ones are not seen
        self._cancels = True
        self._reader.cancel()

    def _lose(self, is_meant: Callable[[Attempt], bool]) -> list[Attempt]:
        lost = [attempt for attempt in self._call.attempts if is_meant(attempt)]
        for attempt in lost:
            attempt.on_operator, attempt.cut_by = True, LOST
        return lost

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._runner is None:
            return
        if self._won is None:  # the client has left, and pays for one
            for attempt in self._call.attempts:
                attempt.on_operator = attempt.on_operator or attempt.beside
        self._runner.cancel()
        await asyncio.wait([self._runner])


def _is_free(candidate: Candidate, slots: Slots) -> bool:
    deployment = candidate.deployment
    return not deployment.max_concurrency or slots.load(deployment.credential) < 1
