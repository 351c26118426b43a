"""One HTTP exchange for every provider: POST, then a JSON body or a stream of server-sent events.

Failures leave here as `UpstreamError`s only: of the transport, of the status, of limits passed.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any

import msgspec

from xrouter.core.call import Attempt
from xrouter.core.clock import Clock
from xrouter.core.errors import ProviderRateLimited, ProviderTimeout, ProviderUnavailable, UpstreamError
from xrouter.transport import BrokenOff, CannotConnect, Response, Transport, TransportError

from .failure import in_band, of_response
from .sse import EventParser, LineTooLong, ServerEvent

__all__ = ["Exchange", "ServerEvent"]

LINE_LIMIT = 1024 * 1024
BODY_LIMIT = 64 * 1024 * 1024
_FAILURE_LIMIT = 1024 * 1024
_DRAIN_S = 0.1
# A compressed stream is held back by its compressor, and a compressed body may unpack without bounds.
_ALWAYS = {"Accept-Encoding": "identity"}


class Exchange:
    """One account's way of talking. `overflow_statuses` are the vendor's statuses for a prompt that is too
    long. The credential of a call's own `Authorization` header is removed from what the vendor says about it."""

    def __init__(
        self,
        provider: str,
        transport: Transport,
        clock: Clock,
        *,
        overflow_statuses: frozenset[int] = frozenset(),
    ) -> None:
        self.provider = provider
        self._transport = transport
        self._clock = clock
        self._overflow_statuses = overflow_statuses

    def post(
        self, url: str, *, headers: Mapping[str, str], body: bytes, attempt: Attempt | None = None
    ) -> AbstractAsyncContextManager[Response]:
        """Send, and come back with an answer in the 200s; everything else raises.

        Sets the marks of `attempt` and sends its id as `X-Request-ID`. Leaving early cuts the connection.
        """
        sent = {**_ALWAYS, **headers}
        if attempt is not None:
            sent["X-Request-ID"] = attempt.id
        return _Post(self, url, sent, body, attempt)

    def open(
        self, url: str, headers: Mapping[str, str], body: bytes, attempt: Attempt | None
    ) -> AbstractAsyncContextManager[Response]:
        """The bare exchange behind `post`."""
        on_sending = None if attempt is None else attempt.sending
        return self._transport.request("POST", url, headers=headers, body=body, on_sending=on_sending)

    async def json(self, response: Response) -> bytes:
        """The whole body of a success; empty ones raise."""
        body = await response.read(BODY_LIMIT)
        if not body.strip():
            raise self.nonsense("with an empty body")
        return body

    async def events(self, response: Response) -> AsyncGenerator[list[ServerEvent], None]:
        """The events of a stream, in the batches in which they arrive. Close it, or read it to its end.

        Raises where the body is no event stream or passes a limit.
        """
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in ("application/json", "text/html"):
            await self._no_stream(response, kind)
        parser, size = EventParser(LINE_LIMIT), 0
        try:
            async for chunk in response.chunks():
                size += len(chunk)
                if size > BODY_LIMIT:
                    raise self.nonsense(f"with a stream of more than {BODY_LIMIT} bytes")
                events = parser.feed(chunk)
                if events:
                    yield events
            events = parser.end()
        except LineTooLong:
            raise self.nonsense(f"with an event of more than {LINE_LIMIT} bytes") from None
        if events:
            yield events

    async def drain(self, batches: AsyncGenerator[list[ServerEvent], None]) -> None:
        """After the last event: read the little that is left, so that the connection can serve again.

        A vendor that keeps the stream open gets a tenth of a second, then the connection is cut as usual.
        """
        with suppress(TransportError, TimeoutError, UpstreamError):
            async with asyncio.timeout(_DRAIN_S):
                async for _ in batches:
                    pass

    def nonsense(self, what: str) -> ProviderUnavailable:
        """The error for an answer that cannot be one: `what` completes "<provider> answered ..."."""
        return ProviderUnavailable(f"{self.provider} answered {what}", provider=self.provider)

    def in_band(self, body: Any) -> UpstreamError:
        """The error for one that the vendor sent inside a success."""
        return in_band(self.provider, body)

    async def _no_stream(self, response: Response, kind: str) -> None:
        body = await response.read(BODY_LIMIT)
        try:
            said = msgspec.json.decode(body)
        except ValueError:
            said = None
        if isinstance(said, dict) and "choices" not in said and ("error" in said or "message" in said):
            raise self.in_band(said)
        raise self.nonsense(f"a stream request with {kind}")

    async def failure(self, response: Response, authorization: str) -> UpstreamError:
        """The error for an answer that is not in the 200s."""
        try:
            body = await response.read(_FAILURE_LIMIT)
        except BrokenOff:
            body = b""  # the status alone says enough
        return of_response(
            self.provider,
            response.status,
            response.headers,
            body,
            now=self._clock.now(),
            credential=authorization.partition(" ")[2],
            overflow_statuses=self._overflow_statuses,
        )

    def unreachable(self, error: TransportError) -> UpstreamError:
        """The error for an exchange that never began or broke off."""
        if isinstance(error, CannotConnect):
            if error.reason == "pool":  # ours, not the vendor's: 503, and another deployment may serve
                return ProviderRateLimited(str(error), provider=self.provider, code="provider_busy", retry_after_s=1.0)
            kind = ProviderTimeout if error.reason == "timeout" else ProviderUnavailable
            return kind(f"{self.provider} was not reached ({error.reason}): {error}", provider=self.provider)
        return ProviderUnavailable(f"{self.provider} broke off ({error.reason}): {error}", provider=self.provider)


class _Post:
    """The exchange of one `post`. A class, because `asynccontextmanager` costs 3 us a call more."""

    __slots__ = ("_attempt", "_exchange", "_headers", "_request")

    def __init__(
        self, exchange: Exchange, url: str, headers: Mapping[str, str], body: bytes, attempt: Attempt | None
    ) -> None:
        self._exchange = exchange
        self._headers = headers
        self._attempt = attempt
        self._request = exchange.open(url, headers, body, attempt)

    async def __aenter__(self) -> Response:
        try:
            response = await self._request.__aenter__()
        except TransportError as error:
            raise self._exchange.unreachable(error) from error
        try:
            await self._take_status(response)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return response

    async def _take_status(self, response: Response) -> None:
        if self._attempt is not None:
            self._attempt.answered(response.status, response.headers.get("x-request-id"))
        if not 200 <= response.status < 300:
            raise await self._exchange.failure(response, self._headers.get("Authorization", ""))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._request.__aexit__(kind, error, trace)
        if isinstance(error, TransportError):
            raise self._exchange.unreachable(error) from error
