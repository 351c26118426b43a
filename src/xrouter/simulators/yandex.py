"""Yandex AI Studio: the OpenAI-compatible API, the native one, operations and the login.

https://yandex.cloud/docs/ai-studio/
"""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from aiohttp import web

from xrouter.simulators import delivery, speech, vectors, yandex_native, yandex_openai
from xrouter.simulators.desk import Desk, Handler, Refusal, read_body, read_object
from xrouter.simulators.faults import Fault
from xrouter.simulators.wire import Headers, Wire
from xrouter.simulators.yandex_errors import HEADERS, openai_error, streaming_error, unary_error
from xrouter.simulators.yandex_login import Grant, YandexLogin
from xrouter.simulators.yandex_models import DIMENSIONS, EMBEDDING_TOKENS, MODELS, Found, check_folder, find
from xrouter.simulators.yandex_operations import Operations, completed, drawn, failed
from xrouter.simulators.yandex_speech import Spoken, speak

FORM: Final = "yandex"
CONCURRENT: Final = 10
PROMPT_CHARS: Final = 500
_EVENTS: Final[Headers] = (
    ("Server", "ycalb"),
    ("Content-Type", "text/event-stream"),
    ("Cache-Control", "no-cache"),
    ("Access-Control-Allow-Origin", "*"),
)
_FORBIDDEN: Final = ("forbidden topic", "запретная тема", "запретную тему")
_ErrorBody = Callable[[int, str], bytes]
_Served = Callable[[web.Request, Wire, Grant], Any]


class Yandex:
    """The APIs behind the login. One instance serves every cloud."""

    def __init__(self, desk: Desk, login: YandexLogin) -> None:
        self._desk = desk
        self._login = login
        self._operations = Operations(desk.clock)

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path under /yandex, handler."""
        native = "/foundationModels/v1"
        return [
            ("POST", "/iam/v1/tokens", self._login.tokens),
            ("POST", "/iam/v1/keys", self._login.keys),
            ("POST", "/v1/chat/completions", self._served(self._chat, openai_error)),
            ("POST", "/v1/embeddings", self._served(self._openai_embeddings, openai_error)),
            ("GET", "/v1/models", self._served(self._models, openai_error)),
            ("POST", f"{native}/completion", self._served(self._completion, streaming_error)),
            ("POST", f"{native}/completionAsync", self._served(self._completion_async, unary_error)),
            ("POST", f"{native}/tokenize", self._served(self._tokenize, unary_error)),
            ("POST", f"{native}/tokenizeCompletion", self._served(self._tokenize_completion, unary_error)),
            ("POST", f"{native}/textEmbedding", self._served(self._embedding, unary_error)),
            ("POST", f"{native}/imageGenerationAsync", self._served(self._image, unary_error)),
            ("GET", "/operations/{id}", self._served(self._operation, unary_error)),
            ("*", "/{rest:.*}", self._nothing),
        ]

    def _served(self, handler: _Served, error: _ErrorBody) -> Handler:
        """Log in first, and say every refusal in the words of the method."""

        async def serve(request: web.Request, wire: Wire) -> None:
            try:
                await read_body(request)
                grant = self._login.grant(request, openai=error is openai_error)
                wire.row.credential = grant.who
                await handler(request, wire, grant)
            except Refusal as refusal:
                await delivery.whole(
                    wire, refusal.status, _traced(HEADERS, request), error(refusal.status, refusal.message)
                )

        return serve

    async def _nothing(self, request: web.Request, wire: Wire) -> None:
        await delivery.whole(wire, 404, _traced(HEADERS, request), unary_error(404))

    @contextmanager
    def _session(self, grant: Grant) -> Iterator[None]:
        """One of the synchronous generations that a cloud may have at once."""
        crowd = self._desk.counters.crowd(grant.folder)
        limit = self._desk.switches.limits.get(FORM, CONCURRENT)
        if 0 < limit <= crowd.now:
            raise Refusal(
                429, f"ai.textGenerationCompletionSessionsCount.count quota limit exceed: allowed {limit} requests"
            )
        crowd.enter()
        try:
            yield
        finally:
            crowd.leave()

    def _find(self, uri: object, scheme: str, grant: Grant, wire: Wire) -> tuple[Found, Fault]:
        found = find(uri, scheme)
        check_folder(found, grant.folder)
        return found, self._desk.fault(wire.row, found.fault, found.tail)

    async def _chat(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /v1/chat/completions."""
        data = read_object(await read_body(request))
        uri = data.get("model")
        found, fault = self._find(uri, "gpt", grant, wire)
        headers = _traced(HEADERS, request)
        with self._session(grant):
            if await delivery.refused(wire, fault, headers, openai_error, self._desk.clock):
                return
            ask = yandex_openai.read(data, found)
            rng = speech.random_for(self._desk.seed, ask.likeness)
            spoken = speak(ask, rng)
            wire.row.prompt_tokens = ask.prompt_tokens
            about = (spoken, ask, found, str(uri), int(self._desk.clock.now()), rng, fault)
            if ask.stream:
                events = yandex_openai.events(*about)
                await delivery.send_events(wire, events, _traced(_EVENTS, request), fault, self._desk.switches)
                _count_calls(wire, spoken, fault, streamed=found.model.own)
            else:
                await self._send(wire, yandex_openai.completion(*about), spoken, headers, fault, openai_error)

    async def _completion(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /foundationModels/v1/completion."""
        data = read_object(await read_body(request))
        found, fault = self._find(data.get("modelUri"), "gpt", grant, wire)
        headers = _traced(HEADERS, request)
        with self._session(grant):
            if await delivery.refused(wire, fault, headers, streaming_error, self._desk.clock):
                return
            ask = yandex_native.read(data, found)
            rng = speech.random_for(self._desk.seed, ask.likeness)
            spoken = speak(ask, rng)
            wire.row.prompt_tokens = ask.prompt_tokens
            if ask.stream:
                events = yandex_native.events(spoken, ask, rng, fault)
                await delivery.send_events(wire, events, headers, fault, self._desk.switches, yandex_native.STREAM)
                _count_calls(wire, spoken, fault, streamed=True)
            else:
                body = yandex_native.wrapped(yandex_native.completion(spoken, ask, fault))
                await self._send(wire, body, spoken, headers, fault, streaming_error)

    async def _completion_async(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /foundationModels/v1/completionAsync."""
        data = read_object(await read_body(request))
        found, fault = self._find(data.get("modelUri"), "gpt", grant, wire)
        ask = yandex_native.read(data, found)
        spoken = speak(ask, speech.random_for(self._desk.seed, ask.likeness))
        result = completed(yandex_native.completion(spoken, ask, fault))
        await self._begin(request, wire, grant, "Async GPT Completion", result, fault)

    async def _tokenize(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        data = read_object(await read_body(request))
        found, fault = self._find(data.get("modelUri"), "gpt", grant, wire)
        text = data.get("text")
        if not isinstance(text, str) or not found.model.own:
            raise Refusal(400, "text is required")
        await self._tokens(request, wire, text, fault)

    async def _tokenize_completion(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        data = read_object(await read_body(request))
        found, fault = self._find(data.get("modelUri"), "gpt", grant, wire)
        yandex_native.read(data, found)
        await self._tokens(request, wire, yandex_native.prompt_text(data["messages"]), fault)

    async def _tokens(self, request: web.Request, wire: Wire, text: str, fault: Fault) -> None:
        headers = _traced(HEADERS, request)
        if await delivery.refused(wire, fault, headers, unary_error, self._desk.clock):
            return
        body = {"tokens": yandex_native.tokens_of(text), "modelVersion": yandex_native.VERSION}
        whole = delivery.Whole(msgspec.json.encode(body), 0, 0)
        await delivery.send_whole(wire, whole, headers, fault, unary_error, self._desk.switches)

    async def _embedding(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /foundationModels/v1/textEmbedding: one text per call."""
        data = read_object(await read_body(request))
        found, fault = self._find(data.get("modelUri"), "emb", grant, wire)
        dim = data.get("dim", str(DIMENSIONS))
        if not str(dim).isdigit() or not 1 <= int(dim) <= DIMENSIONS:
            raise Refusal(400, f"dim must be between 1 and {DIMENSIONS}")
        vector, count = _vector(data.get("text"), found, int(dim))
        headers = _traced(HEADERS, request)
        if await delivery.refused(wire, fault, headers, unary_error, self._desk.clock):
            return
        wire.row.prompt_tokens = count
        body: dict[str, Any] = {"embedding": vector, "modelVersion": "06.12.2023"}
        if fault.name != "no-usage":
            body["numTokens"] = "-1" if fault.name == "wrong-usage" else str(count)
        whole = delivery.Whole(msgspec.json.encode(body), 0, 1)
        await delivery.send_whole(wire, whole, headers, fault, unary_error, self._desk.switches)

    async def _openai_embeddings(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /v1/embeddings: an array holds one text at most."""
        data = read_object(await read_body(request))
        found, fault = self._find(data.get("model"), "emb", grant, wire)
        given = data.get("input")
        if isinstance(given, list) and len(given) == 1:
            given = given[0]
        if data.get("encoding_format", "float") != "float":
            raise Refusal(400, "encoding_format must be float")
        vector, count = _vector(given, found, DIMENSIONS)
        headers = _traced(HEADERS, request)
        if await delivery.refused(wire, fault, headers, openai_error, self._desk.clock):
            return
        wire.row.prompt_tokens = count
        rows = [{"object": "embedding", "index": 0, "embedding": vector}]
        usage = {"prompt_tokens": count, "total_tokens": count}
        body = {"object": "list", "model": data["model"], "data": rows, "usage": usage}
        whole = delivery.Whole(msgspec.json.encode(body), 0, 1)
        await delivery.send_whole(wire, whole, headers, fault, openai_error, self._desk.switches)

    async def _image(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /foundationModels/v1/imageGenerationAsync. The fault error-K is the operation's own end."""
        data = read_object(await read_body(request))
        _, fault = self._find(data.get("modelUri"), "art", grant, wire)
        messages = data.get("messages")
        if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
            raise Refusal(400, "messages must not be empty")
        prompt = " ".join(str(one.get("text", "")) for one in messages)
        if len(prompt) > PROMPT_CHARS:
            raise Refusal(400, f"the prompt is too long: at most {PROMPT_CHARS} characters")
        if any(phrase in prompt.casefold() for phrase in _FORBIDDEN):
            raise Refusal(
                400,
                "it is not possible to generate an image from this request because it may violate the terms of use",
            )
        options = data.get("generationOptions") or {}
        result = failed(13, "Internal error") if fault.name == "error" else drawn(prompt, options)
        await self._begin(request, wire, grant, "", result, fault)

    async def _begin(
        self, request: web.Request, wire: Wire, grant: Grant, description: str, result: dict[str, Any], fault: Fault
    ) -> None:
        headers = _traced(HEADERS, request)
        if await delivery.refused(wire, fault, headers, unary_error, self._desk.clock):
            return
        operation = self._operations.begin(description, grant.folder, result, self._desk.switches.operation_s)
        whole = delivery.Whole(msgspec.json.encode(operation), 0, 0)
        fault = fault if fault.name != "error" else Fault("")
        await delivery.send_whole(wire, whole, headers, fault, unary_error, self._desk.switches)

    async def _operation(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        fault = self._desk.fault(wire.row, Fault(""), "operation")
        headers = _traced(HEADERS, request)
        if await delivery.refused(wire, fault, headers, unary_error, self._desk.clock):
            return
        body = self._operations.look(request.match_info["id"], grant.folder)
        await delivery.whole(wire, 200, headers, msgspec.json.encode(body))

    async def _models(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """GET /v1/models: full URIs, for the folder that `OpenAI-Project` names."""
        folder = request.headers.get("OpenAI-Project")
        if not folder:
            raise Refusal(400, "OpenAI-Project header is required")
        if folder != grant.folder:
            raise Refusal(403, "Permission denied")
        rows = [
            {"id": f"{scheme}://{folder}/{tail}", "object": "model", "owned_by": "Yandex", "created": 0}
            for scheme, served in MODELS.items()
            for tail in served
        ]
        body = msgspec.json.encode({"object": "list", "data": rows})
        await delivery.whole(wire, 200, _traced(HEADERS, request), body)

    async def _send(
        self, wire: Wire, body: bytes, spoken: Spoken, headers: Headers, fault: Fault, error: _ErrorBody
    ) -> None:
        whole = delivery.Whole(body, spoken.tokens, max(1, spoken.tokens))
        await delivery.send_whole(wire, whole, headers, fault, lambda status: error(status, ""), self._desk.switches)


def _count_calls(wire: Wire, spoken: Spoken, fault: Fault, *, streamed: bool) -> None:
    """Calls that stand in the last event of a stream: they are content, too, once it has left."""
    if streamed and spoken.answer.calls and not fault.name:
        wire.row.completion_tokens = spoken.tokens
        wire.row.chunks += 1


def _vector(text: object, found: Found, dim: int) -> tuple[list[float], int]:
    """The numbers, and how many tokens the text has."""
    if not isinstance(text, str) or not text:
        raise Refusal(400, "text is required, and one text only")
    count = speech.tokens(text)
    if count > EMBEDDING_TOKENS:
        raise Refusal(400, f"number of input tokens must be no more than {EMBEDDING_TOKENS}, got {count}")
    return vectors.vector(found.tail, text, dim), count


def _traced(headers: Headers, request: web.Request) -> Headers:
    """With the ids by which the vendor's support finds a call."""
    given = {name: request.headers.get(name, "") for name in ("x-client-request-id", "x-request-id")}
    echoed = [(name, text) for name, text in given.items() if text and text.isascii() and text.isprintable()]
    return [*headers, ("x-server-trace-id", uuid.uuid4().hex), *echoed]
