"""Tokens as this vendor counts them: what came out of the cache, and what went into it, is not part of its input."""

from typing import Any, Final

import msgspec
from msgspec import Raw

from xrouter.core.chat import MOST_TOKENS, Usage, token_count

_READ_HERE: Final = frozenset(
    {"input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"}
)


def read_usage(found: Any) -> Usage | None:
    """Ours for theirs, or None where the report is absent or absurd (then the gateway estimates)."""
    if not isinstance(found, dict):
        return None
    fresh, output = token_count(found.get("input_tokens")), token_count(found.get("output_tokens"))
    cached, written = (
        token_count(found.get(name) or 0) for name in ("cache_read_input_tokens", "cache_creation_input_tokens")
    )
    if fresh is None or output is None or cached is None or written is None:
        return None
    if fresh + cached + written > MOST_TOKENS:
        return None
    extra = {
        name: Raw(msgspec.json.encode(value))
        for name, value in found.items()
        if name not in _READ_HERE and value is not None
    }
    return Usage(
        input_tokens=fresh + cached + written,
        output_tokens=output,
        cached_tokens=cached,
        cache_write_tokens=written,
        extra=extra or None,
    )
