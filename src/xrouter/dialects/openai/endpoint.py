"""An endpoint that spends tokens: from the credential to the last byte, whatever it is that is asked for.

What differs from one to the next is its `Form`: how a body is read and how an answer is written.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, get_args

from msgspec import Struct

from xrouter.core.call import Call, Caller, Piece, Request, Whole
from xrouter.core.closing import closing
from xrouter.core.errors import GatewayError, Internal, Invalid
from xrouter.core.money import rub_text
from xrouter.core.preferences import Preferences
from xrouter.dialects import end_user, explain, tags
from xrouter.dialects.exchange import JSON, Exchange, Silence
from xrouter.dialects.limits import Limits
from xrouter.dialects.openai import unheeded
from xrouter.edge import body as request_body
from xrouter.gateway import meter, pipeline
from xrouter.gateway.gateway import Gateway


class Writer(Protocol):
    """Turns the events of one stream into bytes."""

    def chunk(self, event: Piece) -> bytes:
        """The bytes of one event; empty for one that is not told by itself."""
        ...

    def end(self) -> bytes:
        """What follows the last event of a stream that is complete."""
        ...

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        """What ends a stream that is not: it must not look complete."""
        ...


class Asked(Struct):
    """A body, read: the request in our words, and how its answer is to be written.

    `preferences` are its wishes for the route; `writer` is None where nothing is ever streamed.
    """

    request: Request
    whole: Callable[[Call, Any], bytes]
    writer: Callable[[Call], Writer] | None = None
    preferences: Preferences | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """`prefix` begins the public ids; `parse` reads a body and raises `Invalid`."""

    prefix: str
    parse: Callable[[bytes], Asked]
    dialect: str = "openai"


_WHOLE = frozenset(get_args(Whole))


class Endpoint:
    """One URL. One object serves all its calls."""

    def __init__(self, gateway: Gateway, limits: Limits, form: Form) -> None:
        self._gateway = gateway
        self._limits = limits
        self._form = form
        self._silence = Silence(limits.status_wait_s, limits.ping_s)

    async def __call__(self, exchange: Exchange) -> None:
        limits = self._limits
        caller = await pipeline.admit(exchange.credential(), self._gateway, exchange.address)
        body = await request_body.read_body(exchange.scope, exchange.receive, limit=limits.max_body_bytes)
        request_body.check_utf8(body)
        request_body.check_depth(body)
        request_body.check_surrogates(body)
        asked = self._form.parse(body)
        call = self._call(exchange, caller, asked)
        exchange.call = call
        writer = asked.writer(call) if asked.writer is not None and call.request.stream else None
        try:
            with exchange.watch_client(None if writer is None else self._silence):
                if writer is None:
                    await self._whole(exchange, call, asked)
                else:
                    await self._stream(exchange, call, writer)
        except GatewayError as error:
            if exchange.status and writer is not None:
                await exchange.write(writer.fail(error, exchange.request_id))
                await exchange.close_stream()
            raise

    def _call(self, exchange: Exchange, caller: Caller, asked: Asked) -> Call:
        clock = self._gateway.clock
        started = clock.monotonic()
        plain = _WISHES.isdisjoint(exchange.headers)
        wishes = asked.preferences
        strict = bool(wishes and wishes.require_parameters) or (not plain and _is(exchange, _STRICT, False))
        if strict and wishes is not None:
            unheeded.check(wishes, self._gateway.catalog)
        return Call(
            id=f"{self._form.prefix}-{exchange.id}",
            request=asked.request,
            caller=caller,
            request_id=exchange.request_id,
            started_at=clock.now() - (started - exchange.started),
            started=exchange.started,
            timeout_s=None if plain else _timeout_s(exchange, asked.request.stream),
            client_request_id=None if plain else _client_request_id(exchange),
            dialect=self._form.dialect,
            strict=strict,
            may_continue=plain or _is(exchange, _CONTINUE, True),
            end_user=self._end_user(exchange, caller, asked.request),
            tags=() if plain else tags.named(exchange),
            preferences=wishes,
            session=None if plain else _session(exchange),
            explained=not plain and explain.wanted(exchange),
        )

    def _end_user(self, exchange: Exchange, caller: Caller, request: Request) -> str | None:
        pseudonyms = self._gateway.pseudonyms
        name = None if pseudonyms is None else end_user.named(exchange, request)
        return None if pseudonyms is None or name is None else pseudonyms.of(caller, name)

    async def _whole(self, exchange: Exchange, call: Call, asked: Asked) -> None:
        answer: Piece | None = None
        async with closing(events := pipeline.converse(call, self._gateway)):
            async for event in events:
                if type(event) in _WHOLE:
                    answer = event
        if answer is None:
            raise Internal("The provider's adapter gave no answer.")
        headers = [JSON, *self._headers(call), (b"x-xrouter-cost-rub", rub_text(call.cost_micro).encode())]
        if meter.unpriced(call):
            headers.append((b"x-xrouter-unpriced", b"true"))
        body = asked.whole(call, answer)
        await exchange.answer(200, headers, body if call.explanation is None else explain.added(body, call))

    async def _stream(self, exchange: Exchange, call: Call, writer: Writer) -> None:
        """The status line waits for the first chunk, so an error before it still has its own status."""
        async with closing(events := pipeline.converse(call, self._gateway)):
            async for event in events:
                chunk = writer.chunk(event)
                if chunk:
                    if not exchange.status:
                        await exchange.open_stream(self._headers(call))
                    await exchange.write(chunk)
        if not exchange.status:  # nothing that was said had bytes of its own
            await exchange.open_stream(self._headers(call))
        await exchange.write(writer.end())
        await exchange.close_stream()

    def _headers(self, call: Call) -> list[tuple[bytes, bytes]]:
        """What the operator and the curious client want to know about the way the call took."""
        served = call.served
        assert served is not None, "somebody has answered"
        now = self._gateway.clock.monotonic()
        overhead_ms = max(0.0, (now - call.started - call.upstream_s(now)) * 1000)
        headers = [
            (b"x-generation-id", call.id.encode()),
            *_names(served.deployment.provider, served.deployment.id),
            (b"x-xrouter-attempts", b"%d" % call.upstream_calls),
            (b"x-xrouter-overhead-ms", b"%.2f" % overhead_ms),
        ]
        if call.explanation is not None:
            headers.append((explain.SHORT, explain.short(call)))
        if served.dropped or call.preferences is not None:
            dropped = unheeded.told(call, served.dropped, self._gateway.catalog)
            if dropped:
                headers.append((b"x-xrouter-dropped-params", ",".join(dropped).encode()))
        if call.hold is not None:
            headers += call.hold.headers()
        if served.clamped:
            told = ",".join(f"{name}={value:g}" for name, value in served.clamped.items())
            headers.append((b"x-xrouter-clamped", told.encode()))
        return headers


@lru_cache(1024)
def _names(provider: str, deployment: str) -> tuple[tuple[bytes, bytes], ...]:
    return (b"x-xrouter-provider", provider.encode()), (b"x-xrouter-model", deployment.encode())


_SESSION = b"x-xrouter-session"
_LONGEST_SESSION = 256
_STRICT = b"x-xrouter-strict-params"
"""`true`: a parameter that the vendor does not know is an error."""

_CONTINUE = b"x-xrouter-continue"
"""`false`: a stream that breaks off ends with an error, and no other attempt goes on with it."""

# Headers that say something about a call; most requests come without any of them.
_WISHES = frozenset(
    {
        _STRICT,
        _CONTINUE,
        b"x-xrouter-timeout-ms",
        b"x-stainless-read-timeout",
        b"x-request-id",
        b"x-client-request-id",
        _SESSION,
        explain.HEADER,
        tags.HEADER,
    }
)


def _is(exchange: Exchange, name: bytes, usual: bool) -> bool:
    """A header that is `true` or `false`. Raises `Invalid` for anything else."""
    wanted = exchange.header(name)
    if wanted is None:
        return usual
    if wanted.lower() not in ("true", "false"):
        raise Invalid(f"The header '{name.decode()}' must be true or false, not '{wanted[:40]}'.", param=name.decode())
    return wanted.lower() == "true"


def _session(exchange: Exchange) -> str | None:
    """The client's name for what belongs together, such as a conversation: it stays where it is (docs/routing.md)."""
    value = exchange.header(_SESSION)
    if value is not None and not 0 < len(value) <= _LONGEST_SESSION:
        raise Invalid(
            f"The header 'x-xrouter-session' must have 1 to {_LONGEST_SESSION} characters.", param="x-xrouter-session"
        )
    return value


def _timeout_s(exchange: Exchange, stream: bool) -> float | None:
    """The client's own deadline: `x-xrouter-timeout-ms`, and for whole answers the read timeout that the
    official SDKs announce. Raises `Invalid` for a value that is no positive number."""
    found: list[float] = []
    wanted = exchange.header(b"x-xrouter-timeout-ms")
    if wanted is not None:
        found.append(_positive(wanted, "x-xrouter-timeout-ms") / 1000)
    announced = exchange.header(b"x-stainless-read-timeout")
    if announced is not None and not stream:
        with suppress(Invalid):  # an SDK's own business: "None" and the like mean no limit
            found.append(_positive(announced, "x-stainless-read-timeout"))
    return min(found, default=None)


def _positive(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e9:
        raise Invalid(f"The header '{name}' must be a positive number, not '{text[:40]}'.", param=name)
    return value


def _client_request_id(exchange: Exchange) -> str | None:
    """The client's own id for its request, for our records; only plain text of a sane length."""
    value = exchange.header(b"x-request-id") or exchange.header(b"x-client-request-id")
    return value if value and len(value) <= 128 and value.isascii() and value.isprintable() else None
