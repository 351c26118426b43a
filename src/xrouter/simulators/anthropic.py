"""Anthropic's Messages API.

https://docs.anthropic.com/en/api/overview
"""

import uuid
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from random import Random
from typing import Any, Final

import msgspec
from aiohttp import web

from xrouter.simulators import answers, delivery, faults, speech
from xrouter.simulators.answers import Answer
from xrouter.simulators.anthropic_request import MessagesRequest, bad_request, count_tokens, read, signature_of
from xrouter.simulators.delivery import Stream
from xrouter.simulators.desk import Desk, Handler, Refusal, read_body, read_object
from xrouter.simulators.faults import Fault
from xrouter.simulators.wire import Headers, Wire

FORM: Final = "anthropic"
MODELS: Final = ("claude-sonnet-5-5", "claude-haiku-5-5", "claude-opus-5-5")
CONTEXT_TOKENS: Final = 200_000
_CACHED_PROMPTS: Final = 1_000
_PIECE_CHARS: Final = 8
_PAGE: Final = {"type": "web_search_result", "url": "https://example.org/found", "title": "Found"}
_CITED: Final = {"type": "web_search_result_location", "url": _PAGE["url"], "title": _PAGE["title"]}
_KINDS: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


def _framed(event: bytes) -> bytes:
    """An event under its own type's name: every payload begins with `{"type":"..."`."""
    return b"event: %b\ndata: %b\n\n" % (event.split(b'"', 4)[3], event)


_STREAM: Final = Stream(
    frame=_framed,
    farewell=_framed(b'{"type":"message_stop"}'),
    failure=b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    ping=_framed(b'{"type":"ping"}'),
)


class Anthropic:
    """One account."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._kept: OrderedDict[str, None] = OrderedDict()

    def routes(self) -> list[tuple[str, str, Handler]]:
        """Method, path under /anthropic, handler."""
        return [
            ("POST", "/v1/messages", self._served(self._messages)),
            ("POST", "/v1/messages/count_tokens", self._served(self._count)),
            ("GET", "/v1/models", self._served(self._models)),
            ("GET", "/v1/models/{id}", self._served(self._model)),
            ("*", "/{rest:.*}", self._served(self._nothing)),
        ]

    def _served(self, handler: Handler) -> Handler:
        async def serve(request: web.Request, wire: Wire) -> None:
            try:
                await read_body(request)
                self._check_head(request)
                await handler(request, wire)
            except Refusal as refusal:
                body = self._error(refusal.status, refusal.message)
                await delivery.whole(wire, refusal.status, _headers(), body)

        return serve

    def _check_head(self, request: web.Request) -> None:
        key = request.headers.get("x-api-key") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        wanted = self._desk.switches.api_key
        if not key:
            raise Refusal(401, "x-api-key header is required")
        if wanted is not None and key != wanted:
            raise Refusal(401, "invalid x-api-key")
        if "anthropic-version" not in request.headers:
            raise bad_request("anthropic-version: header is required")

    def _error(self, status: int, message: str = "") -> bytes:
        kind = _KINDS.get(status, "api_error")
        error = {"type": kind, "message": message or _KINDS.get(status, "Internal error")}
        return msgspec.json.encode({"type": "error", "error": error, "request_id": f"req_{uuid.uuid4().hex[:24]}"})

    async def _nothing(self, _request: web.Request, _wire: Wire) -> None:
        raise Refusal(404, "Not found")

    def _known(self, data: dict[str, Any]) -> tuple[str, Fault]:
        name = data.get("model")
        if not isinstance(name, str):
            raise bad_request("model: Field required")
        bare, fault = faults.split(name)
        if bare not in MODELS and bare not in self._desk.switches.models:
            raise Refusal(404, f"model: {name}")
        return bare, fault

    async def _messages(self, request: web.Request, wire: Wire) -> None:
        """POST /v1/messages."""
        data = read_object(await read_body(request))
        bare, fault = self._known(data)
        fault = self._desk.fault(wire.row, fault, bare)
        if await delivery.refused(wire, fault, _headers(), self._error, self._desk.clock):
            return
        asked = read(data, bare, request.headers["anthropic-version"])
        limit = self._desk.switches.max_model_len or CONTEXT_TOKENS
        if asked.prompt_tokens > limit:
            raise bad_request(f"prompt is too long: {asked.prompt_tokens} tokens > {limit} maximum")
        wire.row.prompt_tokens = asked.prompt_tokens
        spoken = _Spoken(asked, speech.random_for(self._desk.seed, asked.likeness))
        usage = self._usage(asked, fault)
        frame = {
            "id": f"msg_{uuid.uuid4().hex[:24]}",
            "type": "message",
            "role": "assistant",
            "model": data["model"],
        }
        if asked.stream:
            events = _events(spoken, frame, usage, fault)
            kind = (("Content-Type", "text/event-stream; charset=utf-8"),)
            await delivery.send_events(wire, events, (*_headers()[:-1], *kind), fault, self._desk.switches, _STREAM)
        else:
            body = {
                **frame,
                "content": spoken.blocks,
                "stop_reason": spoken.reason,
                "stop_sequence": spoken.stop,
                "stop_details": None,
                **({} if usage is None else {"usage": _with_output(usage | _searched(spoken), spoken.tokens, fault)}),
            }
            whole = delivery.Whole(msgspec.json.encode(body), spoken.tokens, max(1, spoken.tokens))
            await delivery.send_whole(wire, whole, _headers(), fault, self._error, self._desk.switches)

    def _usage(self, asked: MessagesRequest, fault: Fault) -> dict[str, Any] | None:
        """What is known at the beginning: the prompt, parted by what the cache held and what it now holds."""
        if fault.name == "no-usage":
            return None
        read_tokens = written = 0
        if asked.cached is not None:
            if asked.cached in self._kept:
                read_tokens = asked.prompt_tokens
            else:
                written = asked.prompt_tokens
                self._kept[asked.cached] = None
                while len(self._kept) > _CACHED_PROMPTS:
                    self._kept.popitem(last=False)
        fresh = asked.prompt_tokens - read_tokens - written
        return {
            "input_tokens": -fresh if fault.name == "wrong-usage" else fresh,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read_tokens,
            "output_tokens": 1,
            "service_tier": "standard",
        }

    async def _count(self, request: web.Request, wire: Wire) -> None:
        """POST /v1/messages/count_tokens."""
        data = read_object(await read_body(request))
        self._known(data)
        await delivery.whole(wire, 200, _headers(), msgspec.json.encode({"input_tokens": count_tokens(data)}))

    async def _models(self, request: web.Request, wire: Wire) -> None:
        names = [*MODELS, *self._desk.switches.models]
        after, limit = request.query.get("after_id"), request.query.get("limit", "20")
        if not limit.isdigit() or not 1 <= int(limit) <= 1000:
            raise bad_request("limit: Input should be between 1 and 1000")
        rest = names[names.index(after) + 1 :] if after in names else names
        page = rest[: int(limit)]
        body = {
            "data": [_card(name) for name in page],
            "has_more": len(rest) > len(page),
            "first_id": page[0] if page else None,
            "last_id": page[-1] if page else None,
        }
        await delivery.whole(wire, 200, _headers(), msgspec.json.encode(body))

    async def _model(self, request: web.Request, wire: Wire) -> None:
        name = request.match_info["id"]
        if name not in MODELS and name not in self._desk.switches.models:
            raise Refusal(404, f"model: {name}")
        await delivery.whole(wire, 200, _headers(), msgspec.json.encode(_card(name)))


class _Spoken:
    """An answer as content blocks, cut to `max_tokens` and at stop sequences."""

    def __init__(self, asked: MessagesRequest, rng: Random) -> None:
        answer = answers.answer(asked.question, rng)
        self.searched = asked.searches and not answer.calls
        self._query = asked.question.user_text
        self.stop: str | None = None
        self.tokens = 0
        self.blocks: list[dict[str, Any]] = []
        self._left = asked.max_tokens
        self._cut = False
        self._say(answer, asked.stops)
        self.reason = self._reason(called=bool(answer.calls))

    def _reason(self, *, called: bool) -> str:
        if self._cut:
            self.stop = None
            return "max_tokens"
        return "tool_use" if called else "stop_sequence" if self.stop is not None else "end_turn"

    def _say(self, answer: Answer, stops: Sequence[str]) -> None:
        if answer.reasoning:
            thought = self._take(answer.reasoning)
            self.blocks.append({"type": "thinking", "thinking": thought, "signature": signature_of(thought)})
        found = [(at, stop) for stop in stops if (at := answer.text.find(stop)) >= 0]
        text = answer.text
        if found:
            at, self.stop = min(found)
            text = text[:at]
        if self.searched:
            self._search()
        if text and (said := self._take(text)):
            self.blocks.append({"type": "text", "text": said, **({"citations": [_CITED]} if self.searched else {})})
        for call in answer.calls:
            arguments = call.arguments_json
            if speech.tokens(call.name) + speech.tokens(arguments) > self._left:
                self._cut = True
                return
            self._take(call.name)
            self._take(arguments)
            made = f"toolu_{uuid.uuid4().hex[:24]}"
            self.blocks.append({"type": "tool_use", "id": made, "name": call.name, "input": call.arguments})

    def _search(self) -> None:
        """What the vendor's own search shows of itself."""
        made = f"srvtoolu_{uuid.uuid4().hex[:24]}"
        use = {"type": "server_tool_use", "id": made, "name": "web_search", "input": {"query": self._query}}
        self.blocks += [use, {"type": "web_search_tool_result", "tool_use_id": made, "content": [_PAGE]}]

    def _take(self, text: str) -> str:
        kept = text[: self._left * speech.TOKEN_CHARS]
        self._cut = self._cut or len(kept) < len(text)
        used = speech.tokens(kept)
        self._left -= used
        self.tokens += used
        return kept


def _events(spoken: _Spoken, frame: dict[str, Any], usage: dict[str, Any] | None, fault: Fault) -> delivery.Events:
    begun = {**frame, "content": [], "stop_reason": None, "stop_sequence": None}
    if usage is not None:
        begun["usage"] = usage
    opening = [_event("message_start", message=begun), _event("ping")]
    content = [event for index, block in enumerate(spoken.blocks) for event in _block_events(index, block)]
    ended: dict[str, Any] = {"delta": {"stop_reason": spoken.reason, "stop_sequence": spoken.stop}}
    if usage is not None:
        ended["usage"] = {**_searched(spoken), "output_tokens": _with_output({}, spoken.tokens, fault)["output_tokens"]}
    return delivery.Events(opening, content, [_event("message_delta", **ended)])


def _block_events(index: int, block: dict[str, Any]) -> Iterator[tuple[bytes, int]]:
    """One content block piece by piece; the events around the pieces weigh nothing."""
    if block["type"] == "web_search_tool_result":
        yield _event("content_block_start", index=index, content_block=block), 0
        yield _event("content_block_stop", index=index), 0
        return
    calls = block["type"] in ("tool_use", "server_tool_use")
    if calls:
        begun = {**block, "input": {}}
        text = msgspec.json.encode(block["input"]).decode() if block["input"] else ""
        size, weight = _PIECE_CHARS, 2
    else:
        name = block["type"]
        begun = {**block, name: "", **({"signature": ""} if name == "thinking" else {})}
        if "citations" in block:
            begun["citations"] = []
        text, size, weight = block[name], speech.TOKEN_CHARS, 1
    head = speech.tokens(block["name"]) if block["type"] == "tool_use" else 0
    yield _event("content_block_start", index=index, content_block=begun), head
    if calls:
        yield _delta(index, "input_json_delta", partial_json=""), 0
    for at in range(0, len(text), size):
        piece = text[at : at + size]
        if calls:
            paid = min(weight, speech.tokens(piece)) if block["type"] == "tool_use" else 0
            yield _delta(index, "input_json_delta", partial_json=piece), paid
        else:
            yield _delta(index, f"{block['type']}_delta", **{block["type"]: piece}), weight
    for citation in block.get("citations", ()):
        yield _delta(index, "citations_delta", citation=citation), 0
    if block["type"] == "thinking":
        yield _delta(index, "signature_delta", signature=block["signature"]), 0
    yield _event("content_block_stop", index=index), 0


def _event(kind: str, **fields: Any) -> bytes:
    return msgspec.json.encode({"type": kind, **fields})


def _delta(index: int, kind: str, **fields: Any) -> bytes:
    return _event("content_block_delta", index=index, delta={"type": kind, **fields})


def _searched(spoken: _Spoken) -> dict[str, Any]:
    """Searches are billed one by one."""
    return {"server_tool_use": {"web_search_requests": 1}} if spoken.searched else {}


def _with_output(usage: dict[str, Any], tokens: int, fault: Fault) -> dict[str, Any]:
    return {**usage, "output_tokens": 10**18 if fault.name == "wrong-usage" else tokens}


def _headers() -> Headers:
    """The last one is the content type."""
    return (
        ("Server", "cloudflare"),
        ("request-id", f"req_{uuid.uuid4().hex[:24]}"),
        ("Content-Type", "application/json"),
    )


def _card(name: str) -> dict[str, Any]:
    return {
        "type": "model",
        "id": name,
        "display_name": name.replace("-", " ").title(),
        "created_at": "2026-09-01T00:00:00Z",
        "lifecycle": "active",
        "max_input_tokens": CONTEXT_TOKENS,
        "max_tokens": 64_000,
        "deprecated_at": None,
        "retires_at": None,
    }
