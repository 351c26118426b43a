"""`POST /v1/embeddings`: https://platform.openai.com/docs/api-reference/embeddings.

Vectors are numbers, or base64 of float32 in little-endian order, which the official SDK asks for by default.
"""

import base64
import struct
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from xrouter.core.call import Call
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.preferences import Preferences
from xrouter.dialects.openai import chat_answer
from xrouter.dialects.openai.endpoint import Asked, Form
from xrouter.dialects.openai.fields import Checks, ModelId, ModelIds, Text, preferred, require, texts
from xrouter.gateway import meter

MAX_INPUTS = 2048

TYPES: dict[str, Any] = {
    "dimensions": Annotated[int, Meta(ge=1, le=65_536)],
    "encoding_format": Literal["float", "base64"],
    "input": str | list[Any],
    "model": ModelId,
    "models": ModelIds,
    "provider": Preferences,
    "user": Text,
}
_CHECKS = Checks(TYPES)
_OURS = frozenset({"dimensions", "encoding_format", "input", "model", "models"})


def parse(body: bytes) -> tuple[EmbeddingsRequest, Preferences | None, bool]:
    """The request, its wishes for the route, and whether it wants base64. Raises `Invalid` that names the
    field."""
    fields, values = _CHECKS.read(body)
    require(values, "model", "input")
    request, preferences = preferred(
        EmbeddingsRequest(
            model=values["model"],
            inputs=texts("input", values["input"], MAX_INPUTS),
            fields={name: raw for name, raw in fields.items() if name not in _OURS},
            dimensions=values.get("dimensions"),
            models=tuple(values.get("models") or ()),
        )
    )
    return request, preferences, values.get("encoding_format") == "base64"


def whole(call: Call, answer: Embeddings, *, packed: bool) -> bytes:
    """The body of the answer."""
    return msgspec.json.encode(fields(call, answer, packed=packed))


def fields(call: Call, answer: Embeddings, *, packed: bool) -> dict[str, Any]:
    """The same, not yet as text."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _packed(vector) if packed else vector}
            for index, vector in enumerate(answer.vectors)
        ],
        "model": call.served_model,
        "usage": usage(call),
    }


def usage(call: Call) -> dict[str, Any]:
    """Tokens of the inputs, and the cost in roubles."""
    tokens = meter.used(call)
    read = 0 if tokens is None else tokens.input_tokens
    found: dict[str, Any] = {"prompt_tokens": read, "total_tokens": read, "cost": chat_answer.cost(call)}
    if meter.unpriced(call):
        found["unpriced"] = True
    if tokens is not None and tokens.estimated:
        found["estimated"] = True
    return found


def _packed(vector: tuple[float, ...]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _asked(body: bytes) -> Asked:
    request, preferences, packed = parse(body)
    return Asked(request, partial(whole, packed=packed), preferences=preferences)


FORM = Form("embd", _asked)
