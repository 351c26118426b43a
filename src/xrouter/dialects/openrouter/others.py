"""What else is asked for under `/api/v1`: completions, embeddings, pictures, rerankings. OpenAI's forms, in which
OpenRouter's clients want a field more."""

from functools import partial
from typing import Any

import msgspec

from xrouter.core.call import Call
from xrouter.core.chat import Answer
from xrouter.core.embeddings import Embeddings
from xrouter.core.errors import GatewayError
from xrouter.core.images import Images
from xrouter.core.rerank import Ranking
from xrouter.dialects.openai import chat_answer, completions, embeddings, images, rerank
from xrouter.dialects.openai.endpoint import Asked, Form
from xrouter.dialects.openrouter.chat import DIALECT, failed, provider

_encode = msgspec.json.encode


def _completion(call: Call, answer: Answer) -> bytes:
    body = completions.fields(call, answer)
    body["provider"] = provider(call)
    for shown, choice in zip(body["choices"], answer.choices, strict=True):
        shown["native_finish_reason"] = choice.native_finish_reason or choice.finish_reason
    return _encode(body)


class CompletionWriter(completions.Writer):
    """Completions of a few words each, with `provider`."""

    def fail(self, error: GatewayError, request_id: str) -> bytes:
        """The error inside a chunk like all others; then `[DONE]`."""
        return failed(self.common(), {"text": "", "logprobs": None}, error, request_id)

    def common(self) -> dict[str, Any]:
        return super().common() | {"provider": provider(self._call)}


def _completion_asked(body: bytes) -> Asked:
    request, preferences = completions.parse(body)
    request = msgspec.structs.replace(request, include_usage=request.stream)
    return Asked(request, _completion, CompletionWriter, preferences)


def _vectors(call: Call, answer: Embeddings, *, packed: bool) -> bytes:
    body = embeddings.fields(call, answer, packed=packed)
    return _encode(body | {"id": call.id, "provider": provider(call)})


def _embeddings_asked(body: bytes) -> Asked:
    request, preferences, packed = embeddings.parse(body)
    return Asked(request, partial(_vectors, packed=packed), preferences=preferences)


def _pictures(call: Call, answer: Images) -> bytes:
    """Each picture with its type, and the usage in the words of a chat's, as the SDK insists."""
    data = images.pictures(answer)
    for shown, image in zip(data, answer.images, strict=True):
        shown["media_type"] = image.mime
    usage = chat_answer.usage(call) or {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cost": chat_answer.cost(call),
    }
    return _encode({"created": int(call.started_at), "data": data, "provider": provider(call), "usage": usage})


def _images_asked(body: bytes) -> Asked:
    request, preferences = images.parse(body)
    return Asked(request, _pictures, preferences=preferences)


def _ranking(call: Call, answer: Ranking) -> bytes:
    """The SDK wants every document back, whether it was asked for or not."""
    return _encode(rerank.fields(call, answer, documents=True) | {"provider": provider(call)})


def _rerank_asked(body: bytes) -> Asked:
    request, preferences, _ = rerank.parse(body)
    return Asked(request, _ranking, preferences=preferences)


COMPLETIONS = Form("cmpl", _completion_asked, DIALECT)
EMBEDDINGS = Form("embd", _embeddings_asked, DIALECT)
IMAGES = Form("img", _images_asked, DIALECT)
RERANK = Form("rerank", _rerank_asked, DIALECT)
