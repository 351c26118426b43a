"""`POST /embeddings`: the request and the answer. Tokens stand at each vector, none at the top."""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from xrouter.core.chat import Usage, token_count
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid

# Measured (gigachat v1 `Embeddings`); the others are not documented.
DIMENSIONS: Final[Mapping[str, int]] = {"Embeddings": 1024}
_GATEWAYS: Final = frozenset({"model", "models", "input", "dimensions", "encoding_format", "metadata"})


class _Row(Struct):
    embedding: tuple[float, ...]
    index: int | None = None
    usage: Raw = Raw(b"null")


class _Body(Struct):
    data: list[_Row]
    model: str | None = None


_as_body = msgspec.json.Decoder(_Body).decode


def vectors_request(request: EmbeddingsRequest, model: str) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the parameters that the vendor has no word for. Raises `Invalid`: a vector of another length
    than the one that was asked for is of no use to anybody."""
    if request.dimensions is not None and request.dimensions != DIMENSIONS.get(model):
        own = f"; this model's own are {DIMENSIONS[model]}" if model in DIMENSIONS else ""
        raise Invalid(
            f"GigaChat cannot change the length of a vector{own}", param="dimensions", code="unsupported_parameter"
        )
    dropped = tuple(name for name, raw in request.fields.items() if name not in _GATEWAYS and raw != b"null")
    return msgspec.json.encode({"model": model, "input": request.inputs}), dropped


def read_vectors(body: bytes, count: int) -> Embeddings:
    """The vectors in the order of their inputs, and the sum of their tokens; None where one of them has no sane
    count. Raises ValueError for a body that is none, or whose vectors are not those of `count` inputs."""
    answer = _as_body(body)
    rows: dict[int, _Row] = {place if row.index is None else row.index: row for place, row in enumerate(answer.data)}
    if len(answer.data) != count or rows.keys() != set(range(count)):
        raise ValueError(f"{len(answer.data)} vectors for {count} inputs")
    if not all(row.embedding for row in answer.data):
        raise ValueError("a vector without numbers")
    tokens = [_tokens(row.usage) for row in answer.data]
    known = [found for found in tokens if found is not None]
    usage = Usage(sum(known), 0) if len(known) == count else None
    return Embeddings(tuple(rows[place].embedding for place in range(count)), usage, answer.model)


def _tokens(raw: Raw) -> int | None:
    found: Any = msgspec.json.decode(raw)
    return token_count(found.get("prompt_tokens")) if isinstance(found, dict) else None
