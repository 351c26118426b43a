"""One of the vendor's slots for an attempt: how many calls a credential serves at once."""

from types import TracebackType

from xrouter.core.call import Attempt
from xrouter.core.closing import UNBOUND, Unbound
from xrouter.core.errors import ProviderRateLimited
from xrouter.gateway.gateway import Gateway


def hold(attempt: Attempt, gateway: Gateway) -> "_Slot | Unbound":
    """Holds one of the vendor's slots, if it has a limit."""
    return _Slot(attempt, gateway) if attempt.deployment.max_concurrency > 0 else UNBOUND


class _Slot:
    """Holds one of the vendor's slots; waits for it until the call's deadline. The attempt begins when it is held."""

    __slots__ = ("_attempt", "_clock", "_hold")

    def __init__(self, attempt: Attempt, gateway: Gateway) -> None:
        deployment = attempt.deployment
        self._attempt = attempt
        self._clock = gateway.clock
        self._hold = gateway.slots.hold(deployment.credential, deployment.max_concurrency, attempt.call.deadline)

    async def __aenter__(self) -> None:
        try:
            await self._hold.__aenter__()
        except TimeoutError:
            deployment = self._attempt.deployment
            raise ProviderRateLimited(
                f"{deployment.provider} serves {deployment.max_concurrency} calls at once for this account, and none "
                "of them ended before this call's deadline. Try again, or add an account or a fallback model.",
                provider=deployment.provider,
                code="provider_busy",
                retry_after_s=1.0,
            ) from None
        self._attempt.began = self._clock.monotonic()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._hold.__aexit__(kind, error, trace)
