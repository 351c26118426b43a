"""How an answer leaves: streamed or whole, at a human pace, and broken in every way that faults.py names."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from typing import Final

import msgspec

from xrouter.core.clock import Clock
from xrouter.simulators.faults import Fault
from xrouter.simulators.wire import Framing, Headers, Wire

_HUGE: Final = b"x" * (10 * 1024 * 1024)
_NOT_UTF8: Final = b"\xff\xfe"
# Without a pause between them, chunks share TCP segments as they do on a fast vendor's wire.
_FLUSH_BYTES: Final = 16 * 1024
_PING_S: Final = 0.05
_HTML: Final = (
    b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n"
    b"<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
)
# Faults that end a stream at a chunk, whatever was still to come.
_ENDINGS: Final = frozenset(("stall", "ping-stall", "reset", "eof", "chunked-cut", "clean-end", "error"))


class Switches(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What POST /control/settings may change while the simulators run.

    `pace_ms`: pause between pieces of content; `first_ms`: pause before the first, None means five times the
    pace. `first_token_s`: how long the fault slow-first waits. `token_ttl_s`: life of a login's token, negative
    for one that is expired when it is born; `token_claim_s`: what the login claims instead. `limits`: requests at
    once for a GigaChat account by its scope, 0 for no limit; `logins_per_s`: the same for its logins per second.
    `api_key`: Bearer key that the OpenAI form demands. `reasoning`: none, inline, prefilled, reasoning_content or
    reasoning instead of what the model does by itself; `tool_text`: calls as Hermes text, as without a tool parser;
    `flat_errors`: error bodies of old vLLM versions, and without an envelope at MWS; `max_model_len`: context length
    instead of the models' own; `ignores_max_tokens`: models that think answer at any length; `projects`: those of MWS;
    `models`: further ids that the OpenAI form serves. `operation_s`: how long an operation of Yandex takes; `limits`
    of its clouds stand under `yandex`, 10 where nothing is said.
    """

    pace_ms: float = 0.0
    first_ms: float | None = None
    first_token_s: float = 3600.0
    token_ttl_s: float = 1800.0
    token_claim_s: float | None = None
    limits: dict[str, int] = msgspec.field(
        default_factory=lambda: {"GIGACHAT_API_PERS": 1, "GIGACHAT_API_B2B": 10, "GIGACHAT_API_CORP": 10}
    )
    logins_per_s: int = 10
    api_key: str | None = None
    reasoning: str | None = None
    tool_text: bool = False
    flat_errors: bool = False
    max_model_len: int | None = None
    ignores_max_tokens: bool = False
    projects: list[str] = msgspec.field(default_factory=lambda: ["demo"])
    models: list[str] = msgspec.field(default_factory=list)
    operation_s: float = 0.02

    @property
    def first_s(self) -> float:
        return (self.pace_ms * 5 if self.first_ms is None else self.first_ms) / 1000


@dataclass(frozen=True, slots=True)
class Events:
    """A streamed answer: JSON of the events before, with and after content. Content events carry their tokens."""

    opening: Sequence[bytes]
    content: Sequence[tuple[bytes, int]]
    closing: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Whole:
    """An answer in one body. `pieces` is how many chunks it would be as a stream, for the time it takes."""

    body: bytes
    tokens: int
    pieces: int


def _sse(event: bytes) -> bytes:
    return b"data: %b\n\n" % event


@dataclass(frozen=True, slots=True)
class Stream:
    """How a vendor writes events: around each one, after the last, instead of one in the fault error-K, and as a
    sign of life. `halved`: every event leaves in two chunks, parted where no reader may count on it."""

    frame: Callable[[bytes], bytes] = _sse
    farewell: bytes = b"data: [DONE]\n\n"
    failure: bytes = (
        b'{"error":{"message":"The model failed while it was answering","type":"InternalServerError",'
        b'"param":null,"code":500}}'
    )
    ping: bytes = b": ping\n\n"
    halved: bool = False

    def put(self, wire: Wire, event: bytes) -> None:
        framed = self.frame(event)
        if self.halved:
            half = len(framed) // 2
            wire.put(framed[:half])
            framed = framed[half:]
        wire.put(framed)


SSE: Final = Stream()


async def refused(wire: Wire, fault: Fault, headers: Headers, error: Callable[[int], bytes], clock: Clock) -> bool:
    """Answer with a fault that is a status. Returns False if the fault is of another kind."""
    headers = [header for header in headers if header[0] != "Content-Type"]
    status, extra, body = 0, [("Content-Type", "application/json")], b""
    match fault.name:
        case "status":
            status = fault.k
        case "html-502":
            status, extra, body = 502, [("Content-Type", "text/html")], _HTML
        case "retry-after-seconds":
            status, extra = 429, [*extra, ("Retry-After", "1")]
        case "retry-after-date":
            status, extra = 429, [*extra, ("Retry-After", formatdate(clock.now() + 1, usegmt=True))]
        case "retry-after-ms":
            status, extra = 429, [*extra, ("retry-after-ms", "500")]
        case "redirect":
            status, extra, body = 302, [("Location", wire.elsewhere)], b""
            await whole(wire, status, [*headers, *extra], b"")
            return True
        case "slow-headers":
            await wire.hold()
        case _:
            return False
    await whole(wire, status, [*headers, *extra], body or error(status))
    return True


async def whole(wire: Wire, status: int, headers: Headers, body: bytes) -> None:
    """A plain answer with its right length."""
    wire.head(status, headers, Framing.LENGTH, len(body))
    wire.put(body)
    await wire.end()


async def send_whole(
    wire: Wire, answer: Whole, headers: Headers, fault: Fault, error: Callable[[int], bytes], switches: Switches
) -> None:
    """A 200 in one body, or what the fault makes of it."""
    body, row = answer.body, wire.row
    pace_s = fault.k / 1000 if fault.name == "slow" else switches.pace_ms / 1000
    wait_s = switches.first_s + pace_s * answer.pieces
    if wait_s:
        await asyncio.sleep(wait_s)
    if fault.name == "reset" and fault.k == 0:
        return await wire.reset()
    row.completion_tokens = answer.tokens
    row.chunks = answer.pieces
    half = body[: len(body) // 2]
    match fault.name:
        case "slow-first":
            wire.head(200, headers, Framing.LENGTH, len(body))
            await wire.flush()
            await asyncio.sleep(switches.first_token_s)
            wire.put(body)
            await wire.end()
        case "stall" | "reset" | "eof":
            wire.head(200, headers, Framing.LENGTH, len(body))
            wire.put(half)
            await (wire.hold() if fault.name == "stall" else wire.reset() if fault.name == "reset" else wire.hang_up())
        case "ping-stall":
            wire.head(200, headers, Framing.CHUNKED)
            await _ping(wire, b" ")
        case "chunked-cut" | "clean-end":
            wire.head(200, headers, Framing.CHUNKED)
            wire.put(half)
            await (wire.hang_up() if fault.name == "chunked-cut" else wire.end())
        case "broken-json":
            await whole(wire, 200, headers, half)
        case "error":
            await whole(wire, 200, headers, error(500))
        case "empty":
            await whole(wire, 200, headers, b"")
        case "bad-utf8":
            await whole(wire, 200, headers, _inject(body, _NOT_UTF8))
        case "huge-line":
            await whole(wire, 200, headers, _inject(body, _HUGE))
        case _:
            await whole(wire, 200, headers, body)
    return None


async def send_events(
    wire: Wire, events: Events, headers: Headers, fault: Fault, switches: Switches, stream: Stream = SSE
) -> None:
    """A 200 as a stream of events, or what the fault makes of it."""
    name = fault.name
    if name == "reset" and fault.k == 0:
        return await wire.reset()
    wire.head(200, headers, Framing.CLOSE if name == "eof" else Framing.CHUNKED)
    if name == "empty":
        return await wire.end()
    first_s = switches.first_token_s if name == "slow-first" else switches.first_s
    if first_s:
        await wire.flush()
        await asyncio.sleep(first_s)
    for event in events.opening:
        stream.put(wire, event)
    pace_s = fault.k / 1000 if name == "slow" else switches.pace_ms / 1000
    last = min(fault.k, len(events.content)) if name in _ENDINGS else -1
    row = wire.row
    for index, (event, tokens) in enumerate(events.content):
        if index == last:
            return await _ended(wire, name, stream)
        stream.put(wire, _bent(event, index, fault))
        row.chunks += 1
        row.completion_tokens += tokens
        if pace_s:
            await wire.flush()
            await asyncio.sleep(pace_s)
        elif wire.pending >= _FLUSH_BYTES:
            await wire.flush()
    if last >= 0:
        return await _ended(wire, name, stream)
    for event in events.closing:
        stream.put(wire, event)
    if name != "no-done" and stream.farewell:
        wire.put(stream.farewell)
    return await wire.end()


def _bent(event: bytes, index: int, fault: Fault) -> bytes:
    if fault.name == "broken-json" and index == fault.k:
        return event[: len(event) // 2]
    if fault.name == "bad-utf8" and index == 0:
        return _inject(event, _NOT_UTF8)
    if fault.name == "huge-line" and index == 0:
        return _inject(event, _HUGE)
    return event


def _inject(body: bytes, foreign: bytes) -> bytes:
    """Put bytes into the content, or into the first key where there is no content."""
    place = b'"content":"' if b'"content":"' in body else b'"'
    return body.replace(place, place + foreign, 1)


async def _ended(wire: Wire, name: str, stream: Stream) -> None:
    match name:
        case "stall":
            await wire.hold()
        case "ping-stall":
            await _ping(wire, stream.ping)
        case "reset":
            await wire.reset()
        case "chunked-cut":
            await wire.hang_up()
        case "error":
            stream.put(wire, stream.failure)
            await wire.end()
        case _:
            await wire.end()


async def _ping(wire: Wire, ping: bytes) -> None:
    while True:
        wire.put(ping)
        await wire.flush()
        await asyncio.sleep(_PING_S)
