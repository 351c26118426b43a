"""One of the vendor's slots for an attempt: how many calls a credential serves at once, and who of those who wait is
next. What became of the attempt tells how many the vendor bears."""

from collections.abc import Awaitable
from types import TracebackType

from xrouter.core.call import Attempt, Phase
from xrouter.core.closing import NOTHING, UNBOUND, Nothing, Unbound
from xrouter.core.errors import ProviderRateLimited, ProviderTimeout
from xrouter.core.ports import QueueFull
from xrouter.gateway.gateway import Gateway

_FULL_RETRY_S = 1.0


def hold(attempt: Attempt, gateway: Gateway) -> "_Slot | Unbound":
    """Holds one of the vendor's slots, if it has a limit or one may be learnt."""
    deployment = attempt.deployment
    return _Slot(attempt, gateway) if deployment.max_concurrency > 0 or deployment.adaptive else UNBOUND


class _Slot:
    """Holds one of the vendor's slots; waits for it until the call's deadline. The attempt begins when it is held."""

    __slots__ = ("_attempt", "_clock", "_index", "_room")

    def __init__(self, attempt: Attempt, gateway: Gateway) -> None:
        deployment = attempt.deployment
        self._attempt = attempt
        self._clock = gateway.clock
        self._room = gateway.slots.room(
            deployment.credential, deployment.max_concurrency, deployment.max_waiting, deployment.start_concurrency
        )

    def __aenter__(self) -> Awaitable[None]:
        index = self._room.take()
        if index is None:
            return self._wait()
        self._index = index
        return NOTHING

    async def _wait(self) -> None:
        attempt = self._attempt
        caller, deployment = attempt.call.caller, attempt.deployment
        try:
            self._index = await self._room.wait(caller.organisation_id or caller.key_id, attempt.call.deadline)
        except TimeoutError:
            raise ProviderRateLimited(
                f"{deployment.provider} serves {self._at_once()} calls at once for this account, and none "
                "of them ended before this call's deadline. Try again, or add an account or a fallback model.",
                provider=deployment.provider,
                code="provider_busy",
                retry_after_s=1.0,
            ) from None
        except QueueFull:
            raise ProviderRateLimited(
                f"{deployment.provider} serves {self._at_once()} calls at once for this account, and "
                f"{deployment.max_waiting} more wait already. Try again in a second, or add an account, a fallback "
                "model, or raise max_waiting.",
                provider=deployment.provider,
                code="provider_queue_full",
                retry_after_s=_FULL_RETRY_S,
            ) from None
        attempt.began = self._clock.monotonic()

    def _vendor_was_slow(self) -> bool:
        """And not the client in a hurry; a stall in the middle of an answer says nothing about the crowd either."""
        return self._attempt.call.timeout_s is None and self._attempt.phase is not Phase.SHOWN

    def _at_once(self) -> int:
        return min(self._attempt.deployment.max_concurrency or self._room.window.limit, self._room.window.limit)

    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Nothing:
        room = self._room
        if self._attempt.deployment.adaptive:
            if error is None:
                room.window.succeeded(room.running)
            elif isinstance(error, ProviderRateLimited):
                room.window.refused(self._attempt.began, self._clock.monotonic(), room.running)
            elif isinstance(error, ProviderTimeout) and self._vendor_was_slow():
                room.window.timed_out(self._attempt.began, self._clock.monotonic())
        room.give_back(self._index)
        return NOTHING
