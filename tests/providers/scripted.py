"""A transport whose answers are written down, and what a provider test needs around it."""

import asyncio
import tomllib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Raw

from xrouter.core.call import Attempt, Call, Caller, Scope
from xrouter.core.chat import ChatRequest, Event
from xrouter.core.clock import Clock, ManualClock
from xrouter.core.deployment import Deployment
from xrouter.core.ports import ChatProvider
from xrouter.providers import load
from xrouter.settings import ProviderSettings
from xrouter.transport import BrokenOff, Response, TransportError


@dataclass
class Reply:
    """One answer. The body comes in `chunks`; then it ends, or `breaks`, or (with `holds`) says nothing more."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: list[bytes] = field(default_factory=list)
    breaks: TransportError | None = None
    holds: bool = False


@dataclass
class Sent:
    """One request as it left. `closed` once its connection was given back or cut; `ended` if it was read out."""

    url: str
    headers: Mapping[str, str]
    body: bytes
    closed: bool = False
    ended: bool = False
    method: str = "POST"

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class _Response:
    def __init__(self, reply: Reply, sent: Sent) -> None:
        self.status = reply.status
        self.headers = dict(reply.headers)
        self._reply = reply
        self._sent = sent

    async def chunks(self) -> AsyncIterator[bytes]:
        for chunk in self._reply.chunks:
            await asyncio.sleep(0)
            assert not self._sent.closed, "read after the connection was left"
            yield chunk
        if self._reply.holds:
            await asyncio.Event().wait()
        if self._reply.breaks is not None:
            raise self._reply.breaks
        self._sent.ended = True

    async def read(self, limit: int) -> bytes:
        body = b""
        async for chunk in self.chunks():
            body += chunk
            if len(body) > limit:
                raise BrokenOff("too_large", f"more than {limit} bytes")
        return body


class ScriptedTransport:
    """Answers each request with `answer(sent)`: a `Reply`, or a `TransportError` to be raised."""

    def __init__(self, answer: Callable[[Sent], Reply | TransportError]) -> None:
        self._answer = answer
        self.sent: list[Sent] = []

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        on_sending: Callable[[], None] | None = None,
    ) -> AsyncIterator[Response]:
        assert method in ("POST", "GET")
        assert (body is None) is (method == "GET")
        for name, value in headers.items():
            assert name.isascii(), name
            assert value.isprintable(), (name, value)
            assert value.isascii(), (name, value)
        sent = Sent(url, dict(headers), body or b"", method=method)
        self.sent.append(sent)
        reply = self._answer(sent)
        if isinstance(reply, TransportError):
            if isinstance(reply, BrokenOff) and on_sending is not None:
                on_sending()
            raise reply
        if on_sending is not None:
            on_sending()
        await asyncio.sleep(0)
        try:
            yield _Response(reply, sent)
        finally:
            sent.closed = True

    async def close(self) -> None:
        """Nothing is open."""


OUR_KEY, OUR_TOKEN = "b3VyOm93bi1zZWNyZXQta2V5", "login-token-of-ours"  # no pattern finds them; base64 of a:b
TOKEN = b'{"access_token":"%s","expires_at":99999999999999}' % OUR_TOKEN.encode()

FIXTURES = Path(__file__).parent / "fixtures"
SHARED = "openai_compatible"


class Wire(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the suite must know of a wire format: `fixtures/<kind>/wire.toml`. The defaults are OpenAI's.

    - `path`: the end of the URL that a chat goes to;
    - `base_path`: the path of a base URL that the kind takes;
    - `stream_type`: the content type of a stream;
    - `frame`: how one payload, `%s`, stands in a stream; what follows the `%s` parts it from the next one;
    - `error`: the vendor's own error body, with its text as `%s`;
    - `names_model`: false where the body of a request does not name the model as `model`;
    - `lacks`: what the vendor cannot do, so that no recorded answer can show it;
    - `options`: what an account must say under `options`.
    """

    path: str = "/chat/completions"
    base_path: str = "/v1"
    stream_type: str = "text/event-stream"
    frame: str = "data: %s\n\n"
    error: str = '{"error":{"message":"%s","code":400}}'
    names_model: bool = True
    lacks: frozenset[Literal["tools", "reasoning", "usage"]] = frozenset()
    options: dict[str, Any] = {}

    @property
    def separator(self) -> bytes:
        return self.frame.rpartition("%s")[2].encode()

    def error_body(self, text: str) -> bytes:
        return self.error.replace("%s", text).encode()

    def framed(self, payload: bytes) -> bytes:
        return self.frame.encode().replace(b"%s", payload)


def wire_of(kind: str) -> Wire:
    """The wire format of a kind; the rows of openai_compatible.toml all have the same one."""
    found = FIXTURES / kind / "wire.toml"
    return msgspec.convert(tomllib.loads(found.read_text(encoding="utf-8")), Wire) if found.exists() else Wire()


def connect(
    kind: str,
    answer: Callable[[Sent], Reply | TransportError] | Reply | TransportError,
    *,
    clock: Clock | None = None,
    **settings: Any,
) -> tuple[ChatProvider, ScriptedTransport]:
    """A provider of that kind over a scripted transport. Logins succeed unless `answer` is a function."""

    def login_first(sent: Sent) -> Reply | TransportError:
        if sent.url.endswith("/oauth"):
            return Reply(chunks=[TOKEN])
        assert not callable(answer)
        return answer

    transport = ScriptedTransport(answer if callable(answer) else login_first)
    filled = ProviderSettings.model_validate(
        {
            "kind": kind,
            "base_url": f"https://upstream.test{wire_of(kind).base_path}",
            "api_key": OUR_KEY,
            "models": ["m"],
            "options": wire_of(kind).options,
            **settings,
        }
    )
    return load(kind).connect("acme", filled, transport, clock or ManualClock()), transport


def chat_request(*, stream: bool = True, **fields: Any) -> ChatRequest:
    fields.setdefault("messages", [{"role": "user", "content": "Привет"}])
    return ChatRequest(
        model="acme/m", stream=stream, fields={name: Raw(msgspec.json.encode(value)) for name, value in fields.items()}
    )


def attempt_for(request: ChatRequest, marks: list[str] | None = None) -> Attempt:
    """An attempt with a fixed id, so that generated tool call ids can be compared."""
    caller = Caller("key", "test", frozenset({Scope.MODELS}))
    call = Call(request=request, caller=caller, request_id="r", started_at=0.0, started=0.0)
    attempt = Attempt(
        call=call,
        deployment=Deployment(id="acme/m", provider="acme", kind="", upstream_model="m"),
        model="acme/m",
        began=0.0,
        number=1,
        started_at=0.0,
        journal_intent=lambda _: None if marks is None else marks.append("intent"),
    )
    attempt.id = "01JTESTATTEMPT000000000000"
    return attempt


async def collect(provider: ChatProvider, request: ChatRequest, attempt: Attempt | None = None) -> list[Event]:
    async with aclosing(provider.chat(request, attempt or attempt_for(request))) as events:
        return [event async for event in events]


def cut(body: bytes, size: int) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


def plain(events: Iterable[Any]) -> Any:
    """Events as JSON values, with what is at its default left out."""
    return [{"event": type(event).__name__, **_fields(event)} for event in events]


def _fields(value: msgspec.Struct) -> dict[str, Any]:
    out = {}
    for info in msgspec.structs.fields(value):
        found = getattr(value, info.name)
        if info.required or found != info.default:
            out[info.name] = _plain(found)
    return out


def _plain(value: Any) -> Any:
    if isinstance(value, Raw):
        return msgspec.json.decode(value)
    if isinstance(value, msgspec.Struct):
        return _fields(value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return value
