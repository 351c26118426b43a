"""GigaChat: https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/gigachat-api.

Chats in contract v1 and v2; embeddings, files, batches and the small services, which both share.
"""

import math
import uuid
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import msgspec
from aiohttp import web

from xrouter.simulators import answers, delivery, faults, gigachat_checks, gigachat_v2, speech, vectors
from xrouter.simulators.answers import Answer
from xrouter.simulators.desk import Desk, Handler, Refusal, read_body, read_object
from xrouter.simulators.faults import Fault
from xrouter.simulators.gigachat_batches import Batches
from xrouter.simulators.gigachat_files import PICTURE, Files
from xrouter.simulators.gigachat_login import Grant, Login
from xrouter.simulators.gigachat_request import ChatRequest, invalid, message_tokens, read
from xrouter.simulators.gigachat_v2 import SpokenV2
from xrouter.simulators.gigachat_v2_request import read_v2
from xrouter.simulators.wire import Wire

FORM: Final = "gigachat"
BUILD: Final = "2.0.28.2"
CONTEXT_TOKENS: Final = 128_000
DIMENSIONS: Final = 1024
MAX_INPUTS: Final = 1_000
MAX_SESSIONS: Final = 10_000
MAX_STATES: Final = 10_000
MAX_IMAGES: Final = 10

MODELS: Final = {
    **dict.fromkeys(
        [
            "GigaChat",
            "GigaChat-2",
            "GigaChat-2-Max",
            "GigaChat-2-Pro",
            "GigaChat-Max",
            "GigaChat-Plus",
            "GigaChat-Pro",
            "GigaChat-2-preview",
            "GigaChat-2-Max-preview",
            "GigaChat-2-Pro-preview",
            "GigaChat-3-Ultra",
        ],
        "chat",
    ),
    **dict.fromkeys(["Embeddings", "Embeddings-2", "EmbeddingsGigaR", "GigaEmbeddings-3B-2025-09"], "embedder"),
    **dict.fromkeys(["GigaCheckClassification", "GigaCheckDetection"], "aicheck"),
    "GigaFilter": "filter",
}
_MESSAGES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Permission denied",
    404: "No such model",
    413: "Payload too large",
    422: "Unprocessable Entity",
    429: "Too Many Requests",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
}
_FORBIDDEN: Final = ("forbidden topic", "запретная тема", "запретную тему")
_REFUSAL: Final = (
    "Как и любая языковая модель, GigaChat не обладает собственным мнением. "
    "Во избежание неправильного толкования разговоры на некоторые темы временно ограничены."
)
_DRAWN: Final = "Вот что получилось."
_BROKEN: Final = ("broken arguments", "сломай аргументы")

_Served = Callable[[web.Request, Wire, Grant], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class _Spoken:
    """An answer cut to its length, and why it ended. `picture` is the id of what was drawn for it."""

    answer: Answer
    finish: str
    picture: str = ""


class GigaChat:
    """The API behind the login. One instance serves every account."""

    def __init__(self, desk: Desk, login: Login) -> None:
        self._desk = desk
        self._login = login
        self._sessions: OrderedDict[str, list[int]] = OrderedDict()
        self._files = Files(desk.clock)
        self._batches = Batches(desk.clock, self._files, self._in_batch)
        self._states: OrderedDict[str, None] = OrderedDict()  # what functions left behind

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path under /gigachat, handler."""
        files = self._files
        served: list[tuple[str, str, _Served]] = [
            ("POST", "/v1/chat/completions", self._chat_v1),
            ("POST", "/v2/chat/completions", self._chat_v2),
            ("GET", "/v1/models", self._models),
            ("GET", "/v1/models/{id}", self._model),
            ("POST", "/v1/embeddings", self._embeddings),
            ("POST", "/v1/tokens/count", self._count),
            ("GET", "/v1/balance", self._balance),
            ("POST", "/v1/files", self._plain(files.upload)),
            ("GET", "/v1/files", self._plain(files.list)),
            ("GET", "/v1/files/{id}", self._plain(files.show)),
            ("POST", "/v1/files/{id}/delete", self._plain(files.delete)),
            ("GET", "/v1/files/{id}/content", self._file_content),
            ("POST", "/v1/batches", self._new_batch),
            ("GET", "/v1/batches", self._list_batches),
            ("POST", "/v1/functions/convert", self._convert),
            ("POST", "/v1/ai/check", self._ai_check),
            ("POST", "/v1/filter/check", self._filter_check),
        ]
        return [
            ("POST", "/api/v2/oauth", self._login.answer),
            ("POST", "/v1/token", self._login.token),
            *((method, path, self._served(handler)) for method, path, handler in served),
            ("*", "/{rest:.*}", self._nothing),
        ]

    def _served(self, handler: _Served) -> Handler:
        """Log in first, and say every refusal in the vendor's words."""

        async def serve(request: web.Request, wire: Wire) -> None:
            try:
                await self._read_ahead(request)
                grant = self._login.grant(request)
                wire.row.credential = grant.client
                await handler(request, wire, grant)
            except Refusal as refusal:
                body = failure(refusal.status, refusal.message)
                await delivery.whole(wire, refusal.status, self._headers(request), body)

        return serve

    async def _read_ahead(self, request: web.Request) -> None:
        """The whole body before any answer, so that the connection can be used again. Uploads read their own."""
        if not request.content_type.startswith("multipart/"):
            await read_body(request)

    def _headers(self, request: web.Request, content: str = "application/json; charset=utf-8") -> list[tuple[str, str]]:
        return [
            ("Server", "SynGX"),
            ("Content-Type", content),
            ("X-Request-Id", request.headers.get("X-Request-ID") or str(uuid.uuid4())),
            ("X-Session-Id", request.headers.get("X-Session-ID") or str(uuid.uuid4())),
            ("Access-Control-Allow-Origin", "*"),
            ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
        ]

    async def _nothing(self, request: web.Request, wire: Wire) -> None:
        await delivery.whole(wire, 404, self._headers(request), failure(404, "Not Found"))

    def _plain(self, handler: Callable[[web.Request, str], Awaitable[dict[str, Any]]]) -> _Served:
        async def serve(request: web.Request, wire: Wire, grant: Grant) -> None:
            answer = await handler(request, grant.client)
            await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(answer))

        return serve

    async def _file_content(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        content, mime = self._files.content(request, grant.client)
        await delivery.whole(wire, 200, self._headers(request, mime or "application/octet-stream"), content)

    async def _new_batch(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /v1/batches: for who pays afterwards only."""
        if grant.scope != "GIGACHAT_API_CORP":
            raise Refusal(403)
        batch = self._batches.create(request.query.get("method", ""), await read_body(request), grant.client)
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(batch))

    async def _list_batches(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        batches = self._batches.list(request.query.get("batch_id"), grant.client)
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(batches))

    def _in_batch(self, method: str, order: dict[str, Any]) -> dict[str, Any]:
        """What one line of a batch gets. Its order is not streamed, and no fault strikes it."""
        if method == "embedder":
            model, _ = self._known(order, "embedder")
            return {"object": "list", "data": _vectors(model, _texts(order), faults.NONE), "model": model}
        model, _ = self._known(order, "chat")
        chat = read(order, model)
        rng = speech.random_for(self._desk.seed, chat.likeness)
        spoken = _speak(chat, rng)
        usage = _usage(chat.prompt_tokens, _answer_tokens(spoken.answer), 0, faults.NONE)
        body = _completion(spoken, self._state(rng, spoken), self._frame(model), usage)
        found: dict[str, Any] = msgspec.json.decode(body)
        return found

    async def _convert(self, request: web.Request, wire: Wire, _grant: Grant) -> None:
        found = gigachat_checks.convert((await read_body(request)).decode("utf-8", "replace"))
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(found))

    async def _ai_check(self, request: web.Request, wire: Wire, _grant: Grant) -> None:
        data = read_object(await read_body(request))
        model, _ = self._known(data, "aicheck")
        found = gigachat_checks.ai_check(data, model)
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(found))

    async def _filter_check(self, request: web.Request, wire: Wire, _grant: Grant) -> None:
        data = read_object(await read_body(request))
        self._known(data, "filter")
        found = gigachat_checks.filter_check(data, _FORBIDDEN)
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(found))

    def _known(self, data: dict[str, Any], kind: str) -> tuple[str, Fault]:
        name = data.get("model")
        if not isinstance(name, str) or not name:
            raise Refusal(422, "Invalid params: model is required")
        model, fault = faults.split(name)
        if MODELS.get(model) != kind:
            raise Refusal(404, "No such model")
        return model, fault

    async def _chat_v1(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /v1/chat/completions."""
        await self._chat(request, wire, grant, second=False)

    async def _chat_v2(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /v2/chat/completions."""
        await self._chat(request, wire, grant, second=True)

    async def _chat(self, request: web.Request, wire: Wire, grant: Grant, *, second: bool) -> None:
        data = read_object(await read_body(request))
        model, fault = self._known(data, "chat")
        fault = self._desk.fault(wire.row, fault, model)
        with self._place(grant):
            if not await delivery.refused(wire, fault, self._headers(request), failure, self._desk.clock):
                chat = (read_v2 if second else read)(data, model)
                self._check_ids(chat, grant, second=second)
                answer = self._answer_v2 if second else self._answer
                await answer(request, wire, chat, model, fault, grant)

    @contextmanager
    def _place(self, grant: Grant) -> Iterator[None]:
        """One of the account's places. Raises `Refusal` 429 when all are taken."""
        crowd = self._desk.counters.crowd(grant.client)
        if 0 < self._desk.switches.limits.get(grant.scope, 0) <= crowd.now:
            raise Refusal(429)
        crowd.enter()
        try:
            yield
        finally:
            crowd.leave()

    def _check_ids(self, chat: ChatRequest, grant: Grant, *, second: bool) -> None:
        """Raises `Refusal` for files and states that are not known here, and for more images than there may be."""
        images = [sum(self._files.is_image(file, grant.client) for file in files) for files in chat.attachments]
        if sum(images) > MAX_IMAGES:
            raise invalid(f"attachments: at most {MAX_IMAGES} images in one request")
        if not second and any(count > 1 for count in images):
            raise invalid("attachments: one image per message")
        name = "tools_state_id" if second else "functions_state_id"
        for state in chat.states:
            if state not in self._states:
                raise invalid(f"{name} {state} is unknown")

    def _frame(self, model: str) -> tuple[int, str]:
        return int(self._desk.clock.now()), f"{model}:{BUILD}"

    def _state(self, rng: Random, spoken: _Spoken) -> str:
        """The state that a called function leaves behind."""
        state = str(uuid.UUID(int=rng.getrandbits(128), version=4))
        if spoken.answer.calls:
            self._states[state] = None
            if len(self._states) > MAX_STATES:
                self._states.popitem(last=False)
        return state

    def _spoken(self, request: web.Request, wire: Wire, chat: ChatRequest, rng: Random, grant: Grant) -> _Spoken:
        prompt_tokens = chat.prompt_tokens
        if prompt_tokens > CONTEXT_TOKENS:
            raise Refusal(413, "Payload too large")
        wire.row.prompt_tokens = prompt_tokens
        spoken = _speak(chat, rng)
        if not chat.draws or spoken.finish == "blacklist":
            return spoken
        client_id = request.headers.get("X-Client-ID", "")
        drawn = self._files.keep(grant.client, "image.jpg", PICTURE, "image/jpg", client_id=client_id)
        return _Spoken(Answer(text=_DRAWN), "stop", str(drawn["id"]))

    async def _answer(
        self, request: web.Request, wire: Wire, chat: ChatRequest, model: str, fault: Fault, grant: Grant
    ) -> None:
        rng = speech.random_for(self._desk.seed, chat.likeness)
        spoken = self._spoken(request, wire, chat, rng, grant)
        if spoken.picture:
            tag = f'<img src="{spoken.picture}" fuse="true"/> '
            spoken = _Spoken(Answer(text=tag + spoken.answer.text), "stop", spoken.picture)
        frame = self._frame(model)
        cached = self._cached(request.headers.get("X-Session-ID"), chat.texts)
        usage = _usage(chat.prompt_tokens, _answer_tokens(spoken.answer), cached, fault)
        state = self._state(rng, spoken)
        pieces = _pieces(spoken.answer, rng, chat.update_interval_s, self._desk.switches.pace_ms / 1000)
        if chat.stream:
            events = _events(spoken, pieces, state, frame, usage)
            headers = self._headers(request, "text/event-stream")
            await delivery.send_events(wire, events, headers, fault, self._desk.switches)
        else:
            whole = delivery.Whole(
                _completion(spoken, state, frame, usage), _answer_tokens(spoken.answer), max(1, len(pieces))
            )
            await delivery.send_whole(wire, whole, self._headers(request), fault, failure, self._desk.switches)

    async def _answer_v2(
        self, request: web.Request, wire: Wire, chat: ChatRequest, model: str, fault: Fault, grant: Grant
    ) -> None:
        rng = speech.random_for(self._desk.seed, chat.likeness)
        spoken = self._spoken(request, wire, chat, rng, grant)
        answer = spoken.answer
        if chat.searches and answer.text:
            answer = Answer(answer.reasoning, answer.text + gigachat_v2.SOURCE_MARKS)
        cached = self._cached(request.headers.get("X-Session-ID"), chat.texts)
        used = [
            name for name, at_work in (("image_generate", spoken.picture), ("web_search", chat.searches)) if at_work
        ]
        said = SpokenV2(
            answer=answer,
            finish=spoken.finish,
            state=self._state(rng, spoken),
            picture=spoken.picture,
            used=used,
            top_logprobs=chat.top_logprobs,
            frame=self._frame(model),
            usage=_usage(chat.prompt_tokens, _answer_tokens(answer), cached, fault),
        )
        pieces = _pieces(answer, rng, chat.update_interval_s, self._desk.switches.pace_ms / 1000)
        if chat.stream:
            headers = self._headers(request, "text/event-stream")
            events = gigachat_v2.events(said, pieces)
            await delivery.send_events(wire, events, headers, fault, self._desk.switches, gigachat_v2.STREAM)
        else:
            whole = delivery.Whole(gigachat_v2.whole(said), _answer_tokens(answer), max(1, len(pieces)))
            await delivery.send_whole(wire, whole, self._headers(request), fault, failure, self._desk.switches)

    def _cached(self, session: str | None, texts: list[str]) -> int:
        """Prompt tokens that this session has sent before: its longest common beginning with the last request."""
        if not session:
            return 0
        before = self._sessions.pop(session, [])
        self._sessions[session] = list(map(hash, texts))
        if len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        cached = 0
        for old, new in zip(before, texts, strict=False):
            if old != hash(new):
                break
            cached += message_tokens(new)
        return cached

    async def _models(self, request: web.Request, wire: Wire, _grant: Grant) -> None:
        body = {"object": "list", "data": [_model(name) for name in MODELS]}
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(body))

    async def _model(self, request: web.Request, wire: Wire, _grant: Grant) -> None:
        name = request.match_info["id"]
        if name not in MODELS:
            raise Refusal(404, "No such model")
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(_model(name)))

    async def _embeddings(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """POST /v1/embeddings: token counts stand at each vector, none at the top."""
        data = read_object(await read_body(request))
        model, fault = self._known(data, "embedder")
        texts = _texts(data)
        fault = self._desk.fault(wire.row, fault, model)
        with self._place(grant):
            if await delivery.refused(wire, fault, self._headers(request), failure, self._desk.clock):
                return
            rows = _vectors(model, texts, fault)
            wire.row.prompt_tokens = sum(map(speech.tokens, texts))
            whole = delivery.Whole(msgspec.json.encode({"object": "list", "data": rows, "model": model}), 0, 1)
            await delivery.send_whole(wire, whole, self._headers(request), fault, failure, self._desk.switches)

    async def _count(self, request: web.Request, wire: Wire, _grant: Grant) -> None:
        """POST /v1/tokens/count: a bare array."""
        data = read_object(await read_body(request))
        name = data.get("model")
        if name not in MODELS:
            raise Refusal(404, "No such model")
        rows = [{"object": "tokens", "tokens": speech.tokens(text), "characters": len(text)} for text in _texts(data)]
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode(rows))

    async def _balance(self, request: web.Request, wire: Wire, grant: Grant) -> None:
        """GET /v1/balance: what is left of the packages; there are none where use is paid afterwards."""
        if grant.scope == "GIGACHAT_API_CORP":
            raise Refusal(403)
        left = [{"usage": name, "value": 50_000} for name in ("GigaChat-2", "GigaChat-2-Pro", "GigaChat-2-Max")]
        await delivery.whole(wire, 200, self._headers(request), msgspec.json.encode({"balance": left}))


def failure(status: int, message: str = "") -> bytes:
    """The vendor's error body."""
    return msgspec.json.encode({"status": status, "message": message or _MESSAGES.get(status, "Error")})


def _model(name: str) -> dict[str, str]:
    return {"id": name, "object": "model", "owned_by": "salutedevices", "type": MODELS[name]}


def _texts(data: dict[str, Any]) -> list[str]:
    given = data.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise Refusal(422, "Invalid params: input must be a string or an array of strings")
    if len(texts) > MAX_INPUTS:
        raise Refusal(422, f"Invalid params: input must hold at most {MAX_INPUTS} strings")
    return texts


def _vectors(model: str, texts: list[str], fault: Fault) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for index, text in enumerate(texts):
        usage = {"prompt_tokens": _embedding_tokens(speech.tokens(text), fault)}
        row = {
            "object": "embedding",
            "index": index,
            "embedding": vectors.vector(model, text, DIMENSIONS),
            "usage": usage,
        }
        rows.append({key: item for key, item in row.items() if key != "usage" or fault.name != "no-usage"})
    return rows


def _embedding_tokens(count: int, fault: Fault) -> int:
    return -1 if fault.name == "wrong-usage" else count


def _speak(chat: ChatRequest, rng: Random) -> _Spoken:
    said = chat.question.user_text.casefold()
    if any(phrase in said for phrase in _FORBIDDEN):
        return _Spoken(Answer(text=_REFUSAL), "blacklist")
    if chat.question.tools and any(phrase in said for phrase in _BROKEN):
        return _Spoken(Answer(), "error")
    answer = answers.answer(chat.question, rng)
    finish = "function_call" if answer.calls else "stop"
    if chat.max_tokens is None or _answer_tokens(answer) <= chat.max_tokens:
        return _Spoken(answer, finish)
    # A call is whole or not there: arguments are an object, which cannot be cut.
    reasoning = answer.reasoning[: chat.max_tokens * speech.TOKEN_CHARS]
    left = chat.max_tokens - speech.tokens(reasoning)
    return _Spoken(Answer(reasoning, answer.text[: left * speech.TOKEN_CHARS]), "length")


def _answer_tokens(answer: Answer) -> int:
    calls = sum(speech.tokens(call.name) + speech.tokens(call.arguments_json) for call in answer.calls)
    return speech.tokens(answer.reasoning) + speech.tokens(answer.text) + calls


def _usage(prompt: int, completion: int, cached: int, fault: Fault) -> dict[str, int] | None:
    if fault.name == "no-usage":
        return None
    if fault.name == "wrong-usage":
        prompt, completion = -prompt, 10**18
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "precached_prompt_tokens": cached,
    }


def _pieces(answer: Answer, rng: Random, interval_s: float, pace_s: float) -> list[tuple[str, str, int]]:
    """Reasoning and text in pieces of two to five words: key of the delta, piece, tokens.

    With an update interval, what would come within it comes as one.
    """
    merged = 1 if not interval_s else math.ceil(interval_s / pace_s) if pace_s else len(answer.text) + 1
    pieces = []
    for key, text in (("reasoning_content", answer.reasoning), ("content", answer.text)):
        words = list(speech.words(text))
        at, sent = 0, 0
        while at < len(words):
            count = rng.randint(2, 5) * merged
            piece = "".join(words[at : at + count])
            # Counted from the start, so that the pieces add up to the whole.
            weight = speech.tokens_in(sent + len(piece)) - speech.tokens_in(sent)
            pieces.append((key, piece, weight))
            at, sent = at + count, sent + len(piece)
    return pieces


def _events(
    spoken: _Spoken,
    pieces: Sequence[tuple[str, str, int]],
    state: str,
    frame: tuple[int, str],
    usage: dict[str, int] | None,
) -> delivery.Events:
    content = []
    deltas: list[tuple[dict[str, Any], int]] = [({key: piece}, weight) for key, piece, weight in pieces]
    for call in spoken.answer.calls:
        function = {"name": call.name, "arguments": call.arguments}
        weight = speech.tokens(call.name) + speech.tokens(call.arguments_json)
        deltas.append(({"content": "", "function_call": function, "functions_state_id": state}, weight))
    for index, (delta, weight) in enumerate(deltas):
        if index == 0:
            delta["role"] = "assistant"
        content.append((_event([{"delta": delta, "index": 0}], frame), weight))
    last = {"delta": {"content": ""}, "index": 0, "finish_reason": spoken.finish}
    opening = []
    if spoken.picture:
        wait = {"content": "Осталось примерно 5 с", "role": "function_in_progress", "name": "text2image"}
        opening = [_event([{"delta": {**wait, "created": frame[0]}, "index": 0}], frame)]
    return delivery.Events(opening, content, [_event([last], frame, usage)])


def _event(choices: list[dict[str, Any]], frame: tuple[int, str], usage: dict[str, int] | None = None) -> bytes:
    created, model = frame
    event = {"choices": choices, "created": created, "model": model, "object": "chat.completion"}
    return msgspec.json.encode({**event, "usage": usage} if usage else event)


def _completion(spoken: _Spoken, state: str, frame: tuple[int, str], usage: dict[str, int] | None) -> bytes:
    answer = spoken.answer
    message: dict[str, Any] = {"content": answer.text, "role": "assistant"}
    if answer.reasoning:
        message["reasoning_content"] = answer.reasoning
    for call in answer.calls:
        message["function_call"] = {"name": call.name, "arguments": call.arguments}
        message["functions_state_id"] = state
    return _event([{"message": message, "index": 0, "finish_reason": spoken.finish}], frame, usage)
