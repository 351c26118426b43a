"""vLLM's OpenAI-compatible server, the form in which T-Bank's open models are served.

https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

import base64
import re
import struct
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest
from random import Random
from typing import Any, Final

import msgspec
from aiohttp import web

from xrouter.simulators import answers, completions, delivery, faults, pictures, ranking, speech, vectors
from xrouter.simulators.answers import Answer, Call
from xrouter.simulators.desk import Desk, Handler, Refusal, read_body, read_object
from xrouter.simulators.faults import Fault
from xrouter.simulators.vllm_request import ChatRequest, bad_request, read, read_completion
from xrouter.simulators.wire import Wire

FORM: Final = "openai"
CALL_PIECE_CHARS: Final = 8
MAX_INPUTS: Final = 2_048
MAX_PICTURES: Final = 10
DIMENSIONS: Final = 1024
_JSON: Final = (("Server", "uvicorn"), ("Content-Type", "application/json"))
_EVENTS: Final = (("Server", "uvicorn"), ("Content-Type", "text/event-stream; charset=utf-8"))
_APIS: Final = {"generate": "Chat Completions", "embed": "Embeddings", "score": "Score", "draw": "Images"}
_KINDS: Final = {
    400: ("BadRequestError", "Bad Request"),
    403: ("PermissionDeniedError", "Forbidden"),
    404: ("NotFoundError", "Not Found"),
    413: ("RequestEntityTooLargeError", "Request Entity Too Large"),
    422: ("UnprocessableEntityError", "Unprocessable Entity"),
    429: ("RateLimitError", "Too Many Requests"),
    500: ("InternalServerError", "Internal server error"),
    503: ("ServiceUnavailableError", "Service Unavailable"),
}


@dataclass(frozen=True, slots=True)
class Model:
    """A served model. `reasoning` is where its thoughts go; `thinks` whether it has any by default.
    `tool_text`: no tool parser, calls arrive as Hermes text. `task` is what it was loaded for."""

    max_model_len: int = 32_768
    reasoning: str = "none"
    thinks: bool = False
    tool_text: bool = False
    task: str = "generate"


MODELS: Final = {
    "t-pro-it-2.1": Model(reasoning="reasoning"),
    "t-lite-it-2.1": Model(),
    "t-pro-it-2.0": Model(reasoning="reasoning_content", thinks=True),
    "t-pro-it-2.0-inline": Model(reasoning="inline", thinks=True),
    "t-lite-it-2.1-hermes": Model(tool_text=True),
    "t-lite-it-2.1-short": Model(max_model_len=512),
    "text-embedder": Model(task="embed"),
    "bge-m3": Model(task="embed"),
    "bge-reranker-v2-m3": Model(task="score"),
    "qwen-image": Model(task="draw"),
}


@dataclass(frozen=True, slots=True)
class _Choice:
    """One spoken choice: its answer cut to length, why it ended, and the stop word that ended it."""

    answer: Answer
    arguments: Sequence[str]
    finish: str
    stop: str | None

    @property
    def _said(self) -> int:
        return speech.tokens(self.answer.reasoning) + speech.tokens(self.answer.text)

    @property
    def tokens(self) -> int:
        names = sum(speech.tokens(call.name) for call in self.answer.calls)
        return self._said + names + sum(map(speech.tokens, self.arguments))

    @property
    def pieces(self) -> int:
        """How many chunks of a stream it makes."""
        return self._said + sum(1 + -(-len(arguments) // CALL_PIECE_CHARS) for arguments in self.arguments)


class Vllm:
    """One server with several models."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path under /openai, handler."""
        return [
            ("POST", "/v1/chat/completions", self._served(self._chat)),
            ("POST", "/v1/completions", self._served(self._complete)),
            ("POST", "/v1/embeddings", self._served(self._embeddings)),
            ("POST", "/v1/images/generations", self._served(self._draw)),
            ("POST", "/rerank", self._served(self._rerank)),
            ("POST", "/v1/rerank", self._served(self._rerank)),
            ("POST", "/v2/rerank", self._served(self._rerank)),
            ("GET", "/v1/models", self._served(self._models)),
            ("GET", "/v1/models/{id:.+}", self._served(self._model)),
            ("POST", "/tokenize", self._served(self._tokenize)),
            ("GET", "/health", self._health),
            ("*", "/{rest:.*}", self._nothing),
        ]

    def _served(self, handler: Handler) -> Handler:
        async def serve(request: web.Request, wire: Wire) -> None:
            try:
                await read_body(request)
                self._check_key(request)
                await handler(request, wire)
            except Refusal as refusal:
                await delivery.whole(wire, refusal.status, _JSON, self._refused(refusal))

        return serve

    def _check_key(self, request: web.Request) -> None:
        key = self._desk.switches.api_key
        if key is not None and request.headers.get("Authorization") != f"Bearer {key}":
            raise Refusal(401)

    def _refused(self, refusal: Refusal) -> bytes:
        return self._error(refusal.status, refusal.message, refusal.extra.get("param"))

    def _error(self, status: int, message: str = "", param: str | None = None) -> bytes:
        """vLLM's error body: nested since 0.10, flat before."""
        if status == 401:
            return b'{"error":"Unauthorized"}'
        kind, text = _KINDS.get(status, ("InternalServerError", "Error"))
        error = {"message": message or text, "type": kind, "param": param, "code": status}
        flat = self._desk.switches.flat_errors
        return msgspec.json.encode({"object": "error", **error} if flat else {"error": error})

    async def _health(self, _request: web.Request, wire: Wire) -> None:
        await delivery.whole(wire, 200, _JSON[:1], b"")

    async def _nothing(self, _request: web.Request, wire: Wire) -> None:
        await delivery.whole(wire, 404, _JSON, b'{"detail":"Not Found"}')

    def _known(self, data: dict[str, Any], task: str) -> tuple[str, Model, Fault]:
        """The model's bare id, the model, and the fault asked for."""
        name = data.get("model")
        if not isinstance(name, str):
            raise bad_request("('body', 'model'): Field required")
        bare, fault = faults.split(name)
        model = self._find(bare)
        if model is None:
            raise Refusal(404, f"The model `{name}` does not exist.", param="model")
        if model.task != task:
            raise bad_request(f"The model does not support {_APIS[task]} API")
        return bare, model, fault

    def _find(self, bare: str) -> Model | None:
        switches = self._desk.switches
        # T-Bank's ids are known as they stand on Hugging Face, too: t-tech/T-pro-it-2.1.
        model = MODELS.get(bare.lower().removeprefix("t-tech/"))
        if model is None and bare in switches.models:
            model = Model()
        if model is None:
            return None
        return replace(
            model,
            reasoning=switches.reasoning or model.reasoning,
            thinks=switches.reasoning != "none" if switches.reasoning else model.thinks,
            tool_text=switches.tool_text or model.tool_text,
            max_model_len=switches.max_model_len or model.max_model_len,
        )

    def _read(self, data: dict[str, Any], name: str, model: Model) -> ChatRequest:
        return read(data, name, thinks=model.thinks)

    async def _chat(self, request: web.Request, wire: Wire) -> None:
        """POST /v1/chat/completions."""
        data = read_object(await read_body(request))
        bare, model, fault = self._known(data, "generate")
        fault = self._desk.fault(wire.row, fault, bare)
        if await delivery.refused(wire, fault, _JSON[:1], self._error, self._desk.clock):
            return
        chat = self._read(data, bare, model)
        _check_length(chat, model.max_model_len)
        wire.row.prompt_tokens = chat.prompt_tokens
        if self._desk.switches.ignores_max_tokens and chat.question.thinking:
            chat = replace(chat, max_tokens=None)
        random = (speech.random_for(self._desk.seed, chat.likeness, index) for index in range(chat.choices))
        choices = [_speak(chat, model, rng) for rng in random]
        completion_tokens = sum(choice.tokens for choice in choices)
        usage = _usage(chat.prompt_tokens, completion_tokens, fault)
        frame = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(self._desk.clock.now()),
            "model": data["model"],
        }
        if chat.stream:
            events = _events(choices, model, chat, frame, usage if chat.include_usage else None)
            await delivery.send_events(wire, events, _EVENTS, fault, self._desk.switches)
        else:
            pieces = max(choice.pieces for choice in choices)
            whole = delivery.Whole(_completion(choices, model, chat, frame, usage), completion_tokens, pieces)
            await delivery.send_whole(wire, whole, _JSON, fault, self._error, self._desk.switches)

    async def _complete(self, request: web.Request, wire: Wire) -> None:
        """POST /v1/completions: no template, so no thinking and no tools."""
        data = read_object(await read_body(request))
        bare, model, fault = self._known(data, "generate")
        fault = self._desk.fault(wire.row, fault, bare)
        if await delivery.refused(wire, fault, _JSON[:1], self._error, self._desk.clock):
            return
        asked = read_completion(data, bare)
        _check_length(asked, model.max_model_len)
        wire.row.prompt_tokens = asked.prompt_tokens
        random = (speech.random_for(self._desk.seed, asked.likeness, index) for index in range(asked.choices))
        choices = [_speak(asked, model, rng) for rng in random]
        completion_tokens = sum(choice.tokens for choice in choices)
        usage = _usage(asked.prompt_tokens, completion_tokens, fault)
        frame = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(self._desk.clock.now()),
            "model": data["model"],
        }
        if asked.stream:
            events = completions.events(
                [(choice.answer.text, choice.finish, choice.stop) for choice in choices],
                frame,
                usage if asked.include_usage else None,
            )
            await delivery.send_events(wire, events, _EVENTS, fault, self._desk.switches)
        else:
            said = [(choice.answer.text, choice.finish, choice.stop) for choice in choices]
            body = completions.whole(said, frame, usage)
            whole = delivery.Whole(body, completion_tokens, max(choice.pieces for choice in choices))
            await delivery.send_whole(wire, whole, _JSON, fault, self._error, self._desk.switches)

    async def _draw(self, request: web.Request, wire: Wire) -> None:
        """POST /v1/images/generations: PNG files, in base64 only."""
        data = read_object(await read_body(request))
        bare, _, fault = self._known(data, "draw")
        prompt, count, size = data.get("prompt"), data.get("n", 1), data.get("size") or "1024x1024"
        if not isinstance(prompt, str) or not prompt:
            raise bad_request("('body', 'prompt'): Field required")
        if not isinstance(count, int) or not 1 <= count <= MAX_PICTURES:
            raise bad_request(f"('body', 'n'): Input should be between 1 and {MAX_PICTURES}")
        found = re.fullmatch(r"([1-9]\d{1,3})x([1-9]\d{1,3})", size) if isinstance(size, str) else None
        if found is None:
            raise bad_request("('body', 'size'): Input should be WIDTHxHEIGHT")
        if data.get("response_format", "b64_json") != "b64_json":
            raise bad_request("('body', 'response_format'): Input should be 'b64_json'")
        fault = self._desk.fault(wire.row, fault, bare)
        if await delivery.refused(wire, fault, _JSON[:1], self._error, self._desk.clock):
            return
        wire.row.prompt_tokens = speech.tokens(prompt)
        drawn = [pictures.png(f"{bare}\n{prompt}\n{number}", int(found[1]), int(found[2])) for number in range(count)]
        rows = [{"b64_json": base64.b64encode(one).decode(), "revised_prompt": None} for one in drawn]
        body = msgspec.json.encode({"created": int(self._desk.clock.now()), "data": rows})
        await delivery.send_whole(wire, delivery.Whole(body, 0, 1), _JSON, fault, self._error, self._desk.switches)

    async def _rerank(self, request: web.Request, wire: Wire) -> None:
        """POST /rerank in Jina's form."""
        found = await self._ranked(request, wire)
        if found is None:
            return
        data, fault, results, count = found
        usage = {"prompt_tokens": count, "total_tokens": count}
        if fault.name == "wrong-usage":
            usage = {"prompt_tokens": -1, "total_tokens": -1}
        documents = data["documents"]
        rows = [{**row, "document": {"text": documents[row["index"]]}} for row in results]
        body = {"id": f"rerank-{uuid.uuid4().hex}", "model": data["model"], "results": rows}
        await self._send_ranking(wire, body | ({} if fault.name == "no-usage" else {"usage": usage}), fault)

    async def _ranked(
        self, request: web.Request, wire: Wire
    ) -> tuple[dict[str, Any], Fault, list[dict[str, Any]], int] | None:
        """The request, its fault, the results best first, and the tokens read; None when it was refused."""
        data = read_object(await read_body(request))
        bare, _, fault = self._known(data, "score")
        query, documents, top_n = data.get("query"), data.get("documents"), data.get("top_n")
        if not isinstance(query, str) or not query:
            raise bad_request("('body', 'query'): Field required")
        if not isinstance(documents, list) or not 0 < len(documents) <= MAX_INPUTS:
            raise bad_request(f"('body', 'documents'): Input should be a list of up to {MAX_INPUTS} strings")
        if not all(isinstance(document, str) for document in documents):
            raise bad_request("('body', 'documents'): Input should be a valid string")
        if top_n is not None and (not isinstance(top_n, int) or isinstance(top_n, bool) or top_n < 0):
            raise bad_request("('body', 'top_n'): Input should be a valid integer")
        fault = self._desk.fault(wire.row, fault, bare)
        if await delivery.refused(wire, fault, _JSON[:1], self._error, self._desk.clock):
            return None
        count = wire.row.prompt_tokens = speech.tokens(query) * len(documents) + sum(map(speech.tokens, documents))
        scores = [(ranking.score(query, document), -place) for place, document in enumerate(documents)]
        best = sorted(scores, reverse=True)[: top_n or None]
        return data, fault, [{"index": -place, "relevance_score": score} for score, place in best], count

    async def _send_ranking(self, wire: Wire, body: dict[str, Any], fault: Fault) -> None:
        whole = delivery.Whole(msgspec.json.encode(body), 0, 1)
        await delivery.send_whole(wire, whole, _JSON, fault, self._error, self._desk.switches)

    async def _embeddings(self, request: web.Request, wire: Wire) -> None:
        """POST /v1/embeddings, as floats or as base64 of little-endian float32."""
        data = read_object(await read_body(request))
        bare, _, fault = self._known(data, "embed")
        given = data.get("input")
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, list) or not 0 < len(texts) <= MAX_INPUTS:
            raise bad_request(f"('body', 'input'): Input should be a string or a list of up to {MAX_INPUTS} strings")
        if not all(isinstance(text, str) for text in texts):
            raise bad_request("('body', 'input'): Input should be a valid string")
        self._check_dimensions(data)
        encoding = data.get("encoding_format", "float")
        if encoding not in ("float", "base64"):
            raise bad_request("('body', 'encoding_format'): Input should be 'float' or 'base64'")
        fault = self._desk.fault(wire.row, fault, bare)
        if await delivery.refused(wire, fault, _JSON[:1], self._error, self._desk.clock):
            return
        rows = []
        for index, text in enumerate(texts):
            vector: list[float] | str = vectors.vector(bare, text, DIMENSIONS)
            if encoding == "base64":
                vector = base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode()
            rows.append({"object": "embedding", "index": index, "embedding": vector})
        count = sum(map(speech.tokens, texts))
        wire.row.prompt_tokens = count
        usage = {"prompt_tokens": count, "total_tokens": count}
        if fault.name == "wrong-usage":
            usage = {"prompt_tokens": -1, "total_tokens": 10**18}
        frame = {"id": f"embd-{uuid.uuid4().hex}", "object": "list", "created": int(self._desk.clock.now())}
        body = {**frame, "model": data["model"], "data": rows} | ({} if fault.name == "no-usage" else {"usage": usage})
        whole = delivery.Whole(msgspec.json.encode(body), 0, 1)
        await delivery.send_whole(wire, whole, _JSON, fault, self._error, self._desk.switches)

    def _check_dimensions(self, data: dict[str, Any]) -> None:
        """No model here was trained to leave some numbers out."""
        if data.get("dimensions") is not None:
            raise bad_request(
                f'Model "{data["model"]}" does not support matryoshka representation, changing output dimensions will '
                "lead to poor results."
            )

    async def _models(self, _request: web.Request, wire: Wire) -> None:
        names = [*MODELS, *self._desk.switches.models]
        rows = [self._card(name, model) for name in names if (model := self._find(name)) is not None]
        await delivery.whole(wire, 200, _JSON, msgspec.json.encode({"object": "list", "data": rows}))

    async def _model(self, request: web.Request, wire: Wire) -> None:
        name = request.match_info["id"]
        model = self._find(name)
        if model is None:
            raise Refusal(404, f"The model `{name}` does not exist.", param="model")
        await delivery.whole(wire, 200, _JSON, msgspec.json.encode(self._card(name, model)))

    def _card(self, name: str, model: Model) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": int(self._desk.clock.now()),
            "owned_by": "vllm",
            "root": name,
            "parent": None,
            "max_model_len": model.max_model_len,
        }

    async def _tokenize(self, request: web.Request, wire: Wire) -> None:
        """POST /tokenize: vLLM's own token counting, for a `prompt` or for `messages`."""
        data = read_object(await read_body(request))
        name = data.get("model", next(iter(MODELS)))
        model = self._find(name) if isinstance(name, str) else None
        if model is None:
            raise Refusal(404, f"The model `{name}` does not exist.", param="model")
        if isinstance(data.get("prompt"), str):
            count = speech.tokens(data["prompt"])
        else:
            count = read(data, name, thinks=False).prompt_tokens
        body = {"count": count, "max_model_len": model.max_model_len, "tokens": list(range(count))}
        await delivery.whole(wire, 200, _JSON, msgspec.json.encode(body))


def _check_length(chat: ChatRequest, limit: int) -> None:
    asked = chat.max_tokens or 0
    if chat.prompt_tokens + max(asked, 1) > limit:
        raise bad_request(
            f"This model's maximum context length is {limit} tokens. However, you requested "
            f"{chat.prompt_tokens + asked} tokens ({chat.prompt_tokens} in the messages, {asked} in the completion). "
            "Please reduce the length of the messages or completion."
        )


def _speak(chat: ChatRequest, model: Model, rng: Random) -> _Choice:
    """One choice, cut to `max_tokens` and at stop words. Whoever asks for no length gets what the context leaves."""
    answer = answers.answer(chat.question, rng)
    if answer.calls and model.tool_text:
        answer = Answer(answer.reasoning, "\n".join(map(_hermes, answer.calls)))
    if answer.reasoning and model.reasoning in ("inline", "prefilled", "none"):
        opening = "<think>\n" if model.reasoning == "inline" else ""
        inline = answer.text if model.reasoning == "none" else f"{opening}{answer.reasoning}\n</think>\n\n{answer.text}"
        answer = Answer("", inline, answer.calls)
    text, stop = _stopped(answer.text, chat.stops)
    left = min(chat.max_tokens or model.max_model_len, model.max_model_len - chat.prompt_tokens)
    reasoning, left, cut = _cut(answer.reasoning, left)
    text, left, text_cut = _cut(text, left)
    calls, arguments = [], []
    for call in answer.calls:
        if left >= speech.tokens(call.name):
            kept, left, call_cut = _cut(call.arguments_json, left - speech.tokens(call.name))
            calls.append(call)
            arguments.append(kept)
            cut = cut or call_cut
        else:
            cut = True
    finish = "length" if cut or text_cut else "tool_calls" if calls else "stop"
    return _Choice(Answer(reasoning, text, calls), arguments, finish, None if finish == "length" else stop)


def _cut(text: str, left: int) -> tuple[str, int, bool]:
    """A text of at most `left` tokens, what is left after it, and whether something is missing."""
    kept = text[: left * speech.TOKEN_CHARS]
    return kept, left - speech.tokens(kept), len(kept) < len(text)


def _stopped(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    found = [(at, stop) for stop in stops if (at := text.find(stop)) >= 0]
    if not found:
        return text, None
    at, stop = min(found)
    return text[:at], stop


def _hermes(call: Call) -> str:
    return f'<tool_call>\n{{"name": "{call.name}", "arguments": {call.arguments_json}}}\n</tool_call>'


def _deltas(choice: _Choice, model: Model, call_ids: str) -> Iterator[tuple[dict[str, Any], int]]:
    """The choice token by token (arguments in twos): the delta and its tokens."""
    key = model.reasoning if model.reasoning not in ("inline", "prefilled") else "content"
    for name, text in ((key, choice.answer.reasoning), ("content", choice.answer.text)):
        for at in range(0, len(text), speech.TOKEN_CHARS):
            yield {name: text[at : at + speech.TOKEN_CHARS]}, 1
    for index, (call, arguments) in enumerate(zip(choice.answer.calls, choice.arguments, strict=True)):
        function = {"name": call.name, "arguments": ""}
        head = {"id": f"chatcmpl-tool-{call_ids}{index:04x}", "type": "function", "index": index, "function": function}
        yield {"tool_calls": [head]}, speech.tokens(call.name)
        for at in range(0, len(arguments), CALL_PIECE_CHARS):
            piece = arguments[at : at + CALL_PIECE_CHARS]
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}, speech.tokens(piece)


def _usage(prompt: int, completion: int, fault: Fault) -> dict[str, Any] | None:
    if fault.name == "no-usage":
        return None
    if fault.name == "wrong-usage":
        prompt, completion = -prompt, 10**18
    return {
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "completion_tokens": completion,
        "prompt_tokens_details": None,
    }


def _events(
    choices: Sequence[_Choice], model: Model, chat: ChatRequest, frame: dict[str, Any], usage: dict[str, Any] | None
) -> delivery.Events:
    """The choices side by side, a token of each in turn."""
    head = msgspec.json.encode({"id": frame["id"], "object": "chat.completion.chunk", "created": frame["created"]})
    head = b"%b,%b" % (head[:-1], msgspec.json.encode({"model": frame["model"]})[1:-1])

    def event(index: int, delta: dict[str, Any], finish: str | None = None, **extra: Any) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish, **extra}
        return b'%b,"choices":[%b]}' % (head, msgspec.json.encode(choice))

    def spoken(index: int, choice: _Choice) -> Iterator[tuple[bytes, int]]:
        for delta, weight in _deltas(choice, model, uuid.uuid4().hex[:28]):
            extra: dict[str, Any] = {}
            if chat.top_logprobs is not None and "content" in delta:
                extra["logprobs"] = {"content": _logprobs(delta["content"], chat.top_logprobs)}
            yield event(index, delta, **extra), weight

    turns = zip_longest(*(spoken(index, choice) for index, choice in enumerate(choices)))
    content = [item for turn in turns for item in turn if item is not None]
    opening = [event(index, {"role": "assistant", "content": ""}) for index in range(len(choices))]
    closing = [event(index, {}, finish=choice.finish, stop_reason=choice.stop) for index, choice in enumerate(choices)]
    if usage is not None:
        closing.append(b'%b,"choices":[],"usage":%b}' % (head, msgspec.json.encode(usage)))
    return delivery.Events(opening, content, closing)


def _completion(
    choices: Sequence[_Choice], model: Model, chat: ChatRequest, frame: dict[str, Any], usage: dict[str, Any] | None
) -> bytes:
    body = {
        "id": frame["id"],
        "object": "chat.completion",
        "created": frame["created"],
        "model": frame["model"],
        "choices": [
            {
                "index": index,
                "message": _message(choice, model),
                "logprobs": None
                if chat.top_logprobs is None
                else {"content": _all_logprobs(choice, chat.top_logprobs)},
                "finish_reason": choice.finish,
                "stop_reason": choice.stop,
            }
            for index, choice in enumerate(choices)
        ],
        "service_tier": None,
        "system_fingerprint": None,
        "prompt_logprobs": None,
        "kv_transfer_params": None,
    }
    return msgspec.json.encode(body | ({"usage": usage} if usage else {}))


def _message(choice: _Choice, model: Model) -> dict[str, Any]:
    answer = choice.answer
    ids = uuid.uuid4().hex[:28]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or (None if answer.calls or answer.reasoning else ""),
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
        "tool_calls": [
            {
                "id": f"chatcmpl-tool-{ids}{index:04x}",
                "type": "function",
                "function": {"name": call.name, "arguments": arguments},
            }
            for index, (call, arguments) in enumerate(zip(answer.calls, choice.arguments, strict=True))
        ],
    }
    if model.reasoning in ("reasoning", "reasoning_content"):
        message[model.reasoning] = answer.reasoning or None
    return message


def _all_logprobs(choice: _Choice, top: int) -> list[dict[str, Any]]:
    text = choice.answer.text
    pieces = (text[at : at + speech.TOKEN_CHARS] for at in range(0, len(text), speech.TOKEN_CHARS))
    return list(chain.from_iterable(_logprobs(piece, top) for piece in pieces))


def _logprobs(token: str, top: int) -> list[dict[str, Any]]:
    """One token with probabilities that depend on its text alone."""
    certainty = -(sum(token.encode()) % 97) / 100

    def entry(text: str, logprob: float) -> dict[str, Any]:
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    others = [entry(f"{token}{rank}", certainty - rank) for rank in range(1, top)]
    return [{**entry(token, certainty), "top_logprobs": [entry(token, certainty), *others] if top else []}]
