"""Every server that speaks OpenAI's chat completions: OpenAI, vLLM with T-Bank's models, and most others.

How each bends the format is data: a row of `openai_compatible.toml` (see `rows.py`). This module itself is
the kind `openai_compatible`, the row that assumes least.
"""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from xrouter.core.call import Attempt
from xrouter.core.chat import Answer, ChatRequest, Event
from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.ports import ChatProvider
from xrouter.providers import ProviderKind, list_deployments, read_options, upstream_url
from xrouter.providers._http import Exchange, Reply
from xrouter.settings import ConfigError, ProviderSettings
from xrouter.transport import Transport

from .answer import read_answer
from .reading import Reading, reading
from .request import upstream_request
from .rows import Quirks, Row, rows
from .stream import StreamReader

__all__ = [
    "OpenAICompatible",
    "Reading",
    "RowKind",
    "StreamReader",
    "connect",
    "deployments",
    "read_answer",
    "row",
    "row_names",
]


def row_names() -> tuple[str, ...]:
    """The kinds that are rows."""
    return tuple(rows())


def row(name: str) -> ProviderKind:
    """The kind of that row."""
    return RowKind(name, rows()[name])


class RowKind:
    """A row as a provider kind."""

    def __init__(self, kind: str, row: Row) -> None:
        self._kind = kind
        self._row = row

    def deployments(self, name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
        upstream_url(name, settings, self._row.base_url)
        prices = {model: found.price() for model, found in self._row.prices.items()}
        return list_deployments(name, settings, kind=self._kind, prices=prices, max_concurrency=0, options=Quirks)

    def connect(self, name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
        if self._row.needs_key and not settings.api_key:
            raise ConfigError(f"providers.{name}.api_key: {self._kind} needs a key")
        headers = {"Content-Type": "application/json"}
        if settings.api_key:
            headers["Authorization"] = f"Bearer {settings.api_key.reveal()}"
        url = f"{upstream_url(name, settings, self._row.base_url)}/chat/completions"
        row = self._row.with_options(settings.options, read_options(name, settings, Quirks))
        return OpenAICompatible(Exchange(name, http, clock), url, headers, row)


class OpenAICompatible:
    """One account at one such server."""

    def __init__(self, exchange: Exchange, url: str, headers: dict[str, str], row: Row) -> None:
        self._exchange = exchange
        self._url = url
        self._stream_headers = {**headers, "Accept": "text/event-stream"}
        self._whole_headers = {**headers, "Accept": "application/json"}
        self._row = row

    async def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """See `core.ports.ChatProvider`."""
        upstream = upstream_request(request, attempt.deployment.upstream_model, self._row)
        attempt.drop(upstream.dropped)
        how = reading(self._row, upstream, attempt.id)
        headers = self._stream_headers if request.stream else self._whole_headers
        async with self._exchange.post(self._url, headers=headers, body=upstream.body, attempt=attempt) as reply:
            if request.stream:
                reader = StreamReader(self._exchange.provider, reply.in_band, how)
                async with aclosing(reply.decoded(reader)) as events:
                    async for event in events:
                        yield event
                return
            answer = await self._answer(reply, how)
        yield answer

    async def _answer(self, reply: Reply, how: Reading) -> Answer:
        return read_answer(self._exchange.provider, await reply.json(), reply.in_band, how)


_plain = RowKind("openai_compatible", rows()["openai_compatible"])
deployments, connect = _plain.deployments, _plain.connect
