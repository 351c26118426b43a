"""Vectors of texts: one request in, one answer out, nothing streamed.

`fields` holds every further top-level field in OpenAI's spelling as its own JSON text, as in `ChatRequest`.
"""

from typing import ClassVar

from msgspec import Struct

from xrouter.core.chat import Fields, Usage
from xrouter.core.operation import Operation


class EmbeddingsRequest(Struct, frozen=True):
    """Vectors for `inputs`, one for each. `dimensions` is the wished length of a vector, None for the model's own."""

    operation: ClassVar[Operation] = Operation.EMBEDDINGS
    stream: ClassVar[bool] = False

    model: str
    inputs: tuple[str, ...]
    fields: Fields
    dimensions: int | None = None
    models: tuple[str, ...] = ()


class Embeddings(Struct, frozen=True):
    """The vectors in the order of the inputs, and the tokens of all of them (`output_tokens` 0)."""

    vectors: tuple[tuple[float, ...], ...]
    usage: Usage | None = None
    model: str | None = None
