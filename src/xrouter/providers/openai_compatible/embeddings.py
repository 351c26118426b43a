"""`/embeddings`: texts out, vectors back. Always asked for as numbers; base64 is read, too.

Source: https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import binascii
import struct
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import Usage
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid

from .rows import Row
from .usage import read_input_usage

_FIELDS = frozenset({"user"})
_NULL = Raw(b"null")


class _Row(msgspec.Struct):
    embedding: tuple[float, ...] | str
    index: int | None = None


class _Body(msgspec.Struct):
    data: list[_Row]
    usage: Raw = _NULL
    model: Any = None


_as_body = msgspec.json.Decoder(_Body).decode


def embeddings_request(request: EmbeddingsRequest, model: str, row: Row) -> tuple[bytes, tuple[str, ...]]:
    """The body, and the names of what was left out."""
    fields: dict[str, Any] = {"model": model.removeprefix(row.model_prefix), "input": request.inputs}
    fields["encoding_format"] = "float"
    if request.dimensions is not None:
        fields["dimensions"] = request.dimensions
    dropped = take_known(request.fields, fields, _FIELDS, row)
    return msgspec.json.encode(fields), dropped


def take_known(given: dict[str, Raw], fields: dict[str, Any], known: frozenset[str], row: Row) -> tuple[str, ...]:
    """Move what may pass into `fields`; gives the names of what may not and is not there already."""
    dropped = []
    for name, raw in given.items():
        if name in fields or raw == _NULL:
            continue
        if name in known and name not in row.drop:
            fields[name] = raw
        else:
            dropped.append(name)
    return tuple(dropped)


def read_embeddings(body: bytes, count: int) -> Embeddings:
    """`count` vectors in the order of the inputs. Raises ValueError where one is missing, empty, double or of
    another length than the rest: a vector that stands at the wrong text poisons an index for good."""
    found = _as_body(body)
    if len(found.data) != count:
        raise ValueError(f"{len(found.data)} vectors for {count} inputs")
    vectors: dict[int, tuple[float, ...]] = {}
    for place, row in enumerate(found.data):
        vectors[place if row.index is None else row.index] = _numbers(row.embedding)
    if vectors.keys() != set(range(count)):
        raise ValueError("vectors whose indexes do not cover the inputs")
    if len({len(vector) for vector in vectors.values()}) != 1 or not vectors[0]:
        raise ValueError("vectors that are empty or of different length")
    usage: Usage | None = read_input_usage(found.usage)
    return Embeddings(
        tuple(vectors[place] for place in range(count)), usage, found.model if isinstance(found.model, str) else None
    )


def check_length(found: Embeddings, request: EmbeddingsRequest, provider: str) -> None:
    """Raises `Invalid` for a server that took `dimensions` and did not follow: a vector of another length than the one
    that was asked for is of no use to anybody."""
    length = len(found.vectors[0])
    if request.dimensions not in (None, length):
        raise Invalid(
            f"{provider} made vectors of {length} numbers where {request.dimensions} were asked for: this model cannot "
            "change their length. Leave 'dimensions' out.",
            param="dimensions",
            code="unsupported_parameter",
        )


def _numbers(embedding: tuple[float, ...] | str) -> tuple[float, ...]:
    if not isinstance(embedding, str):
        return embedding
    packed = unpacked(embedding)
    if len(packed) % 4:
        raise ValueError("a vector that is no list of float32")
    return struct.unpack(f"<{len(packed) // 4}f", packed)


def unpacked(b64: str) -> bytes:
    """Raises ValueError for what is no base64."""
    try:
        return base64.b64decode(b64, validate=True)
    except binascii.Error:
        raise ValueError("what is no base64") from None
