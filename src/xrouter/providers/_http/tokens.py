"""Access tokens that a login gives for a while: one login at a time, however many calls wait for it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from xrouter.core.clock import Clock
from xrouter.core.errors import ProviderAuthFailed, ProviderRefused, ProviderTimeout, UpstreamError
from xrouter.core.secret import Secret

_MARGIN_S = 60.0  # a token that ends sooner is not used: the call must arrive before it ends
_LOGIN_S = 10.0  # one small exchange
# A fresh token is used so long, whatever its end says: where our clock is ahead of the vendor's it would be over
# when it is born, and a login for every call is soon refused. One that does not hold is replaced when a call says so.
_FRESH_S = 10.0


@dataclass(frozen=True, slots=True)
class Token:
    """`expires_at` is seconds since the epoch."""

    text: Secret
    expires_at: float


class TokenKeeper:
    """Hands out the token and fetches the next one when its time is near.

    All callers that find no good token wait for the same fetch. Its failure is the failure of all of them,
    and the next call tries again. A caller that is cancelled leaves the fetch to the others.
    """

    def __init__(self, fetch: Callable[[], Awaitable[Token]], clock: Clock, first: Token | None = None) -> None:
        """`first` is a token that is there already."""
        self._fetch = fetch
        self._clock = clock
        self._token = first
        self._fresh_until = 0.0  # on the monotonic clock
        self._flight: asyncio.Task[Token] | None = None

    async def token(self) -> Secret:
        """A token that holds for a minute at least, where the vendor gives such ones."""
        token, clock = self._token, self._clock
        if token is None or (token.expires_at - _MARGIN_S <= clock.now() and clock.monotonic() >= self._fresh_until):
            token = await self._next()
        return token.text

    async def replace(self, refused: Secret) -> Secret:
        """A token other than `refused`, which the vendor no longer takes."""
        if self._token is not None and self._token.text == refused:
            self._token = None
        return await self.token()

    async def _next(self) -> Token:
        flight = self._flight
        if flight is None:
            flight = self._flight = asyncio.create_task(self._fly(), name="login")
            flight.add_done_callback(self._landed)
        return await asyncio.shield(flight)

    async def _fly(self) -> Token:
        return await self._fetch()

    def _landed(self, flight: asyncio.Task[Token]) -> None:
        self._flight = None
        if not flight.cancelled() and flight.exception() is None:
            self._token = flight.result()
            self._fresh_until = self._clock.monotonic() + _FRESH_S


async def log_in(provider: str, ask: Callable[[], Awaitable[Token]]) -> Token:
    """A fresh token by `ask`, within ten seconds. Raises `UpstreamError` of `provider`; refusals of any kind mean
    that our credential is wrong."""
    try:
        async with asyncio.timeout(_LOGIN_S):
            return await ask()
    except TimeoutError:
        raise ProviderTimeout(f"{provider} login did not answer within {_LOGIN_S:g} s", provider=provider) from None
    except ProviderRefused as error:  # 400: wrong scope, wrong key; never the client's doing
        raise ProviderAuthFailed(error.message, provider=provider, upstream_status=error.upstream_status) from None
    except UpstreamError as error:
        error.provider = provider  # the message says "login", the metadata names the provider
        raise
