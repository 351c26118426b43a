"""`/models` and `/tokenize`: what is there, and how long it is.

Sources: https://platform.openai.com/docs/api-reference/models/list,
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#tokenizer-api
"""

import msgspec

from xrouter.core.chat import token_count


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Count(msgspec.Struct):
    count: int


_as_models = msgspec.json.Decoder(_Models).decode
_as_count = msgspec.json.Decoder(_Count).decode


def read_model_ids(body: bytes, prefix: str) -> list[str]:
    """The ids, without the `prefix` that the server does not want back. Raises ValueError."""
    return [model.id.removeprefix(prefix) for model in _as_models(body).data]


def read_count(body: bytes) -> int:
    """The count of tokens. Raises ValueError."""
    count = token_count(_as_count(body).count)
    if count is None:
        raise ValueError("a count that cannot be one")
    return count
