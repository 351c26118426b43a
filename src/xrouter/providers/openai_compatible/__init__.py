"""Every server that speaks OpenAI's API: OpenAI, vLLM with T-Bank's models, and most others.

How each bends the format is data: a row of `openai_compatible.toml` (see `rows.py`). This module itself is
the kind `openai_compatible`, the row that assumes least.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import TypeVar
from urllib.parse import urljoin

import msgspec

from xrouter.core.call import Attempt
from xrouter.core.chat import ChatRequest, Event
from xrouter.core.clock import Clock
from xrouter.core.closing import closing
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.ports import ChatProvider
from xrouter.core.rerank import Ranking, RerankRequest
from xrouter.providers import ProviderKind, list_deployments, read_options, upstream_url
from xrouter.providers._http import Exchange, Reply, usual_error
from xrouter.settings import ConfigError, ProviderSettings
from xrouter.transport import Transport

from .answer import read_answer
from .embeddings import check_length, embeddings_request, read_embeddings
from .errors import ErrorCodes
from .gather import gather
from .images import images_request, read_images
from .lists import read_count, read_model_ids
from .ranking import read_ranking, rerank_request
from .reading import Reading, reading
from .request import parameters, upstream_request
from .rows import Quirks, Row, rows, serves
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

_Found = TypeVar("_Found")


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
        self._base_url(name, settings)
        row = self._row.with_options(settings.options, read_options(name, settings, Quirks))
        followed = parameters(row)
        return list_deployments(
            name,
            settings,
            kind=self._kind,
            max_concurrency=0,
            options=Quirks,
            serves=serves,
            parameters=lambda _model: followed,
            prefill=lambda _model: row.prefill != "",
        )

    def connect(self, name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
        if self._row.needs_key and not settings.api_key:
            raise ConfigError(f"providers.{name}.api_key: {self._kind} needs a key")
        headers = {"Content-Type": "application/json"}
        if settings.api_key:
            headers["Authorization"] = f"Bearer {settings.api_key.reveal()}"
        row = self._row.with_options(settings.options, read_options(name, settings, Quirks))
        codes = ErrorCodes(row.errors, usual_error)
        exchange = Exchange(name, http, clock, error_of=codes.error_of, status_of=codes.status_of)
        account = OpenAICompatibleWithTokenizer if row.tokenize else OpenAICompatible
        return account(exchange, self._base_url(name, settings), headers, row)

    def _base_url(self, name: str, settings: ProviderSettings) -> str:
        url = upstream_url(name, settings, self._row.base_url)
        self._row.check_form(name, url)
        return url


class OpenAICompatible:
    """One account at one such server."""

    def __init__(self, exchange: Exchange, base_url: str, headers: dict[str, str], row: Row) -> None:
        self._exchange = exchange
        self._base_url = f"{base_url}/"
        self._stream_headers = {**headers, "Accept": "text/event-stream"}
        self._whole_headers = {**headers, "Accept": "application/json"}
        self._row = row

    def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """See `core.ports.ChatProvider`. Text to be continued goes to `/completions` where the server has it.

        No generator itself: a stream is the reply's own, without another one around it.
        """
        try:
            upstream = upstream_request(request, attempt.deployment.upstream_model, self._row)
        except Invalid as error:
            raise error.about(attempt.deployment.id) from None
        attempt.drop(upstream.dropped)
        how = reading(self._row, upstream, attempt.id)
        headers = self._stream_headers if upstream.stream else self._whole_headers
        url = self._base_url + upstream.path
        reply = self._exchange.post(url, headers=headers, body=upstream.body, attempt=attempt)
        if not upstream.stream:
            return self._answered(reply, how)
        events = reply.decoded(StreamReader(self._exchange.provider, reply.in_band, how))
        return events if request.stream else _gathered(events)

    async def _answered(self, exchange: Reply, how: Reading) -> AsyncGenerator[Event, None]:
        async with exchange as reply:
            answer = read_answer(self._exchange.provider, await reply.json(), reply.in_band, how)
        yield answer

    async def embed(self, request: EmbeddingsRequest, attempt: Attempt) -> Embeddings:
        """See `core.ports.EmbeddingsProvider`."""
        body, dropped = embeddings_request(request, attempt.deployment.upstream_model, self._row)
        attempt.drop(dropped)
        count = len(request.inputs)
        found = await self._ask("embeddings", body, lambda said: read_embeddings(said, count), attempt)
        attempt.usage = found.usage  # the server has worked, even if for nothing
        check_length(found, request, self._exchange.provider)
        return found

    async def draw(self, request: ImagesRequest, attempt: Attempt) -> Images:
        """See `core.ports.ImagesProvider`."""
        body, dropped = images_request(request, attempt.deployment.upstream_model, self._row)
        attempt.drop(dropped)
        return await self._ask("images/generations", body, read_images, attempt)

    async def rerank(self, request: RerankRequest, attempt: Attempt) -> Ranking:
        """See `core.ports.RerankProvider`."""
        body, dropped = rerank_request(request, attempt.deployment.upstream_model, self._row)
        attempt.drop(dropped)
        count = len(request.documents)
        return await self._ask(self._row.rerank, body, lambda said: read_ranking(said, count, request.top_n), attempt)

    async def list_models(self) -> list[str]:
        """See `core.ports.ModelLister`."""
        async with self._exchange.get(self._base_url + "models", headers=self._whole_headers) as reply:
            said = await self._whole(reply)
        return self._read(said, lambda body: read_model_ids(body, self._row.model_prefix))

    async def _ask(
        self, path: str, body: bytes, read: Callable[[bytes], _Found], attempt: Attempt | None = None
    ) -> _Found:
        """One POST with one JSON body as its answer; errors inside it are raised."""
        url = urljoin(self._base_url, path)
        async with self._exchange.post(url, headers=self._whole_headers, body=body, attempt=attempt) as reply:
            said = await self._whole(reply)
        return self._read(said, read)

    async def _whole(self, reply: Reply) -> bytes:
        said = await reply.json()
        if b'"error"' in said or b'"message"' in said:
            body = _decoded(said)
            if self._exchange.error_of(body) is not None:
                raise reply.in_band(body)
        return said

    def _read(self, said: bytes, read: Callable[[bytes], _Found]) -> _Found:
        try:
            return read(said)
        except (ValueError, RecursionError) as error:
            raise self._exchange.nonsense(f"a broken body: {error}") from None


class OpenAICompatibleWithTokenizer(OpenAICompatible):
    """One account at a server that also counts tokens."""

    async def count_tokens(self, model: str, texts: Sequence[str]) -> list[int]:
        """See `core.ports.TokenCounter`."""
        bodies = [msgspec.json.encode({"model": model, "prompt": text}) for text in texts]
        return [await self._ask(self._row.tokenize, body, read_count) for body in bodies]


async def _gathered(stream: AsyncGenerator[Event, None]) -> AsyncGenerator[Event, None]:
    """One answer out of a stream that the client did not ask for."""
    async with closing(stream):
        found = [event async for event in stream]
    yield gather(found)


def _decoded(body: bytes) -> object:
    try:
        return msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None


_plain = RowKind("openai_compatible", rows()["openai_compatible"])
deployments, connect = _plain.deployments, _plain.connect
