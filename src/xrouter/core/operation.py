"""The kinds of work that a client may ask for."""

from enum import StrEnum


class Operation(StrEnum):
    """What a deployment can do for a client. A deployment serves one or more of them."""

    CHAT = "chat"
    EMBEDDINGS = "embeddings"
    IMAGES = "images"
    RERANK = "rerank"

    __hash__ = str.__hash__  # Enum's own is Python code, and every call asks `in deployment.serves`
