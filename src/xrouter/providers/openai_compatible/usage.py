"""The `usage` object, read with distrust: a vendor's number becomes money."""

from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import Fields, Usage, token_count

_READ_HERE = frozenset({"prompt_tokens", "completion_tokens", "total_tokens"})
_CACHED, _CACHE_WRITE, _REASONING = "cached_tokens", "cache_write_tokens", "reasoning_tokens"
_KNOWN_DETAILS = frozenset({_CACHED, _CACHE_WRITE, _REASONING})
_DETAILS = ("prompt_tokens_details", "completion_tokens_details")


def read_usage(raw: Raw | None) -> Usage | None:
    """Tokens as reported, or None where the report is absent or absurd (then the gateway estimates).

    Absurd: no object, or the input or output count missing, negative, no integer, or above a thousand
    million. Part counts (cached, reasoning) are cut to their whole.
    """
    if raw is None:
        return None
    try:
        found = msgspec.json.decode(raw)
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    prompt, completion = token_count(found.get("prompt_tokens")), token_count(found.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    details, more = (_object(found.get(name)) for name in _DETAILS)
    cached = details.get(_CACHED, found.get("prompt_cache_hit_tokens"))  # the second is DeepSeek's
    return Usage(
        input_tokens=prompt,
        output_tokens=completion,
        cached_tokens=min(token_count(cached) or 0, prompt),
        cache_write_tokens=min(token_count(details.get(_CACHE_WRITE)) or 0, prompt),
        reasoning_tokens=min(token_count(more.get(_REASONING)) or 0, completion),
        extra=_extra(found),
    )


def read_input_usage(raw: Raw) -> Usage | None:
    """Tokens of a call that makes none: of embeddings and rankings. Some servers know only a total."""
    found = _decoded(raw)
    count = token_count(found.get("prompt_tokens", found.get("total_tokens")))
    return None if count is None else Usage(count, 0)


def read_picture_usage(raw: Raw) -> Usage | None:
    """Tokens of pictures, at vendors that count them."""
    found = _decoded(raw)
    counts = token_count(found.get("input_tokens")), token_count(found.get("output_tokens"))
    return None if counts[0] is None or counts[1] is None else Usage(counts[0], counts[1])


def _decoded(raw: Raw) -> dict[str, Any]:
    return _object(msgspec.json.decode(raw))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _extra(found: dict[str, Any]) -> Fields | None:
    """The vendor's further fields; a details object whole where it says more than we read."""
    extra = {}
    for name, value in found.items():
        if name in _READ_HERE or (name in _DETAILS and _KNOWN_DETAILS.issuperset(_object(value))):
            continue
        # OpenRouter tells its own price in dollars; `cost` is what we charge, in roubles.
        extra["upstream_cost" if name == "cost" else name] = Raw(msgspec.json.encode(value))
    return extra or None
