"""`POST /v1/chat/completions`, streamed or whole."""

from contextlib import aclosing, suppress

from xrouter.core.call import Call, Caller
from xrouter.core.chat import Answer
from xrouter.core.errors import GatewayError, Internal, Invalid
from xrouter.core.money import rub_text
from xrouter.dialects.exchange import JSON, Exchange, Silence
from xrouter.dialects.limits import Limits
from xrouter.dialects.openai import chat_answer, chat_request, problems
from xrouter.edge import body as request_body
from xrouter.gateway import pipeline
from xrouter.gateway.gateway import Gateway


class ChatCompletions:
    """The endpoint. One object serves all calls."""

    def __init__(self, gateway: Gateway, limits: Limits) -> None:
        self._gateway = gateway
        self._limits = limits
        self._silence = Silence(limits.status_wait_s, limits.ping_s)

    async def __call__(self, exchange: Exchange) -> None:
        limits = self._limits
        caller = await pipeline.admit(exchange.credential(), self._gateway)
        body = await request_body.read_body(exchange.scope, exchange.receive, limit=limits.max_body_bytes)
        request_body.check_utf8(body)
        request_body.check_depth(body)
        request_body.check_surrogates(body)
        call = self._call(exchange, caller, body)
        exchange.call = call
        try:
            async with exchange.watch_client(self._silence if call.request.stream else None):
                if call.request.stream:
                    await self._stream(exchange, call)
                else:
                    await self._whole(exchange, call)
        except GatewayError as error:
            if exchange.status:
                await self._fail_in_band(exchange, error)
            raise

    def _call(self, exchange: Exchange, caller: Caller, body: bytes) -> Call:
        clock = self._gateway.clock
        request = chat_request.parse(body)
        started = clock.monotonic()
        return Call(
            id=f"chatcmpl-{exchange.id}",
            request=request,
            caller=caller,
            request_id=exchange.request_id,
            started_at=clock.now() - (started - exchange.started),
            started=exchange.started,
            timeout_s=_timeout_s(exchange, request.stream),
            client_request_id=_client_request_id(exchange),
        )

    async def _whole(self, exchange: Exchange, call: Call) -> None:
        answer: Answer | None = None
        async with aclosing(pipeline.converse(call, self._gateway)) as events:
            async for event in events:
                if isinstance(event, Answer):
                    answer = event
        if answer is None:
            raise Internal("The provider's adapter gave no answer.")
        cost = sum(attempt.cost_micro for attempt in call.attempts)
        headers = [JSON, *self._headers(call), (b"x-xrouter-cost-rub", rub_text(cost).encode())]
        await exchange.answer(200, headers, chat_answer.whole(call, answer))

    async def _stream(self, exchange: Exchange, call: Call) -> None:
        """The status line waits for the first chunk, so an error before it still has its own status."""
        writer = chat_answer.ChunkWriter(call)
        async with aclosing(pipeline.converse(call, self._gateway)) as events:
            async for event in events:
                chunk = writer.chunk(event)
                if chunk:
                    if not exchange.status:
                        await exchange.open_stream(self._headers(call))
                    await exchange.write(chunk)
        last = writer.usage() if call.request.include_usage else b""
        await exchange.write(last + chat_answer.DONE)
        await exchange.close_stream()

    async def _fail_in_band(self, exchange: Exchange, error: GatewayError) -> None:
        """The error as the stream's last event, without `[DONE]`: a cut stream must not look complete."""
        await exchange.write(chat_answer.error(problems.fields(error, exchange.request_id)))
        await exchange.close_stream()

    def _headers(self, call: Call) -> list[tuple[bytes, bytes]]:
        """What the operator and the curious client want to know about the way the call took."""
        served = call.attempts[-1]
        upstream_s = sum((one.ended or self._gateway.clock.monotonic()) - one.began for one in call.attempts)
        overhead_ms = max(0.0, (self._gateway.clock.monotonic() - call.started - upstream_s) * 1000)
        headers = [
            (b"x-generation-id", call.id.encode()),
            (b"x-xrouter-provider", served.deployment.provider.encode()),
            (b"x-xrouter-model", served.deployment.id.encode()),
            (b"x-xrouter-attempts", b"%d" % len(call.attempts)),
            (b"x-xrouter-overhead-ms", b"%.2f" % overhead_ms),
        ]
        if served.dropped:
            headers.append((b"x-xrouter-dropped-params", ",".join(served.dropped).encode()))
        return headers


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
