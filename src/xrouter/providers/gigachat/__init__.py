"""Sber GigaChat: the v1 chat contract, with login.

Sources: https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/gigachat-api; the `gigachat` client on
PyPI. The server certificates are issued by the Russian national CA: name its root in `ca_bundle`.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, aclosing
from decimal import Decimal
from typing import Final
from uuid import uuid4

from xrouter.core.call import Attempt
from xrouter.core.chat import ChatRequest, Event
from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderRefused,
    ProviderTimeout,
    UpstreamError,
)
from xrouter.core.money import Price
from xrouter.core.ports import ChatProvider
from xrouter.core.secret import Secret
from xrouter.providers import list_deployments, upstream_url
from xrouter.providers._http import Exchange, Reply
from xrouter.settings import ConfigError, ProviderSettings
from xrouter.transport import Transport

from .answer import Reading, StreamReader, read_answer
from .login import Token, TokenKeeper, read_token
from .request import VendorRequest, vendor_request

_KIND = "gigachat"
_BASE_URL = "https://api.giga.chat/v1"
_AUTH_URL = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"
_DEFAULT_SCOPE = "GIGACHAT_API_PERS"
# Calls at once per authorization key: https://developers.sber.ru/docs/ru/gigachat/limitations (2025-11-19)
_CONCURRENCY: Final = {"GIGACHAT_API_PERS": 1, "GIGACHAT_API_B2B": 10, "GIGACHAT_API_CORP": 10}
_LOGIN_S = 10.0  # one small POST
_TOO_LONG = frozenset({413})


def _one_price(rub: str) -> Price:
    """Input and output cost the same. No cached price: see `answer.read_usage`."""
    return Price(Decimal(rub), Decimal(rub))


# Roubles per million tokens with VAT, in force since 2026-02-01 (legal entities). The ids of the first
# generation lead to the second. GigaChat-3 has no published price.
PRICES: Final = {
    "GigaChat": _one_price("65"),
    "GigaChat-2": _one_price("65"),
    "GigaChat-Pro": _one_price("500"),
    "GigaChat-2-Pro": _one_price("500"),
    "GigaChat-Max": _one_price("650"),
    "GigaChat-2-Max": _one_price("650"),
}


def deployments(name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
    """See `providers.ProviderKind`."""
    upstream_url(name, settings, _BASE_URL)
    limit = _CONCURRENCY[_scope(name, settings)]
    return list_deployments(name, settings, kind=_KIND, prices=PRICES, max_concurrency=limit)


def connect(name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
    """See `providers.ProviderKind`. One transport serves both hosts: they share the national CA."""
    if not settings.api_key:
        raise ConfigError(f"providers.{name}.api_key: gigachat needs the authorization key of the account")
    login = _Login(
        name,
        http,
        clock,
        url=upstream_url(name, settings, _AUTH_URL, field="auth_url"),
        key=settings.api_key,
        scope=_scope(name, settings),
    )
    base_url = upstream_url(name, settings, _BASE_URL)
    return GigaChat(Exchange(name, http, clock, overflow_statuses=_TOO_LONG), base_url, TokenKeeper(login.fetch, clock))


def _scope(name: str, settings: ProviderSettings) -> str:
    scope = settings.scope or _DEFAULT_SCOPE
    if scope not in _CONCURRENCY:
        raise ConfigError(f"providers.{name}.scope: {scope!r} is none of {', '.join(_CONCURRENCY)}")
    return scope


class GigaChat:
    """One account."""

    def __init__(self, exchange: Exchange, base_url: str, tokens: TokenKeeper) -> None:
        self._exchange = exchange
        self._url = f"{base_url}/chat/completions"
        self._tokens = tokens

    async def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """See `core.ports.ChatProvider`. A token that the vendor no longer takes is replaced once, and the
        call repeated under the same attempt: a 401 is not billed."""
        upstream = vendor_request(request, attempt.deployment.upstream_model)
        attempt.drop(upstream.dropped)
        async with AsyncExitStack() as connection:
            reply = await self._post(connection, upstream, attempt, stream=request.stream)
            reading = Reading(
                provider=self._exchange.provider,
                in_band=reply.in_band,
                call_ids=f"call_{attempt.id}",
                names=upstream.names,
                stops=upstream.stops,
            )
            if request.stream:
                async with aclosing(reply.decoded(StreamReader(reading))) as events:
                    async for event in events:
                        yield event
                return
            answer = read_answer(await reply.json(), reading)
        yield answer

    async def _post(
        self, connection: AsyncExitStack, upstream: VendorRequest, attempt: Attempt, *, stream: bool
    ) -> Reply:
        token = await self._tokens.token()
        try:
            return await self._send(connection, token, upstream, attempt, stream=stream)
        except ProviderAuthFailed as error:
            if error.upstream_status != 401:
                raise
        token = await self._tokens.replace(token)
        return await self._send(connection, token, upstream, attempt, stream=stream)

    async def _send(
        self, connection: AsyncExitStack, token: Secret, upstream: VendorRequest, attempt: Attempt, *, stream: bool
    ) -> Reply:
        headers = {
            "Authorization": f"Bearer {token.reveal()}",
            "Content-Type": "application/json",
            "Accept": "text/event-stream" if stream else "application/json",
            **upstream.headers,
        }
        if stream:
            headers["Cache-Control"] = "no-store"
        return await connection.enter_async_context(
            self._exchange.post(self._url, headers=headers, body=upstream.body, attempt=attempt)
        )


class _Login:
    """One login: the authorization key for a token.

    Source: https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/post-token
    """

    def __init__(self, provider: str, http: Transport, clock: Clock, *, url: str, key: Secret, scope: str) -> None:
        self._exchange = Exchange(f"{provider} login", http, clock)
        self._provider = provider
        self._clock = clock
        self._url = url
        self._key = key
        self._body = f"scope={scope}".encode()

    async def fetch(self) -> Token:
        """A fresh token. Raises `UpstreamError`; refusals of any kind mean that our credential is wrong."""
        try:
            async with asyncio.timeout(_LOGIN_S):
                return await self._fetch()
        except TimeoutError:
            raise ProviderTimeout(
                f"{self._provider} login did not answer within {_LOGIN_S:g} s", provider=self._provider
            ) from None
        except ProviderRefused as error:  # 400: wrong scope, wrong key; never the client's doing
            raise ProviderAuthFailed(
                error.message, provider=self._provider, upstream_status=error.upstream_status
            ) from None
        except UpstreamError as error:
            error.provider = self._provider  # the message says "login", the metadata names the provider
            raise

    async def _fetch(self) -> Token:
        headers = {
            "Authorization": f"Basic {self._key.reveal()}",
            "RqUID": str(uuid4()),
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept": "application/json",
        }
        async with self._exchange.post(self._url, headers=headers, body=self._body) as reply:
            body = await reply.json()
        try:
            return read_token(body, self._clock.now())
        except (ValueError, RecursionError):
            raise self._exchange.nonsense("without a token") from None
