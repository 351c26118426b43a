"""Yandex AI Studio: YandexGPT, Alice, hosted open models, embeddings and YandexART.

Two APIs of one vendor. Chat goes over the OpenAI-compatible one, which has every model, or over the native one
(`options.surface`); vectors, pictures and counts of tokens over the native one alone.
Sources: https://yandex.cloud/docs/ai-studio/concepts/openai-compatibility,
https://github.com/yandex-cloud/cloudapi (yandex/cloud/ai/foundation_models/v1), the `yandex-ai-studio-sdk` on PyPI.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, TypeVar
from uuid import NAMESPACE_OID, uuid4, uuid5

from xrouter.core.call import Attempt, Phase
from xrouter.core.chat import Answer, ChatRequest, Event
from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import (
    ProviderAuthFailed,
    ProviderRateLimited,
    ProviderRefused,
    ProviderTimeout,
    ProviderUnavailable,
    UpstreamError,
)
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.operation import Operation
from xrouter.core.ports import ChatProvider
from xrouter.core.secret import Secret
from xrouter.providers import list_deployments, read_options, upstream_url
from xrouter.providers._http import Exchange, LineParser, PayloadReader, Reply, Token, TokenKeeper, events_of, log_in
from xrouter.providers.openai_compatible import Reading as OpenAIReading
from xrouter.providers.openai_compatible import StreamReader as OpenAIStreamReader
from xrouter.providers.openai_compatible import read_answer as read_openai_answer
from xrouter.settings import ProviderSettings
from xrouter.transport import Transport

from . import native_answer, native_request, parameters
from .failures import error_of, judged
from .key_file import AUDIENCE, ServiceKey, read_iam_token
from .mending import MendingReader, mended
from .names import ModelName, check_names, read_name
from .openai_request import TAKEN, Outgoing, openai_request
from .options import Options, check_login, service_key

_KIND: Final = "yandexgpt"
_BASE_URL: Final = "https://llm.api.cloud.yandex.net/v1"
# The other documented host of the OpenAI surface; the native methods and the operations are not promised there.
_OPENAI_ONLY: Final = "https://ai.api.cloud.yandex.net"
_NATIVE_HOST: Final = "https://llm.api.cloud.yandex.net"
# Synchronous generations at once in one cloud: https://yandex.cloud/docs/ai-studio/concepts/limits (early 2026).
# Vectors and pictures have limits of their own, per second and per day.
_CONCURRENCY: Final = 10
_POLL_S = 1.0
_LOOK_S = 10.0  # one small exchange
_POLLS_MAY_FAIL: Final = 3  # one after another; the picture is paid for and may be there the next time

_Found = TypeVar("_Found")

LOGIN: Final = (
    "check options.folder (is it the folder of the key's service account?), the role ai.languageModels.user of that "
    "account, and the key: is it whole and not revoked?"
)
"""What to look at when the vendor does not let us in."""


def deployments(name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
    """See `providers.ProviderKind`."""
    upstream_url(name, settings, _BASE_URL)
    options = read_options(name, settings, Options)
    names = check_names(name, [model.name for model in settings.models], options.folder)
    native = options.surface == "native"
    followed = parameters.followed(() if native else TAKEN)
    found = list_deployments(
        name,
        settings,
        kind=_KIND,
        max_concurrency=_CONCURRENCY,
        options=Options,
        serves=lambda model: frozenset({names[model].operation}),
        listed_as=lambda model: names[model].tail,
        one_choice=True,
        one_input=True,
        parameters=lambda _model: followed,
        sees=lambda model: not native and (names[model].sees or model in options.vision_models),
    )
    if settings.max_concurrency is not None:
        return found
    return tuple(
        one if Operation.CHAT in one.serves else replace(one, max_concurrency=0, adaptive=False) for one in found
    )


def connect(name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
    """See `providers.ProviderKind`. Reads the key file of a service account."""
    options = read_options(name, settings, Options)
    base_url = upstream_url(name, settings, _BASE_URL)
    check_login(name, settings, options)
    check_names(name, [model.name for model in settings.models], options.folder)
    return YandexGPT(name, http, clock, base_url, options, _account(name, settings, options, http, clock))


def _account(name: str, settings: ProviderSettings, options: Options, http: Transport, clock: Clock) -> "_Account":
    if settings.api_key:
        return _Account(f"Api-Key {settings.api_key.reveal()}")
    if options.iam_token:
        return _Account(f"Bearer {options.iam_token.reveal()}")
    key = service_key(name, options)
    login = _Login(name, http, clock, upstream_url(name, settings, AUDIENCE, field="auth_url"), key)
    return _Account(TokenKeeper(login.fetch, clock))


class YandexGPT:
    """One account."""

    def __init__(
        self, name: str, http: Transport, clock: Clock, base_url: str, options: Options, account: "_Account"
    ) -> None:
        root = base_url.removesuffix("/v1").removesuffix("/foundationModels")
        native_root = root.replace(_OPENAI_ONLY, _NATIVE_HOST)
        self._openai = Exchange(name, http, clock, error_of=error_of)
        self._native = Exchange(name, http, clock, error_of=error_of, framing=LineParser)
        self._clock = clock
        self._account = account
        self._options = options
        self._chat_url = f"{root}/v1/chat/completions"
        self._models_url = f"{root}/v1/models"
        self._native_url = f"{native_root}/foundationModels/v1"
        self._operations_url = f"{native_root}/operations"
        self._headers = {"Content-Type": "application/json"}
        if options.folder:
            self._headers |= {"OpenAI-Project": options.folder, "x-folder-id": options.folder}
        if not options.data_logging:
            self._headers["x-data-logging-enabled"] = "false"

    def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        """See `core.ports.ChatProvider`. An IAM token that the vendor no longer takes is replaced once, and the
        call repeated under the same attempt: a 401 is not billed."""
        outgoing = self._outgoing(request, self._name(attempt), attempt)
        attempt.drop(outgoing.dropped)
        attempt.clamp(outgoing.clamped)
        if request.stream:
            return events_of(self._streaming(outgoing, attempt))
        return self._answered(outgoing, attempt)

    @asynccontextmanager
    async def _streaming(
        self, outgoing: Outgoing, attempt: Attempt
    ) -> AsyncGenerator[tuple[Reply, PayloadReader], None]:
        async with self._asked(outgoing, attempt, stream=True) as reply:
            yield reply, self._reader(reply, outgoing, f"call_{attempt.id}")

    async def _answered(self, outgoing: Outgoing, attempt: Attempt) -> AsyncGenerator[Event, None]:
        async with self._asked(outgoing, attempt, stream=False) as reply:
            answer = self._answer(await reply.json(), reply, outgoing, f"call_{attempt.id}")
        yield answer

    @asynccontextmanager
    async def _asked(self, outgoing: Outgoing, attempt: Attempt, *, stream: bool) -> AsyncGenerator[Reply, None]:
        native = self._options.surface == "native"
        exchange = self._native if native else self._openai
        url = f"{self._native_url}/completion" if native else self._chat_url
        accept = "text/event-stream" if stream and not native else "application/json"
        async with AsyncExitStack() as connection:
            yield await self._post(connection, exchange, url, outgoing.body, attempt, accept=accept)

    async def embed(self, request: EmbeddingsRequest, attempt: Attempt) -> Embeddings:
        """See `core.ports.EmbeddingsProvider`. The vendor takes one text per call."""
        body, dropped = native_request.embedding_request(request, self._name(attempt).uri(Operation.EMBEDDINGS))
        attempt.drop(dropped)
        return await self._ask("textEmbedding", body, native_answer.read_embedding, attempt)

    async def draw(self, request: ImagesRequest, attempt: Attempt) -> Images:
        """See `core.ports.ImagesProvider`. The vendor draws one picture per call, in an operation that is asked for
        its result until it is done or the call's deadline is reached."""
        body, dropped = native_request.picture_request(request, self._name(attempt).uri(Operation.IMAGES))
        attempt.drop(dropped)
        async with AsyncExitStack() as connection:
            url = f"{self._native_url}/imageGenerationAsync"
            reply = await self._post(connection, self._native, url, body, attempt)
            attempt.phase = Phase.BODY  # ordered, and billed when it is there: the same deployment is not asked again
            operation, failure = await self._operation(reply)
        misses = 0
        while failure is None and not operation.done:
            remaining_s = attempt.call.deadline - self._clock.monotonic()
            if remaining_s <= 0:
                raise self._late("did not finish the picture before the call's deadline")
            await asyncio.sleep(min(_POLL_S, remaining_s))
            try:
                operation, failure = await self._look(operation.id)
                misses = 0
            except (ProviderUnavailable, ProviderRateLimited, ProviderTimeout):
                misses += 1
                if misses == _POLLS_MAY_FAIL:
                    raise
        if failure is not None:
            raise failure
        try:
            return native_answer.read_picture(operation)
        except ValueError:
            raise self._native.nonsense("an operation without a picture") from None

    async def count_tokens(self, model: str, texts: Sequence[str]) -> list[int]:
        """See `core.ports.TokenCounter`; free of charge. Hosted open models have no tokenizer here:
        `ProviderRefused`."""
        uri = read_name(model, self._options.folder).uri(Operation.CHAT)
        bodies = [native_request.tokenize_request(uri, text) for text in texts]
        return [await self._ask("tokenize", body, native_answer.read_token_count, None) for body in bodies]

    async def count_chat_tokens(self, model: str, request: ChatRequest) -> int:
        """The tokens of a whole conversation with its tools, as the model would be given it; the rest as above."""
        uri = read_name(model, self._options.folder).uri(Operation.CHAT)
        body = native_request.completion_request(request, uri).body
        return await self._ask("tokenizeCompletion", body, native_answer.read_token_count, None)

    async def list_models(self) -> list[str]:
        """See `core.ports.ModelLister`: URIs, tuned models, embeddings and pictures included."""
        async with AsyncExitStack() as connection:
            reply = await self._get(connection, self._openai, self._models_url)
            return await self._read(reply, native_answer.read_model_ids)

    def _name(self, attempt: Attempt) -> ModelName:
        return read_name(attempt.deployment.upstream_model, self._options.folder)

    def _outgoing(self, request: ChatRequest, name: ModelName, attempt: Attempt) -> Outgoing:
        uri = name.uri(Operation.CHAT)
        if self._options.surface == "native":
            return native_request.completion_request(request, uri)
        sees = name.sees or attempt.deployment.upstream_model in self._options.vision_models
        return openai_request(request, name, uri, sees=sees)

    def _reader(self, reply: Reply, outgoing: Outgoing, call_ids: str) -> "native_answer.StreamReader | MendingReader":
        if self._options.surface == "native":
            return native_answer.StreamReader(self._reading(reply, outgoing, call_ids))
        inner = OpenAIStreamReader(self._openai.provider, reply.in_band, OpenAIReading(call_ids))
        return MendingReader(inner, call_ids, outgoing.stops, one_call=outgoing.one_call)

    def _answer(self, body: bytes, reply: Reply, outgoing: Outgoing, call_ids: str) -> Answer:
        if self._options.surface == "native":
            return native_answer.read_answer(body, self._reading(reply, outgoing, call_ids))
        answer = read_openai_answer(self._openai.provider, body, reply.in_band, OpenAIReading(call_ids))
        return mended(answer, call_ids, outgoing.stops, one_call=outgoing.one_call)

    def _reading(self, reply: Reply, outgoing: Outgoing, call_ids: str) -> native_answer.Reading:
        return native_answer.Reading(
            self._native.provider, reply.in_band, call_ids, outgoing.stops, one_call=outgoing.one_call
        )

    async def _ask(self, method: str, body: bytes, read: Callable[[bytes], _Found], attempt: Attempt | None) -> _Found:
        """One unary native method."""
        async with AsyncExitStack() as connection:
            url = f"{self._native_url}/{method}"
            reply = await self._post(connection, self._native, url, body, attempt)
            return await self._read(reply, read)

    async def _look(self, operation_id: str) -> tuple[native_answer.Operation, UpstreamError | None]:
        """How an operation stands, and what it failed with. Raises `UpstreamError` where that is not to be had."""
        try:
            async with asyncio.timeout(_LOOK_S), AsyncExitStack() as connection:
                reply = await self._get(connection, self._native, f"{self._operations_url}/{operation_id}")
                return await self._operation(reply)
        except TimeoutError:
            raise self._late(f"did not say within {_LOOK_S:g} s how the picture stands") from None

    async def _operation(self, reply: Reply) -> tuple[native_answer.Operation, UpstreamError | None]:
        operation = await self._read(reply, native_answer.read_operation)
        error = operation.error
        return operation, None if error is None else judged(reply.in_band({"error": error}))

    def _late(self, what: str) -> ProviderTimeout:
        return ProviderTimeout(f"{self._native.provider} {what}", provider=self._native.provider)

    async def _get(self, connection: AsyncExitStack, exchange: Exchange, url: str) -> Reply:
        def get(headers: dict[str, str]) -> Reply:
            return exchange.get(url, headers={**self._headers, **headers, "Accept": "application/json"})

        return await self._entered(connection, get, str(uuid4()))

    async def _read(self, reply: Reply, read: Callable[[bytes], _Found]) -> _Found:
        body = await reply.json()
        try:
            return read(body)
        except (ValueError, RecursionError) as error:
            raise self._native.nonsense(f"a broken body: {type(error).__name__}") from None

    async def _post(
        self,
        connection: AsyncExitStack,
        exchange: Exchange,
        url: str,
        body: bytes,
        attempt: Attempt | None,
        *,
        accept: str = "application/json",
    ) -> Reply:
        # The vendor's support finds a call by this id; it must be a UUID, and ours is none.
        request_id = uuid4() if attempt is None else uuid5(NAMESPACE_OID, attempt.id)

        def post(headers: dict[str, str]) -> Reply:
            sent = {**self._headers, **headers, "Accept": accept}
            return exchange.post(url, headers=sent, body=body, attempt=attempt)

        return await self._entered(connection, post, str(request_id))

    async def _entered(
        self, connection: AsyncExitStack, ask: Callable[[dict[str, str]], Reply], request_id: str
    ) -> Reply:
        """The reply to `ask`, asked once more with another token where the vendor no longer takes the first."""
        authorization = await self._account.authorization()
        headers = {"Authorization": authorization, "x-client-request-id": request_id}
        try:
            return await connection.enter_async_context(ask(headers))
        except ProviderAuthFailed as error:
            if error.upstream_status != 401 or not self._account.can_renew:
                raise
        except ProviderRefused as error:
            raise judged(error) from None
        headers["Authorization"] = await self._account.renewed(authorization)
        return await connection.enter_async_context(ask(headers))


class _Account:
    """What goes into `Authorization`: a fixed text, or a token that is kept fresh."""

    def __init__(self, credential: str | TokenKeeper) -> None:
        self._credential = credential

    @property
    def can_renew(self) -> bool:
        return isinstance(self._credential, TokenKeeper)

    async def authorization(self) -> str:
        if isinstance(self._credential, str):
            return self._credential
        return f"Bearer {(await self._credential.token()).reveal()}"

    async def renewed(self, refused: str) -> str:
        """Another one than `refused`."""
        if isinstance(self._credential, str):
            return self._credential
        token = await self._credential.replace(Secret(refused.removeprefix("Bearer ")))
        return f"Bearer {token.reveal()}"


class _Login:
    """A service account's signed assertion for an IAM token; without a key, the virtual machine's own token.

    Sources: https://yandex.cloud/docs/iam/operations/iam-token/create-for-sa,
    https://yandex.cloud/docs/compute/operations/vm-connect/auth-inside-vm
    """

    def __init__(self, provider: str, http: Transport, clock: Clock, url: str, key: ServiceKey | None) -> None:
        self._exchange = Exchange(f"{provider} login", http, clock, error_of=error_of)
        self._provider = provider
        self._clock = clock
        self._url = url
        self._key = key

    async def fetch(self) -> Token:
        """See `log_in`."""
        return await log_in(self._provider, self._fetch)

    async def _fetch(self) -> Token:
        async with self._asked() as reply:
            body = await reply.json()
        try:
            return Token(*read_iam_token(body, self._clock.now()))
        except (ValueError, RecursionError):
            raise self._exchange.nonsense("without a token") from None

    def _asked(self) -> Reply:
        if self._key is None:
            return self._exchange.get(self._url, headers={"Metadata-Flavor": "Google"})
        assertion = self._key.assertion(self._clock.now())
        headers: dict[str, Any] = {"Content-Type": "application/json", "Accept": "application/json"}
        # The assertion stands in the body: it is hidden in what the vendor says by its look (it begins with eyJ).
        return self._exchange.post(self._url, headers=headers, body=b'{"jwt":"%b"}' % assertion)
