"""Documents by their worth for a query: one request in, one answer out, nothing streamed.

`fields` holds every further top-level field in OpenAI's spelling as its own JSON text, as in `ChatRequest`.
"""

from typing import ClassVar

from msgspec import Raw, Struct

from xrouter.core.chat import Fields, Usage
from xrouter.core.operation import Operation


class RerankRequest(Struct, frozen=True):
    """How well each of `documents` answers `query`. `top_n` wants only so many results, None all."""

    operation: ClassVar[Operation] = Operation.RERANK
    stream: ClassVar[bool] = False

    model: str
    query: str
    documents: tuple[str, ...]
    fields: Fields
    top_n: int | None = None
    models: tuple[str, ...] = ()


class Ranked(Struct, frozen=True, gc=False):
    """One document by its place in the request, and its score (higher is better)."""

    index: int
    score: Raw
    """The vendor's number as it came, so that no digit is lost or invented."""


class Ranking(Struct, frozen=True):
    """The documents, best first."""

    results: tuple[Ranked, ...]
    usage: Usage | None = None
    model: str | None = None
