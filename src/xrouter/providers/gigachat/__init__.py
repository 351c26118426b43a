"""Sber GigaChat: chats in both contracts, embeddings, pictures, files, and the account's own questions.

Sources: https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/gigachat-api; the `gigachat` client on
PyPI. The server certificates are issued by the Russian national CA: name its root in `ca_bundle`.
"""

import asyncio
import re
from base64 import b64decode, b64encode
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from math import inf
from typing import Final
from uuid import uuid4

import msgspec

from xrouter.core.call import Attempt, Phase
from xrouter.core.chat import Answer, ChatRequest, Event, token_count
from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import ProviderAuthFailed, ProviderRefused, ProviderTimeout, ProviderUnavailable
from xrouter.core.images import Image, Images, ImagesRequest
from xrouter.core.operation import Operation
from xrouter.core.ports import ChatProvider
from xrouter.core.secret import Secret
from xrouter.providers import check_all, list_deployments, read_model_options, read_options, upstream_url
from xrouter.providers._http import Exchange, PayloadReader, Reply, events_of
from xrouter.settings import ConfigError, ModelSettings, ProviderSettings
from xrouter.transport import Transport
from xrouter.transport.client import open_transport

from .account import Account, Tokens
from .answer import StreamReader, read_answer
from .answer_v2 import StreamReaderV2, read_answer_v2
from .fetch import Fetcher
from .files import Files, Lent
from .login import Token, TokenKeeper
from .logins import Login, ReadyToken, basic
from .pictures import mime_of, picture_in, picture_request
from .reading import Reading
from .request import Contract, VendorRequest, Ways, parameters, vendor_request
from .vectors import read_vectors, vectors_request

ROOTS: Final = "the Russian Trusted Root CA and Sub CA (PEM, from gosuslugi.ru/crt)"
"""What `ca_bundle` must hold, for the words of a failed look at the certificate."""

_KIND = "gigachat"
_BASE_URL = "https://api.giga.chat/v1"
_AUTH_URL = "https://ngw.devices.sberbank.ru:9443/api/v2/oauth"
_DEFAULT_SCOPE = "GIGACHAT_API_PERS"
# Calls at once per authorization key: https://developers.sber.ru/docs/ru/gigachat/limitations (2025-11-19)
_CONCURRENCY: Final = {"GIGACHAT_API_PERS": 1, "GIGACHAT_API_B2B": 10, "GIGACHAT_API_CORP": 10}
_CORPORATE_CONCURRENCY: Final = 10  # stands with users or client certificates belong to legal entities
_TOO_LONG = frozenset({413})
_VERSION = re.compile(r"/v\d+\Z")
_ASK_S: Final = 15.0  # one small question about the account

_READERS: Final = {"v1": StreamReader, "v2": StreamReaderV2}
_WHOLE: Final = {"v1": read_answer, "v2": read_answer_v2}


LOGIN: Final = "check api_key, scope and options: is the key whole, of this account, and not revoked?"
"""What to look at when the vendor does not let us in."""


class Options(msgspec.Struct):
    """What only GigaChat knows. `contract` is the form of chats. Without an `api_key`: `user` and `password` of a
    corporate stand, or an `access_token` that somebody else looks after."""

    contract: Contract = "v1"
    user: str = ""
    password: Secret = Secret("")
    access_token: Secret = Secret("")


class ModelOptions(msgspec.Struct):
    """The same for one model."""

    contract: Contract | None = None


def deployments(name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
    """See `providers.ProviderKind`."""
    found: list[Deployment] = []
    check_all(
        lambda: upstream_url(name, settings, _BASE_URL),
        lambda: _scope(name, settings),
        lambda: _check_key(name, settings),
        lambda: found.extend(_list(name, settings)),
    )
    return tuple(found)


def _list(name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
    try:
        options = read_options(name, settings, Options)
    except ConfigError:
        options = Options()  # what is wrong is said below, with all else
    corporate = not settings.scope and not settings.api_key and not options.access_token
    usual = _CONCURRENCY.get(settings.scope or _DEFAULT_SCOPE, 1)
    return list_deployments(
        name,
        settings,
        kind=_KIND,
        max_concurrency=_CORPORATE_CONCURRENCY if corporate else usual,
        options=Options,
        model_options=ModelOptions,
        serves=_serves,
        one_choice=True,
        parameters=lambda model: parameters(_contract(name, model, options)),
    )


def _contract(name: str, model: ModelSettings, options: Options) -> Contract:
    return read_model_options(name, model, ModelOptions).contract or options.contract


def _serves(model: str) -> frozenset[Operation]:
    if "Embedding" in model:
        return frozenset({Operation.EMBEDDINGS})
    if model.startswith("GigaChat"):
        return frozenset({Operation.CHAT, Operation.IMAGES})
    return frozenset({Operation.CHAT})


def connect(name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
    """See `providers.ProviderKind`. One transport serves both hosts: they share the national CA."""
    options = read_options(name, settings, Options)
    base_url = upstream_url(name, settings, _BASE_URL)
    tokens = _tokens(name, settings, options, base_url, http, clock)
    account = Account(Exchange(name, http, clock, overflow_statuses=_TOO_LONG), base_url, tokens)
    contracts = {model.name: _contract(name, model, options) for model in settings.models}

    def open_own() -> Transport:
        return open_transport(
            provider=f"{name} files",
            connect_timeout_s=settings.timeouts.connect_s,
            ca_bundle=None,
            proxy=settings.proxy,
            allow_private=(),
        )

    return GigaChat(account, Files(account.sharing(Exchange(name, http, clock)), Fetcher(open_own)), contracts)


def _tokens(
    name: str, settings: ProviderSettings, options: Options, base_url: str, http: Transport, clock: Clock
) -> Tokens | None:
    """The account's way in. Raises `ConfigError` for none, or for two."""
    place = f"providers.{name}"
    if bool(options.user) is not bool(options.password):
        raise ConfigError(f"{place}.options: user and password belong together")
    if settings.api_key and options.user:
        raise ConfigError(f"{place}: has both an api_key and a user; one account has one login")
    first = Token(options.access_token, inf) if options.access_token else None
    if settings.api_key:
        url = upstream_url(name, settings, _AUTH_URL, field="auth_url")
        login = Login(name, http, clock, url=url, basic=settings.api_key, scope=_scope(name, settings))
        return TokenKeeper(login.fetch, clock, first)
    if options.user:
        secret = basic(options.user, options.password)
        login = Login(name, http, clock, url=f"{base_url}/token", basic=secret, scope=None)
        return TokenKeeper(login.fetch, clock, first)
    if options.access_token:
        return ReadyToken(options.access_token)
    if settings.client_cert is None:
        raise ConfigError(
            f"{place}.api_key: gigachat needs the authorization key of the account (or, in `options`, user and "
            "password or an access_token; or a client_cert)"
        )
    return None


def _check_key(name: str, settings: ProviderSettings) -> None:
    """The key is sent as it is, so anything else would be a login refused at the first call."""
    if not settings.api_key:
        return
    try:
        whole = b":" in b64decode(settings.api_key.reveal(), validate=True)
    except ValueError:
        whole = False
    if not whole:
        raise ConfigError(
            f"providers.{name}.api_key: must be the authorization key as the vendor's cabinet shows it: base64 of "
            "client id and client secret with a colon between them"
        )


def _scope(name: str, settings: ProviderSettings) -> str:
    scope = settings.scope or _DEFAULT_SCOPE
    if scope not in _CONCURRENCY:
        raise ConfigError(f"providers.{name}.scope: {scope!r} is none of {', '.join(_CONCURRENCY)}")
    return scope


_Asked = AbstractAsyncContextManager[tuple[Reply, Reading, Contract]]


@asynccontextmanager
async def _streaming(asked: _Asked) -> AsyncGenerator[tuple[Reply, PayloadReader], None]:
    async with asked as (reply, reading, contract):
        yield reply, _READERS[contract](reading)


class GigaChat:
    """One account. `contracts` are the forms of chats by model."""

    def __init__(self, account: Account, files: Files, contracts: Mapping[str, Contract]) -> None:
        self._account = account
        self._exchange = account.exchange
        self._files = files
        self._contracts = contracts
        base = account.base_url
        v2 = _VERSION.sub("/v2", base)  # the rest of the API stays where it is
        self._urls = {"v1": f"{base}/chat/completions", "v2": f"{v2}/chat/completions"}

    def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """See `core.ports.ChatProvider`. What the vendor answers with 401, or with 422 for a way of saying it that
        not every model knows, is repeated under the same attempt: neither is billed."""
        asked = self._asked(request, attempt)
        return events_of(_streaming(asked)) if request.stream else self._answered(asked, attempt)

    @asynccontextmanager
    async def _asked(
        self, request: ChatRequest, attempt: Attempt
    ) -> AsyncGenerator[tuple[Reply, Reading, Contract], None]:
        """The vendor's reply to the request and how to read it. Files that it needs are there as long."""
        model = attempt.deployment.upstream_model
        contract = self._contract(model)
        upstream, ways = vendor_request(request, model, contract), Ways()
        attempt.drop(upstream.dropped)
        attempt.clamp(upstream.clamped)
        lent: Lent | None = None
        try:
            if upstream.uploads:
                lent = self._files.lend()
                ways = Ways(files=await lent.put(upstream.uploads))
                upstream = vendor_request(request, model, contract, ways)
            async with AsyncExitStack() as connection:
                reply, upstream = await self._ask(connection, request, upstream, ways, attempt)
                yield reply, self._reading(reply, attempt, upstream), contract
        finally:
            if lent is not None:
                lent.give_back()

    async def _answered(self, asked: _Asked, attempt: Attempt) -> AsyncGenerator[Event, None]:
        async with asked as (reply, reading, contract):
            answer = _WHOLE[contract](await reply.json(), reading)
        attempt.usage = answer.usage  # the vendor's work is done and billed, whatever the check says
        reading.check(answer)
        yield answer

    async def embed(self, request: EmbeddingsRequest, attempt: Attempt) -> Embeddings:
        """See `core.ports.EmbeddingsProvider`."""
        body, dropped = vectors_request(request, attempt.deployment.upstream_model)
        attempt.drop(dropped)
        async with AsyncExitStack() as connection:
            url = f"{self._account.base_url}/embeddings"
            reply = await self._account.post(connection, url, headers=_headers(), body=body, attempt=attempt)
            answer = await reply.json()
        try:
            return read_vectors(answer, len(request.inputs))
        except (ValueError, RecursionError) as error:
            said = _error_in(answer)
            if said is not None:
                raise reply.in_band(said) from None
            raise self._exchange.nonsense(f"a broken body: {type(error).__name__}") from None

    async def draw(self, request: ImagesRequest, attempt: Attempt) -> Images:
        """See `core.ports.ImagesProvider`. The vendor's copy of the picture is deleted."""
        model = attempt.deployment.upstream_model
        contract = self._contract(model)
        body, dropped = picture_request(request, model, contract)
        attempt.drop(dropped)
        client_id = str(uuid4())  # who made a file may fetch it
        lent = self._files.lend()
        try:
            async with AsyncExitStack() as connection:
                headers = {**_headers(), "X-Client-ID": client_id}
                reply = await self._account.post(
                    connection, self._urls[contract], headers=headers, body=body, attempt=attempt
                )
                reading = Reading(self._exchange.provider, reply.in_band, attempt.id)
                answer = _WHOLE[contract](await reply.json(), reading)
            attempt.usage = answer.usage
            attempt.phase = Phase.BODY  # drawn and billed: the same deployment is not asked again
            file_id = picture_in(answer)
            if file_id is None:
                raise self._no_picture(answer)
            lent.keep(file_id)
            data = await self._picture(file_id, client_id)
        finally:
            lent.give_back()
        picture = Image(b64encode(data).decode(), mime_of(data))
        return Images((picture,), answer.usage, answer.model)

    async def count_tokens(self, model: str, texts: Sequence[str]) -> list[int]:
        """See `core.ports.TokenCounter`."""
        if not texts:
            return []
        body = msgspec.json.encode({"model": model, "input": list(texts)})
        rows = await self._told("/tokens/count", body)
        counts = (
            [token_count(row.get("tokens")) for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
        )
        found = [count for count in counts if count is not None]
        if len(found) != len(texts):
            raise self._exchange.nonsense(f"{len(found)} counts for {len(texts)} texts")
        return found

    async def list_models(self) -> list[str]:
        """See `core.ports.ModelLister`."""
        body = await self._told("/models")
        rows = body.get("data") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise self._exchange.nonsense("without a list of models")
        return [row["id"] for row in rows if isinstance(row, dict) and isinstance(row.get("id"), str)]

    async def balance(self) -> dict[str, float] | None:
        """See `core.ports.BalanceReader`: tokens by model. The vendor says 403 to who pays afterwards."""
        try:
            body = await self._told("/balance")
        except ProviderAuthFailed as error:
            if error.upstream_status == 403:
                return None
            raise
        rows = body.get("balance") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise self._exchange.nonsense("without a balance")
        return {
            row["usage"]: row["value"]
            for row in rows
            if isinstance(row, dict) and isinstance(row.get("usage"), str) and type(row.get("value")) in (int, float)
        }

    async def close(self) -> None:
        """See `core.ports.Closing`: files that are still to be deleted."""
        await self._files.close()

    def _contract(self, model: str) -> Contract:
        return self._contracts.get(model) or self._contracts.get(model.partition("+")[0], "v1")

    async def _ask(
        self, connection: AsyncExitStack, request: ChatRequest, upstream: VendorRequest, ways: Ways, attempt: Attempt
    ) -> tuple[Reply, VendorRequest]:
        """The answer, and the request as it was taken."""
        model = attempt.deployment.upstream_model
        contract = self._contract(model)
        while True:
            headers = {**_headers(stream=request.stream), **upstream.headers}
            try:
                reply = await self._account.post(
                    connection, self._urls[contract], headers=headers, body=upstream.body, attempt=attempt
                )
            except ProviderRefused as error:
                other = _other_way(ways, upstream, error)
                if other is None:
                    raise
                ways = other
                upstream = vendor_request(request, model, contract, ways)
            else:
                return reply, upstream

    def _reading(self, reply: Reply, attempt: Attempt, upstream: VendorRequest) -> Reading:
        return Reading(
            provider=self._exchange.provider,
            in_band=reply.in_band,
            attempt_id=attempt.id,
            names=upstream.names,
            stops=upstream.stops,
            wants_object=upstream.wants_object,
            schema_function=upstream.schema_function,
            schemas=upstream.schemas,
        )

    def _no_picture(self, answer: Answer) -> ProviderRefused | Exception:
        provider = self._exchange.provider
        if answer.choices[0].finish_reason == "content_filter":
            return ProviderRefused(
                f"{provider} does not draw this: its rules forbid the topic",
                provider=provider,
                upstream_status=200,
                code="content_policy_violation",
                param="prompt",
            )
        return self._exchange.nonsense("in words instead of a picture")

    async def _picture(self, file_id: str, client_id: str) -> bytes:
        """The bytes, at the second try if need be: drawing again would cost."""
        try:
            try:
                return await self._files.content(file_id, client_id)
            except ProviderUnavailable:
                return await self._files.content(file_id, client_id)
        except (ProviderRefused, ProviderAuthFailed) as error:
            raise self._exchange.nonsense(f"with a picture that cannot be had: {error.message}") from None

    async def _told(self, path: str, body: bytes | None = None) -> object:
        """The decoded answer to a question about the account. Raises `UpstreamError`."""
        url = f"{self._account.base_url}{path}"
        try:
            async with asyncio.timeout(_ASK_S), AsyncExitStack() as connection:
                if body is None:
                    reply = await self._account.get(connection, url)
                else:
                    reply = await self._account.post(connection, url, headers=_headers(), body=body)
                answer = await reply.json()
        except TimeoutError:
            provider = self._exchange.provider
            raise ProviderTimeout(f"{provider} did not answer within {_ASK_S:g} s", provider=provider) from None
        try:
            found: object = msgspec.json.decode(answer)
        except (ValueError, RecursionError):
            raise self._exchange.nonsense("a broken body") from None
        return found


def _other_way(ways: Ways, upstream: VendorRequest, error: ProviderRefused) -> Ways | None:
    """Another way to say a request that was refused: without the states of earlier calls (which some versions do not
    take back), then with a function in place of structured output (which not every model has)."""
    if error.code == "context_length_exceeded":
        return None
    if error.upstream_status == 422 and upstream.has_states:
        return replace(ways, states=False)
    if error.upstream_status in (400, 422) and upstream.has_schema:
        return replace(ways, schema_as_function=True)
    return None


def _headers(*, stream: bool = False) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream" if stream else "application/json"}
    if stream:
        headers["Cache-Control"] = "no-store"
    return headers


def _error_in(body: bytes) -> object:
    """The decoded body where it is an error that came with status 200."""
    try:
        found: object = msgspec.json.decode(body)
    except (ValueError, RecursionError):
        return None
    return (
        found if isinstance(found, dict) and "data" not in found and ("message" in found or "error" in found) else None
    )
