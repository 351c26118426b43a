"""The access token of an account: one login at a time, however many calls wait for it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from xrouter.core.clock import Clock
from xrouter.core.secret import Secret

_MARGIN_S = 60.0  # a token that ends sooner is not used: the call must arrive before it ends
_MILLISECONDS_FROM = 1e11
_DEFAULT_LIFE_S = 1500.0


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
        self._flight: asyncio.Task[Token] | None = None

    async def token(self) -> Secret:
        """A token that holds for a minute at least, where the vendor gives such ones."""
        token = self._token
        if token is None or token.expires_at - _MARGIN_S <= self._clock.now():
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
            flight = self._flight = asyncio.create_task(self._fly(), name="gigachat-login")
            flight.add_done_callback(self._landed)
        return await asyncio.shield(flight)

    async def _fly(self) -> Token:
        return await self._fetch()

    def _landed(self, flight: asyncio.Task[Token]) -> None:
        self._flight = None
        if not flight.cancelled() and flight.exception() is None:
            self._token = flight.result()


def read_token(body: bytes, now: float) -> Token:
    """The token in a login's answer: `{"access_token", "expires_at"}`, or `{"tok", "exp"}` of corporate stands.

    The end is milliseconds at the vendor and seconds at some stands; one that is missing is taken as 25 of the
    documented 30 minutes. Raises ValueError for anything else.
    """
    answer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    raw_text = answer.get("access_token", answer.get("tok"))
    text = None if raw_text is None else msgspec.json.decode(raw_text)
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
        raise ValueError("no token in the answer")
    raw_end = answer.get("expires_at", answer.get("exp"))
    end = None if raw_end is None else msgspec.json.decode(raw_end)
    if not isinstance(end, int | float) or isinstance(end, bool) or end <= 0:
        return Token(Secret(text), now + _DEFAULT_LIFE_S)
    return Token(Secret(text), end / 1000 if end > _MILLISECONDS_FROM else float(end))
