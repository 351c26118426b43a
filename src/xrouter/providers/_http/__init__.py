"""One HTTP exchange for every provider: POST, then one JSON body or a stream of events.

Failures leave here as `UpstreamError`s only: of the transport, of the status, of limits passed.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from types import TracebackType
from typing import Any, Protocol

import msgspec

from xrouter.core.call import Attempt
from xrouter.core.chat import Event
from xrouter.core.clock import Clock
from xrouter.core.errors import ProviderRateLimited, ProviderTimeout, ProviderUnavailable, UpstreamError
from xrouter.core.secret import Secret
from xrouter.transport import BrokenOff, CannotConnect, Response, Transport, TransportError

from .failure import in_band, of_response, own_status, usual_error
from .framing import Framing, LineTooLong
from .ndjson import LineParser
from .sse import EventParser
from .tokens import Token, TokenKeeper, log_in

__all__ = [
    "EventParser",
    "Exchange",
    "LineParser",
    "PayloadReader",
    "Reply",
    "Token",
    "TokenKeeper",
    "events_of",
    "log_in",
    "usual_error",
]

LINE_LIMIT = 1024 * 1024
BODY_LIMIT = 64 * 1024 * 1024
_FAILURE_LIMIT = 1024 * 1024
_DRAIN_S = 0.1
# A compressed stream is held back by its compressor, and a compressed body may unpack without bounds.
_ALWAYS = {"Accept-Encoding": "identity"}


# Headers whose values are no secrets. The value of every other one is hidden in what the vendor says about a call:
# who adds a vendor with a header of its own need not think of it.
_OPEN_HEADERS = frozenset({"accept", "accept-encoding", "cache-control", "content-type", "user-agent", "x-request-id"})
_SHORTEST_SECRET = 6  # characters; hiding `1` or `true` would only garble the text


class Exchange:
    """One account's way of talking.

    - `overflow_statuses`: the vendor's statuses for a prompt that is too long;
    - `secrets`: credentials that travel elsewhere than in a header. They and the values of a call's own headers
      are removed from all that the vendor says about that call;
    - `framing`: cuts a stream into events (`EventParser` for server-sent ones, `LineParser` for NDJSON);
    - `error_of`: a decoded body -> the error in it, in one of the usual shapes such as `{"message", "code"}`; None
      where the body is no error. It is asked about any JSON value and raises nothing;
    - `status_of`: a decoded error body -> the status that it stands for, where that says more than the answer's own.
    """

    def __init__(
        self,
        provider: str,
        transport: Transport,
        clock: Clock,
        *,
        overflow_statuses: frozenset[int] = frozenset(),
        secrets: tuple[Secret, ...] = (),
        framing: type[Framing] = EventParser,
        error_of: Callable[[Any], Any] = usual_error,
        status_of: Callable[[Any], int | None] = own_status,
    ) -> None:
        self.provider = provider
        self.transport = transport
        self.clock = clock
        self.overflow_statuses = overflow_statuses
        self.secrets = secrets
        self.framing = framing
        self.error_of = error_of
        self.status_of = status_of

    def post(self, url: str, *, headers: Mapping[str, str], body: bytes, attempt: Attempt | None = None) -> "Reply":
        """Send, and come back with an answer in the 200s; everything else raises.

        Sets the marks of `attempt` and sends its id as `X-Request-ID`. Leaving early cuts the connection.
        """
        sent = {**_ALWAYS, **headers}
        if attempt is not None:
            sent["X-Request-ID"] = attempt.id
        return Reply(self, "POST", url, sent, body, attempt)

    def get(self, url: str, *, headers: Mapping[str, str]) -> "Reply":
        """The same without a body, for what is no attempt: lists, balances, files."""
        return Reply(self, "GET", url, {**_ALWAYS, **headers}, None, None)

    def nonsense(self, what: str) -> ProviderUnavailable:
        """The error for an answer that cannot be one: `what` completes "<provider> answered ..."."""
        return ProviderUnavailable(f"{self.provider} answered {what}", provider=self.provider)

    def unreachable(self, error: TransportError) -> UpstreamError:
        """The error for an exchange that never began or broke off."""
        if isinstance(error, CannotConnect):
            if error.reason == "pool":  # ours, not the vendor's: 503, and another deployment may serve
                return ProviderRateLimited(str(error), provider=self.provider, code="provider_busy", retry_after_s=1.0)
            said = f"{self.provider} was not reached ({error.reason}): {error}"
            if error.reason == "forbidden_address":
                return ProviderUnavailable(said, provider=self.provider, code="provider_address_forbidden")
            if error.reason == "dns":
                return ProviderUnavailable(said, provider=self.provider, code="provider_name_unknown")
            kind = ProviderTimeout if error.reason == "timeout" else ProviderUnavailable
            return kind(said, provider=self.provider)
        return ProviderUnavailable(f"{self.provider} broke off ({error.reason}): {error}", provider=self.provider)


class PayloadReader(Protocol):
    """Makes events of one stream's payloads. `done`: nothing more is to be read, because the vendor said farewell or
    because we `cut_short` what it goes on sending. `complete`: every choice that began has finished."""

    @property
    def done(self) -> bool: ...

    @property
    def complete(self) -> bool: ...

    @property
    def cut_short(self) -> bool: ...

    def read(self, data: bytes) -> list[Event]: ...

    def end(self) -> None:
        """The stream is over. Raises `ProviderUnavailable` unless it is complete."""
        ...


class Reply:
    """The exchange of one `post` or `get`: enter it, then read its body with `json`, `read` or `decoded`.

    A class, because `asynccontextmanager` costs 1.3 us a call more.
    """

    __slots__ = ("_attempt", "_exchange", "_request", "_response", "_sent")

    _response: Response

    def __init__(
        self,
        exchange: Exchange,
        method: str,
        url: str,
        sent: Mapping[str, str],
        body: bytes | None,
        attempt: Attempt | None,
    ) -> None:
        self._exchange = exchange
        self._sent = sent
        self._attempt = attempt
        on_sending = None if attempt is None else attempt.sending
        self._request = exchange.transport.request(method, url, headers=sent, body=body, on_sending=on_sending)

    async def __aenter__(self) -> "Reply":
        try:
            self._response = await self._request.__aenter__()
        except TransportError as error:
            raise self._exchange.unreachable(error) from error
        try:
            await self._take_status()
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._request.__aexit__(kind, error, trace)
        if isinstance(error, TransportError):
            raise self._exchange.unreachable(error) from error

    async def json(self) -> bytes:
        """The whole body of a success; empty ones raise."""
        body = await self._response.read(BODY_LIMIT)
        if not body.strip():
            raise self._exchange.nonsense("with an empty body")
        return body

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers, names in lower case."""
        return self._response.headers

    async def read(self, limit: int) -> bytes:
        """The whole body of a success as it is, at most `limit` bytes."""
        return await self._response.read(limit)

    def decoded(self, reader: PayloadReader) -> AsyncGenerator[Event, None]:
        """The stream's events as `reader` makes them of each payload; see `events_of`. The reply is entered at the
        first of them, not before, and left at the end."""
        return events_of(_Opening(self, reader))

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body of a stream as it arrives. Raises where it is none."""
        exchange, response = self._exchange, self._response
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind in exchange.framing.FOREIGN_TYPES:
            await self._no_stream(kind)
        return response.chunks()

    @property
    def exchange(self) -> Exchange:
        """Whose it is."""
        return self._exchange

    def in_band(self, body: Any) -> UpstreamError:
        """The error for one that the vendor sent inside a success: a decoded body, or payload of a stream."""
        exchange = self._exchange
        said = exchange.error_of(body)
        return in_band(exchange.provider, body if said is None else said, self._secrets())

    async def _take_status(self) -> None:
        response = self._response
        if self._attempt is not None:
            headers = response.headers
            self._attempt.answered(response.status, headers.get("x-request-id") or headers.get("request-id"))
        if not 200 <= response.status < 300:
            raise await self._failure()

    async def _failure(self) -> UpstreamError:
        exchange, response = self._exchange, self._response
        try:
            body = await response.read(_FAILURE_LIMIT)
        except BrokenOff:
            body = b""  # the status alone says enough
        return of_response(
            exchange.provider,
            response.status,
            response.headers,
            body,
            now=exchange.clock.now(),
            secrets=self._secrets(),
            overflow_statuses=exchange.overflow_statuses,
            error_of=exchange.error_of,
            status_of=exchange.status_of,
        )

    async def _no_stream(self, kind: str) -> None:
        body = await self._response.read(BODY_LIMIT)
        try:
            said = msgspec.json.decode(body)
        except (ValueError, RecursionError):
            said = None
        if self._exchange.error_of(said) is not None:
            raise self.in_band(said)
        raise self._exchange.nonsense(f"a stream request with {kind}")

    def _secrets(self) -> tuple[str, ...]:
        """What went out in this call and must not come back: header values, whole and behind their scheme."""
        found = {secret.reveal() for secret in self._exchange.secrets}
        for name, value in self._sent.items():
            if name.lower() not in _OPEN_HEADERS:
                found |= {value, value.partition(" ")[2]}
        return tuple(secret for secret in found if len(secret) >= _SHORTEST_SECRET)


class _Opening:
    """A reply that is entered to be read with `reader`."""

    __slots__ = ("_reader", "_reply")

    def __init__(self, reply: Reply, reader: PayloadReader) -> None:
        self._reply = reply
        self._reader = reader

    async def __aenter__(self) -> tuple[Reply, PayloadReader]:
        return await self._reply.__aenter__(), self._reader

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._reply.__aexit__(kind, error, trace)


async def events_of(
    opening: AbstractAsyncContextManager[tuple[Reply, PayloadReader]],
) -> AsyncGenerator[Event, None]:
    """The events of a stream, as its reader makes them of each payload. Close it, or read it to its end.

    `opening` sends the request and ends the exchange. Raises where the body is no event stream or passes a limit. A
    stream that breaks off after its last choice has finished lacks nothing but the farewell. One generator does all of
    it, without another one around it: it runs for every chunk.
    """
    async with opening as (reply, reader):
        exchange, chunks = reply.exchange, await reply.chunks()
        parser, size = exchange.framing(LINE_LIMIT), 0
        try:
            async for chunk in chunks:
                size += len(chunk)
                if size > BODY_LIMIT:
                    raise exchange.nonsense(f"with a stream of more than {BODY_LIMIT} bytes")
                for payload in parser.feed(chunk):
                    for event in reader.read(payload):
                        yield event
                    if reader.done:
                        break
                if reader.done:
                    break
            else:
                for payload in parser.end():
                    for event in reader.read(payload):
                        yield event
        except LineTooLong:
            raise exchange.nonsense(f"with an event of more than {LINE_LIMIT} bytes") from None
        except BrokenOff:
            if not reader.complete:
                raise
        reader.end()
        if not reader.cut_short:
            await _drain(chunks, BODY_LIMIT - size)


async def _drain(chunks: AsyncIterator[bytes], most: int) -> None:
    """After the last event: read the little that is left, so that the connection can serve again.

    A vendor that keeps the stream open gets a tenth of a second, then the connection is cut as usual.
    """
    with suppress(TransportError, TimeoutError):
        async with asyncio.timeout(_DRAIN_S):
            async for chunk in chunks:
                most -= len(chunk)
                if most < 0:
                    return
