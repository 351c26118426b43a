"""`POST /v1/completions`, streamed or whole: the older form of a chat, with a prompt instead of messages.

https://platform.openai.com/docs/api-reference/completions. Vendors that only chat get the prompt as one user message,
so what belongs to a model that merely continues text is refused with a word: `echo`, `suffix`, `best_of`, `logprobs`,
prompts of tokens.
"""

from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from xrouter.core.call import Call, Piece
from xrouter.core.chat import Answer, ChatRequest, Delta, Fields, Finish, FinishReason, Refusal, Start
from xrouter.core.errors import GatewayError, Invalid
from xrouter.core.preferences import Preferences
from xrouter.dialects import explain
from xrouter.dialects.openai import chat_answer, problems
from xrouter.dialects.openai.endpoint import Asked, Form
from xrouter.dialects.openai.fields import (
    Checks,
    Count,
    ModelId,
    ModelIds,
    Penalty,
    Stops,
    StreamOptions,
    Temperature,
    Text,
    TopP,
    include_usage,
    preferred,
    require,
    texts,
)

MAX_PROMPTS = 128

TYPES: dict[str, Any] = {
    "best_of": Annotated[int, Meta(ge=0, le=20)],
    "echo": bool,
    "frequency_penalty": Penalty,
    "logit_bias": dict[str, float],
    "logprobs": Annotated[int, Meta(ge=0, le=5)],
    "max_tokens": Count,
    "min_p": Annotated[float, Meta(ge=0, le=1)],
    "model": ModelId,
    "models": ModelIds,
    "n": Annotated[int, Meta(ge=1, le=128)],
    "presence_penalty": Penalty,
    "prompt": str | list[Any],
    "provider": Preferences,
    "repetition_penalty": Annotated[float, Meta(gt=0, le=100)],
    "seed": int,
    "stop": Stops,
    "stream": bool,
    "stream_options": StreamOptions,
    "suffix": str,
    "temperature": Temperature,
    "top_k": int,
    "top_p": TopP,
    "user": Text,
}
_CHECKS = Checks(TYPES)
_REFUSED = {
    "best_of": "only the best of several answers cannot be told from here; ask for 'n' of them and choose",
    "echo": "the prompt is not repeated; put it in front of the answer yourself",
    "logprobs": "probabilities of a continued text are not known; /v1/chat/completions has 'logprobs'",
    "suffix": "text cannot be inserted before an end; describe what is wanted in the prompt",
}
_HARMLESS: dict[str, tuple[Any, ...]] = {"best_of": (0, 1), "echo": (False,), "suffix": ("",)}
_OURS = frozenset({"model", "models", "prompt", "stream", "stream_options", *_REFUSED})
_LEGACY_REASONS: dict[FinishReason, str] = {"length": "length", "content_filter": "content_filter"}

_encode = msgspec.json.encode


def parse(body: bytes) -> tuple[ChatRequest, Preferences | None]:
    """The request as a chat, and its wishes for the route. Raises `Invalid` that names the field."""
    fields, values = _CHECKS.read(body)
    require(values, "model", "prompt")
    for name, reason in _REFUSED.items():
        if name in values and values[name] not in _HARMLESS.get(name, ()):
            raise Invalid(f"'{name}' is not supported: {reason}.", param=name, code="unsupported_parameter")
    prompts = texts("prompt", values["prompt"], MAX_PROMPTS)
    rest: Fields = {name: raw for name, raw in fields.items() if name not in _OURS}
    rest["messages"] = Raw(_encode([{"role": "user", "content": prompts[0]}]))
    return preferred(
        ChatRequest(
            model=values["model"],
            stream=values.get("stream", False),
            fields=rest,
            models=tuple(values.get("models") or ()),
            include_usage=include_usage(values),
            prompt=prompts[0],
            prompts=prompts if len(prompts) > 1 else (),
        )
    )


def whole(call: Call, answer: Answer) -> bytes:
    """The body of a completion that is not streamed."""
    return _encode(fields(call, answer))


def fields(call: Call, answer: Answer) -> dict[str, Any]:
    """The same, not yet as text."""
    choices = [
        _choice(choice.index, choice.message.content or choice.message.refusal or "", _reason(choice.finish_reason))
        for choice in answer.choices
    ]
    return _common(call) | {"choices": choices, "usage": chat_answer.usage(call)}


def _common(call: Call) -> dict[str, Any]:
    return {
        "id": call.id,
        "object": "text_completion",
        "created": int(call.started_at),
        "model": call.served_model or call.request.model,
    }


def _choice(index: int, text: str, reason: str | None) -> dict[str, Any]:
    return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}


def _reason(reason: FinishReason) -> str:
    return _LEGACY_REASONS.get(reason, "stop")


class Writer:
    """Turns the events of one stream into completions of a few words each. Reasoning has no place in this form."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._extra: Fields = {}

    def chunk(self, event: Piece) -> bytes:
        """The bytes of one event; empty for an event that has no chunk of its own."""
        if isinstance(event, Delta | Refusal):
            return self._render(_choice(event.choice, event.text, None))
        if isinstance(event, Finish):
            return self._render(_choice(event.choice, "", _reason(event.reason)))
        if isinstance(event, Start):
            self._extra = event.extra or {}
        return b""

    def end(self) -> bytes:
        """The usage and the route for clients that asked, and `[DONE]`."""
        told = explain.field(self._call)
        if not self._wants_usage and not told:
            return chat_answer.DONE
        usage = {"usage": chat_answer.usage(self._call)} if self._wants_usage else {}
        last = self.common() | {"choices": []} | usage | told
        return b"data: " + _encode(last) + b"\n\n" + chat_answer.DONE

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        """The error object, which official clients raise, and no `[DONE]`."""
        return b"data: " + problems.body(error, request_id) + b"\n\n"

    def common(self) -> dict[str, Any]:
        """What stands on every chunk."""
        return _common(self._call) | self._extra

    @property
    def _wants_usage(self) -> bool:
        request = self._call.request
        return isinstance(request, ChatRequest) and request.include_usage

    def _render(self, choice: dict[str, Any]) -> bytes:
        chunk = self.common() | {"choices": [choice]}
        if self._wants_usage:
            chunk["usage"] = None
        return b"data: " + _encode(chunk) + b"\n\n"


def _asked(body: bytes) -> Asked:
    request, preferences = parse(body)
    return Asked(request, whole, Writer, preferences)


FORM = Form("cmpl", _asked)
