"""`POST /v1/rerank`: documents by their worth for a query, as Cohere (https://docs.cohere.com/reference/rerank) and
Jina (https://jina.ai/reranker) have it, and as vLLM answers it."""

from functools import partial
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from xrouter.core.call import Call
from xrouter.core.errors import Invalid
from xrouter.core.preferences import Preferences
from xrouter.core.rerank import Ranking, RerankRequest
from xrouter.dialects.openai import embeddings
from xrouter.dialects.openai.endpoint import Asked, Form
from xrouter.dialects.openai.fields import Checks, Count, ModelId, ModelIds, Text, preferred, require

MAX_DOCUMENTS = 2048


class _Document(Struct):
    text: str


TYPES: dict[str, Any] = {
    "documents": Annotated[list[str | _Document], Meta(min_length=1, max_length=MAX_DOCUMENTS)],
    "max_tokens_per_doc": Count,
    "model": ModelId,
    "models": ModelIds,
    "provider": Preferences,
    "query": Annotated[str, Meta(min_length=1)],
    "return_documents": bool,
    "top_n": Count,
    "user": Text,
}
_CHECKS = Checks(TYPES)
_OURS = frozenset({"documents", "model", "models", "query", "return_documents", "top_n"})


def parse(body: bytes) -> tuple[RerankRequest, Preferences | None, bool]:
    """The request, its wishes for the route, and whether it wants the documents back. Raises `Invalid` that
    names the field."""
    fields, values = _CHECKS.read(body)
    require(values, "model", "query", "documents")
    documents = tuple(one if isinstance(one, str) else one.text for one in values["documents"])
    for place, text in enumerate(documents):
        if not text:
            raise Invalid(f"documents[{place}]: must not be empty.", param=f"documents[{place}]")
    request, preferences = preferred(
        RerankRequest(
            model=values["model"],
            query=values["query"],
            documents=documents,
            fields={name: raw for name, raw in fields.items() if name not in _OURS},
            top_n=values.get("top_n"),
            models=tuple(values.get("models") or ()),
        )
    )
    return request, preferences, values.get("return_documents", False)


def whole(call: Call, answer: Ranking, *, documents: bool) -> bytes:
    """The body of the answer."""
    return msgspec.json.encode(fields(call, answer, documents=documents))


def fields(call: Call, answer: Ranking, *, documents: bool) -> dict[str, Any]:
    """The same, not yet as text. With `documents` each result holds the text that the client sent."""
    request = call.request
    assert isinstance(request, RerankRequest), "a ranking answers nothing else"
    results = []
    for ranked in answer.results[: request.top_n]:
        result: dict[str, Any] = {"index": ranked.index, "relevance_score": ranked.score}
        if documents:
            result["document"] = {"text": request.documents[ranked.index]}
        results.append(result)
    return {"id": call.id, "model": call.served_model, "results": results, "usage": embeddings.usage(call)}


def _asked(body: bytes) -> Asked:
    request, preferences, documents = parse(body)
    return Asked(request, partial(whole, documents=documents), preferences=preferences)


FORM = Form("rerank", _asked)
