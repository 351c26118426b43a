"""Anthropic's Messages API, with its own wire.

Source: https://docs.anthropic.com/en/api/overview
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from xrouter.core.call import Attempt
from xrouter.core.chat import ChatRequest, Event
from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import Invalid
from xrouter.core.operation import Operation
from xrouter.core.ports import ChatProvider
from xrouter.providers import list_deployments, read_options, upstream_url
from xrouter.providers._http import Exchange, Reply
from xrouter.settings import ConfigError, ProviderSettings
from xrouter.transport import Transport

from .answer import Reading, read_answer
from .failures import error_of
from .options import Options
from .request import parameters, vendor_request
from .stream import StreamReader

_KIND: Final = "anthropic"
_BASE_URL: Final = "https://api.anthropic.com/v1"
_TOO_LONG: Final = frozenset({413})
_PAGE: Final = 1000  # models in one list; the most that may be asked for
_MOST_PAGES: Final = 20


def deployments(name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
    """See `providers.ProviderKind`."""
    _base_url(name, settings)
    for model in settings.models:
        if model.serves and model.serves != {Operation.CHAT}:
            raise ConfigError(f"providers.{name}.models.{model.name}.serves: {_KIND} serves chat alone")
    options = read_options(name, settings, Options)
    followed = parameters(options)
    return list_deployments(
        name,
        settings,
        kind=_KIND,
        max_concurrency=0,
        options=Options,
        one_choice=True,
        parameters=lambda _model: followed,
        sees=lambda _model: True,
        prefill=options.prefills,
    )


def connect(name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
    """See `providers.ProviderKind`."""
    if not settings.api_key:
        raise ConfigError(f"providers.{name}.api_key: {_KIND} needs a key")
    options = read_options(name, settings, Options)
    if options.max_tokens < 1:
        raise ConfigError(f"providers.{name}.options.max_tokens: must be 1 or more")
    exchange = Exchange(name, http, clock, overflow_statuses=_TOO_LONG, error_of=error_of)
    return Anthropic(exchange, _base_url(name, settings), options.headers(settings.api_key.reveal()), options)


def _base_url(name: str, settings: ProviderSettings) -> str:
    """The vendor's own clients want the address without its version; both are taken."""
    url = upstream_url(name, settings, _BASE_URL)
    return url if url.endswith("/v1") else f"{url}/v1"


class Anthropic:
    """One account."""

    def __init__(self, exchange: Exchange, base_url: str, headers: dict[str, str], options: Options) -> None:
        self._exchange = exchange
        self._base_url = base_url
        self._stream_headers = {**headers, "Accept": "text/event-stream"}
        self._whole_headers = {**headers, "Accept": "application/json"}
        self._options = options

    def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """See `core.ports.ChatProvider`. No generator itself: a stream is the reply's own."""
        try:
            upstream = vendor_request(request, attempt.deployment.upstream_model, self._options)
        except Invalid as error:
            raise error.about(attempt.deployment.id) from None
        attempt.drop(upstream.dropped)
        attempt.clamp(upstream.clamped)
        headers = self._stream_headers if request.stream else self._whole_headers
        url = f"{self._base_url}/messages"
        reply = self._exchange.post(url, headers=headers, body=upstream.body, attempt=attempt)
        reading = Reading(self._exchange.provider, reply.in_band, upstream.wants_object)
        return reply.decoded(StreamReader(reading)) if request.stream else self._answered(reply, reading)

    async def _answered(self, exchange: Reply, reading: Reading) -> AsyncGenerator[Event, None]:
        async with exchange as reply:
            answer = read_answer(await reply.json(), reading)
        yield answer

    async def count_tokens(self, model: str, texts: Sequence[str]) -> list[int]:
        """See `core.ports.TokenCounter`. Each text is counted as a message, which is a few tokens more."""
        counts = []
        for text in texts:
            body = msgspec.json.encode({"model": model, "messages": [{"role": "user", "content": text}]})
            url = f"{self._base_url}/messages/count_tokens"
            async with self._exchange.post(url, headers=self._whole_headers, body=body) as reply:
                said = await reply.json()
            counts.append(self._decoded(said, _Count).input_tokens)
        return counts

    async def list_models(self) -> list[str]:
        """See `core.ports.ModelLister`."""
        found: list[str] = []
        for _ in range(_MOST_PAGES):
            after = {"after_id": found[-1]} if found else {}
            url = f"{self._base_url}/models?{urlencode({'limit': _PAGE, **after})}"
            async with self._exchange.get(url, headers=self._whole_headers) as reply:
                page = self._decoded(await reply.json(), _Models)
            found += [model.id for model in page.data]
            if not (page.has_more and page.data):
                break
        return found

    def _decoded(self, body: bytes, kind: Any) -> Any:
        try:
            return msgspec.json.decode(body, type=kind)
        except (ValueError, RecursionError):
            raise self._exchange.nonsense("a broken body") from None


class _Count(msgspec.Struct):
    input_tokens: int


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]
    has_more: bool = False
