"""`/rerank`: a query and documents out, their order back. The shape is Cohere's, which Jina and vLLM took over.

Sources: https://docs.cohere.com/v2/reference/rerank, https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import token_count
from xrouter.core.rerank import Ranked, Ranking, RerankRequest

from .embeddings import take_known
from .rows import Row
from .usage import read_input_usage

_FIELDS = frozenset({"max_tokens_per_doc"})
_NULL = Raw(b"null")


class _Result(msgspec.Struct):
    index: int
    relevance_score: Raw


class _Body(msgspec.Struct):
    results: list[_Result]
    usage: Raw = _NULL
    meta: Any = None
    model: Any = None


_as_body = msgspec.json.Decoder(_Body).decode
_as_score = msgspec.json.Decoder(float).decode


def rerank_request(request: RerankRequest, model: str, row: Row) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the names of what was left out. Whether the documents come back is not the server's business."""
    fields: dict[str, Any] = {
        "model": model.removeprefix(row.model_prefix),
        "query": request.query,
        "documents": request.documents,
    }
    if request.top_n is not None:
        fields["top_n"] = request.top_n
    given = {name: raw for name, raw in request.fields.items() if name != "return_documents"}
    dropped = take_known(given, fields, _FIELDS, row)
    return msgspec.json.encode(fields), dropped


def read_ranking(body: bytes, count: int, top_n: int | None) -> Ranking:
    """The order of `count` documents, best first, at most `top_n`. Raises ValueError for a document that is not one of
    them, or stands twice."""
    found = _as_body(body)
    seen = [result.index for result in found.results]
    if len(set(seen)) != len(seen) or not all(0 <= index < count for index in seen):
        raise ValueError("documents that were not sent, or twice the same")
    if not seen:
        raise ValueError("no document")
    best = sorted(found.results, key=lambda result: _as_score(result.relevance_score), reverse=True)
    results = tuple(Ranked(result.index, result.relevance_score.copy()) for result in best[:top_n])
    model = found.model if isinstance(found.model, str) else None
    return Ranking(results, read_input_usage(_usage(found)), model)


def _usage(found: _Body) -> Raw:
    """Jina and vLLM say `usage`, Cohere `meta.tokens` or `meta.billed_units`."""
    if found.usage != _NULL or not isinstance(found.meta, dict):
        return found.usage
    for name in ("tokens", "billed_units"):
        part = found.meta.get(name)
        if isinstance(part, dict) and token_count(part.get("input_tokens")) is not None:
            return Raw(msgspec.json.encode({"prompt_tokens": part["input_tokens"]}))
    return _NULL
