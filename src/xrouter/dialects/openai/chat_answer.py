"""Events as OpenAI's chat completion, whole or in chunks.

What no vendor gives and every client expects is added here: `id`, `object`, `created`, the model's name as the
client spelled it, a role on the first chunk, `finish_reason: null`, integer usage, the cost in roubles.
"""

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.call import Call, Phase, Piece
from xrouter.core.chat import (
    Answer,
    AnswerMessage,
    ChatRequest,
    Choice,
    Delta,
    Extension,
    Fields,
    Finish,
    FinishReason,
    Reasoning,
    Refusal,
    Start,
    ToolCall,
    ToolDelta,
)
from xrouter.core.errors import GatewayError
from xrouter.core.money import rub_text
from xrouter.dialects import explain
from xrouter.dialects.openai import problems
from xrouter.gateway import meter

_encode = msgspec.json.encode

DONE = b"data: [DONE]\n\n"

_MONEY = frozenset({"cost", "cost_details"})
"""What a vendor says of these is in its own currency, and not what its attempts cost here."""


def whole(call: Call, answer: Answer) -> bytes:
    """The body of a non-streamed completion."""
    return _encode(fields(call, answer))


def fields(call: Call, answer: Answer) -> dict[str, Any]:
    """The same, not yet as text."""
    legacy = _is_legacy(call)
    body: dict[str, Any] = {
        "id": call.id,
        "object": "chat.completion",
        "created": int(call.started_at),
        "model": call.served_model,
        "choices": [_choice(choice, legacy=legacy) for choice in answer.choices],
        "usage": usage(call),
        "system_fingerprint": None,
    }
    if answer.extra:
        body |= answer.extra
    return body


def _is_legacy(call: Call) -> bool:
    """Does the client know calls in the form before tools only?"""
    return isinstance(call.request, ChatRequest) and call.request.legacy_functions


def _choice(choice: Choice, *, legacy: bool) -> dict[str, Any]:
    found: dict[str, Any] = {
        "index": choice.index,
        "message": _message(choice.message, legacy=legacy),
        "logprobs": choice.logprobs,
        "finish_reason": _legacy_reason(choice.finish_reason) if legacy else choice.finish_reason,
    }
    if choice.extra:
        found |= choice.extra
    return found


def _message(message: AnswerMessage, *, legacy: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"role": "assistant", "content": message.content, "refusal": message.refusal}
    if message.reasoning is not None:
        found["reasoning_content"] = message.reasoning
    if message.tool_calls and legacy:
        first = message.tool_calls[0]  # there is room for one; the model calls the others when it has the result
        found["function_call"] = {"name": first.name, "arguments": first.arguments}
    elif message.tool_calls:
        found["tool_calls"] = [_tool_call(call) for call in message.tool_calls]
    if message.extra:
        found |= message.extra
    return found


def _tool_call(call: ToolCall) -> dict[str, Any]:
    found: dict[str, Any] = {
        "id": call.id,
        "type": call.type,
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if call.extra:
        found |= call.extra
    return found


def usage(call: Call) -> dict[str, Any] | None:
    """Tokens of the attempts that answered and the cost of the whole call, in roubles as a decimal number."""
    tokens = meter.used(call)
    if tokens is None:
        return None
    found: dict[str, Any] = {
        "prompt_tokens": tokens.input_tokens,
        "completion_tokens": tokens.output_tokens,
        "total_tokens": tokens.total_tokens,
        "prompt_tokens_details": {"cached_tokens": tokens.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
    }
    if tokens.extra:
        found |= {name: raw for name, raw in tokens.extra.items() if name not in _MONEY}
    found["cost"] = cost(call)
    if meter.unpriced(call):
        found["unpriced"] = True
    if tokens.estimated:
        found["estimated"] = True
    return found


def cost(call: Call) -> Raw:
    """Roubles as a JSON number, failed attempts that were billed included."""
    return Raw(rub_text(call.cost_micro).encode())


def resumed(call: Call) -> list[dict[str, Any]]:
    """The attempts that gave an answer together, in order: who, and what broke off all but the last."""
    return [
        {
            "attempt_id": attempt.id,
            "provider": attempt.deployment.provider,
            "model": attempt.deployment.id,
            "error": attempt.error,
        }
        for attempt in call.attempts
        if attempt.phase is Phase.SHOWN
    ]


class ChunkWriter:
    """Turns the events of one stream into `chat.completion.chunk` events.

    The unchanging head and tail of a chunk are made once; only the delta is encoded per event.
    """

    __slots__ = ("_call", "_called", "_extra", "_head", "_reason", "_roles", "_tail", "_usage_wanted")

    def __init__(self, call: Call) -> None:
        request = call.request
        assert isinstance(request, ChatRequest), "only chats are streamed"
        self._call = call
        self._usage_wanted = request.include_usage
        legacy = request.legacy_functions
        self._called: Callable[[ToolDelta], dict[str, Any]] = _legacy_delta if legacy else _tool_deltas
        self._reason: Callable[[FinishReason], FinishReason] = _legacy_reason if legacy else _same_reason
        self._extra: Fields = {}
        self._roles: set[int] = set()
        self._head = b""
        self._tail = b',"usage":null}\n\n' if request.include_usage else b"}\n\n"

    def chunk(self, event: Piece) -> bytes:
        """The SSE bytes of one event; empty for an event that has no chunk of its own."""
        kind = type(event)
        if kind is Delta:
            return self._delta(event)  # type: ignore[arg-type]
        if isinstance(event, ToolDelta):
            called = self._called(event)
            return self._render(called, event.choice) if called else b""
        if isinstance(event, Reasoning):
            return self._render({"reasoning_content": event.text, **(event.extra or {})}, event.choice)
        if isinstance(event, Refusal):
            return self._render({"refusal": event.text}, event.choice, event.logprobs)
        if isinstance(event, Finish):
            return self._finish(event, event.extra)
        if isinstance(event, Start):
            self._extra = event.extra or {}
            self._head = b""
        elif isinstance(event, Extension):
            return b"data: " + bytes(event.payload) + b"\n\n"
        return b""

    def _delta(self, event: Delta) -> bytes:
        """Text, the commonest event: about 1 us."""
        if event.extra is None and event.logprobs is None and event.choice in self._roles:
            head = self._head or self._make_head()
            return b'%b{"index":%d,"delta":{"content":%b},"logprobs":null,"finish_reason":null}]%b' % (
                head,
                event.choice,
                _encode(event.text),
                self._tail,
            )
        return self._render({"content": event.text, **(event.extra or {})}, event.choice, event.logprobs)

    def _finish(self, event: Finish, extra: Mapping[str, Any] | None) -> bytes:
        if self._call.resumed:  # told on the last chunks
            self._extra = self._extra | {"xrouter": Raw(_encode({"resumed": resumed(self._call)}))}
            self._head = b""
        return self._render({}, event.choice, None, self._reason(event.reason), extra)

    def _render(
        self,
        delta: dict[str, Any],
        choice: int,
        logprobs: Raw | None = None,
        reason: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> bytes:
        if choice not in self._roles:
            self._roles.add(choice)
            role: dict[str, Any] = {"role": "assistant"}
            if "content" not in delta:
                role["content"] = None if "tool_calls" in delta or "function_call" in delta else ""
            delta = role | delta
        body: dict[str, Any] = {"index": choice, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        if extra:
            body |= extra
        return b"%b%b]%b" % (self._head or self._make_head(), _encode(body), self._tail)

    def _make_head(self) -> bytes:
        fields = self._common() | self._extra | self._ours()
        self._head = b"data: " + _encode(fields)[:-1] + b',"choices":['
        return self._head

    def _common(self) -> dict[str, Any]:
        call = self._call
        return {
            "id": call.id,
            "object": "chat.completion.chunk",
            "created": int(call.started_at),
            "model": call.served_model or call.request.model,
            "system_fingerprint": None,
        }

    def _ours(self) -> dict[str, Any]:
        """What stands on every chunk whatever the vendor says of it."""
        return {}

    def end(self) -> bytes:
        """The usage and the route for clients that asked, and `[DONE]`."""
        return (self.usage() if self._usage_wanted or self._call.explanation is not None else b"") + DONE

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        """The error object, which official clients raise, and no `[DONE]`: a cut stream must not look complete."""
        return b"data: " + problems.body(error, request_id) + b"\n\n"

    def usage(self) -> bytes:
        """The last chunk: no choices, all the tokens, the cost; and how the route was chosen, for who wants to know."""
        fields = self._common() | self._extra | self._ours() | {"choices": []}
        if self._usage_wanted:
            fields["usage"] = usage(self._call)
        return b"data: " + _encode(fields | explain.field(self._call)) + b"\n\n"


def _same_reason(reason: FinishReason) -> FinishReason:
    return reason


def _legacy_reason(reason: FinishReason) -> FinishReason:
    return "function_call" if reason == "tool_calls" else reason


def _legacy_delta(event: ToolDelta) -> dict[str, Any]:
    """A piece of the first call, empty for any other: the form has room for one."""
    if event.index:
        return {}
    function = {"name": event.name} if event.name else {}
    return {"function_call": {**function, "arguments": event.arguments}}


def _tool_deltas(event: ToolDelta) -> dict[str, Any]:
    return {"tool_calls": [_tool_delta(event)]}


def _tool_delta(event: ToolDelta) -> dict[str, Any]:
    function: dict[str, Any] = {"arguments": event.arguments}
    found: dict[str, Any] = {"index": event.index, "function": function}
    if event.id:
        found |= {"id": event.id, "type": event.type}
    if event.name:
        function["name"] = event.name
    if event.extra:
        found |= event.extra
    return found
