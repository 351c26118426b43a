"""`POST /api/v1/chat/completions`, streamed or whole: OpenAI's answer, who gave it, and the vendor's own last word."""

from functools import partial
from typing import Any

import msgspec

from xrouter.core.call import Call, Piece
from xrouter.core.chat import Answer, Finish, Reasoning
from xrouter.core.errors import GatewayError
from xrouter.dialects.openai import chat_answer
from xrouter.dialects.openai.endpoint import Asked, Form
from xrouter.dialects.openrouter import chat_request, problems

DIALECT = "openrouter"


def provider(call: Call) -> str | None:
    """Who answers; None as long as nobody does."""
    return None if call.served is None else call.served.deployment.provider


def whole(call: Call, answer: Answer, *, hidden: bool) -> bytes:
    """The body of a completion that is not streamed. `hidden`: without its reasoning."""
    body = chat_answer.fields(call, answer)
    body["provider"] = provider(call)
    for shown, choice in zip(body["choices"], answer.choices, strict=True):
        shown.setdefault("native_finish_reason", choice.native_finish_reason or choice.finish_reason)
        message = shown["message"]
        if hidden:
            message.pop("reasoning_content", None)
        else:
            message["reasoning"] = choice.message.reasoning
    return msgspec.json.encode(body)


class ChunkWriter(chat_answer.ChunkWriter):
    """Chunks with `provider`, reasoning under both names, and `native_finish_reason`."""

    __slots__ = ("_hidden",)

    def __init__(self, call: Call, *, hidden: bool) -> None:
        super().__init__(call)
        self._hidden = hidden

    def chunk(self, event: Piece) -> bytes:
        """The SSE bytes of one event; empty for an event that has no chunk of its own."""
        if isinstance(event, Reasoning):
            if self._hidden:
                return b""
            said = {"reasoning": event.text, "reasoning_content": event.text, **(event.extra or {})}
            return self._render(said, event.choice)
        if isinstance(event, Finish):
            extra = {"native_finish_reason": event.native or event.reason, **(event.extra or {})}
            return self._finish(event, extra)
        return super().chunk(event)

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        """The error inside a chunk like all others, because a bare one fails the SDK's validation; then `[DONE]`."""
        return failed(self._common() | self._ours(), {"delta": {"role": "assistant", "content": ""}}, error, request_id)

    def _ours(self) -> dict[str, Any]:
        return {"provider": provider(self._call)}


def failed(common: dict[str, Any], empty: dict[str, Any], error: GatewayError, request_id: str) -> bytes:
    """The end of a stream that failed: a chunk with an `empty` choice and the error, and `[DONE]`."""
    choice = {"index": 0, **empty, "finish_reason": "error", "native_finish_reason": "error"}
    chunk = common | {"choices": [choice], "error": problems.fields(error, request_id)}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n" + chat_answer.DONE


def _asked(body: bytes) -> Asked:
    request, preferences, hidden = chat_request.parse(body)
    return Asked(request, partial(whole, hidden=hidden), partial(ChunkWriter, hidden=hidden), preferences)


FORM = Form("chatcmpl", _asked, DIALECT)
