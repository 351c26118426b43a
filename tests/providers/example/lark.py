"""Lark, a vendor that does not exist: copy this file to begin a provider with a wire format of its own.

`docs/adding-a-provider.md` leads through it, and `tests/providers` runs the whole suite over it. The wire:
POST `/sing` with the key in `X-Lark-Key`; a stream is NDJSON, `{"note": "..."}` and at last
`{"end": "sung", "spent": {"heard": 3, "sung": 5}}`, a whole answer both in one; an error is
`{"croak": "...", "number": 429}`.
"""

from collections.abc import AsyncGenerator
from typing import Any, Final

import msgspec

from xrouter.core.call import Attempt
from xrouter.core.chat import Answer, AnswerMessage, ChatRequest, Choice, Delta, Event, Finish, FinishReason, Usage
from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import Invalid, ProviderUnavailable
from xrouter.core.ports import ChatProvider
from xrouter.providers import list_deployments, read_options, upstream_url
from xrouter.providers._http import Exchange, LineParser, Reply, usual_error
from xrouter.settings import ConfigError, ProviderSettings
from xrouter.transport import Transport

KIND: Final = "lark"
_UNDERSTOOD: Final = frozenset({"messages", "max_tokens", "max_completion_tokens", "stream_options"})
_ENDS: Final[dict[str, FinishReason]] = {"sung": "stop", "breathless": "length"}


class Options(msgspec.Struct):
    """The account's own settings: what the operator writes under `options`."""

    voice: str = "clear"


def deployments(name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
    """See `providers.ProviderKind`."""
    upstream_url(name, settings)
    return list_deployments(name, settings, kind=KIND, max_concurrency=0, options=Options)


def connect(name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
    """See `providers.ProviderKind`."""
    if not settings.api_key:
        raise ConfigError(f"providers.{name}.api_key: {KIND} needs a key")
    headers = {"Content-Type": "application/json", "X-Lark-Key": settings.api_key.reveal()}
    exchange = Exchange(name, http, clock, framing=LineParser, error_of=error_of)
    return Lark(exchange, f"{upstream_url(name, settings)}/sing", headers, read_options(name, settings, Options))


class Lark:
    """One account."""

    def __init__(self, exchange: Exchange, url: str, headers: dict[str, str], options: Options) -> None:
        self._exchange = exchange
        self._url = url
        self._headers = headers
        self._options = options

    def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """See `core.ports.ChatProvider`."""
        body = upstream_body(request, attempt.deployment.upstream_model, self._options.voice)
        attempt.drop(tuple(name for name in request.fields if name not in _UNDERSTOOD))
        reply = self._exchange.post(self._url, headers=self._headers, body=body, attempt=attempt)
        return reply.decoded(LineReader(self, reply)) if request.stream else self._answered(reply)

    async def _answered(self, exchange: Reply) -> AsyncGenerator[Event, None]:
        async with exchange as reply:
            line = self.read(reply, await reply.json())
        if not line.end:
            raise self._exchange.nonsense("without an end")
        choice = Choice(0, AnswerMessage(line.note), finish_reason(line.end), line.end or None)
        yield Answer((choice,), usage(line.spent))

    def truncated(self) -> ProviderUnavailable:
        """The error for a stream without its end."""
        provider = self._exchange.provider
        return ProviderUnavailable(f"{provider} ended its stream before the answer was finished", provider=provider)

    def read(self, reply: Reply, payload: bytes) -> "Line":
        """One line. Raises the error that it holds, and `ProviderUnavailable` for what is no line."""
        try:
            said = msgspec.json.decode(payload)
            if error_of(said) is not None:
                raise reply.in_band(said)
            return msgspec.convert(said, Line)
        except (ValueError, RecursionError):
            raise self._exchange.nonsense("with a broken line") from None


class LineReader:
    """One stream, line by line: see `PayloadReader`."""

    cut_short = False

    def __init__(self, lark: Lark, reply: Reply) -> None:
        self._lark = lark
        self._reply = reply
        self.done = False

    @property
    def complete(self) -> bool:
        return self.done

    def read(self, data: bytes) -> list[Event]:
        line = self._lark.read(self._reply, data)
        events: list[Event] = [Delta(line.note)] if line.note else []
        if line.end:
            self.done = True
            if (spent := usage(line.spent)) is not None:
                events.append(spent)
            events.append(Finish(finish_reason(line.end), 0, line.end))
        return events

    def end(self) -> None:
        if not self.done:
            raise self._lark.truncated()


class Line(msgspec.Struct):
    """One line of a stream, or a whole answer."""

    note: str = ""
    end: str = ""
    spent: Any = None


def error_of(body: Any) -> Any:
    """A lark's own error in the usual shape. A proxy before it speaks as proxies do."""
    if isinstance(body, dict) and "croak" in body:
        return {"message": body["croak"], "code": body.get("number")}
    return usual_error(body)


def finish_reason(end: str) -> FinishReason:
    """Ours for the vendor's."""
    return _ENDS.get(end, "stop")


def usage(spent: Any) -> Usage | None:
    """Tokens as reported; None where the report is absent or absurd, then the gateway estimates."""
    if not isinstance(spent, dict):
        return None
    counts = [spent.get("heard"), spent.get("sung")]
    heard, sung = (count if type(count) is int and 0 <= count <= 10**9 else None for count in counts)
    return None if heard is None or sung is None else Usage(heard, sung)


def upstream_body(request: ChatRequest, model: str, voice: str) -> bytes:
    """The request in the vendor's words. Raises `Invalid` for what it cannot say."""
    lines = []
    for place, message in enumerate(request.messages()):
        if not isinstance(message.content, str):
            raise Invalid("lark reads text only", param=f"messages[{place}].content")
        lines.append({"by": message.role, "text": message.content})
    return msgspec.json.encode(
        {"bird": model, "voice": voice, "lines": lines, "most": request.max_tokens, "stream": request.stream}
    )
