"""What clients are told of limits: OpenAI's headers, and the words of a 429. Pure."""

from math import ceil
from typing import Final

from xrouter.core.errors import RateLimited
from xrouter.core.limits import Limit, Unit

_WINDOWS: Final = {1: "second", 60: "minute", 3_600: "hour", 86_400: "day"}
_TEXT: Final = {Unit.REQUESTS: ("request", "requests"), Unit.TOKENS: ("token", "tokens")}


Names = tuple[bytes, bytes, bytes]
_BEGIN: Final = b"x-ratelimit-"
REQUESTS: Final[Names] = (_BEGIN + b"limit-requests", _BEGIN + b"remaining-requests", _BEGIN + b"reset-requests")
TOKENS: Final[Names] = (_BEGIN + b"limit-tokens", _BEGIN + b"remaining-tokens", _BEGIN + b"reset-tokens")
"""OpenAI's headers (https://platform.openai.com/docs/guides/rate-limits): `reset` is when nothing would be used."""


def duration(seconds: float) -> str:
    """`20ms`, `1s`, `8.64s`, `6m0s`, `23h59m51s`: rounded up to a millisecond, and to a second from a minute on."""
    millis = ceil(seconds * 1000 - 1e-6)
    if millis < 60_000:
        return f"{millis}ms" if 0 < millis < 1000 else f"{max(0, millis) / 1000:g}s"
    minutes, rest = divmod(ceil(millis / 1000), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes}m{rest}s" if hours else f"{minutes}m{rest}s"


def refused(limit: Limit, wait_s: float) -> RateLimited:
    """The 429: whose limit, which, and when it passes."""
    models = "" if limit.model is None else f" for models '{limit.model}'"
    if limit.unit is Unit.CONCURRENT:
        what = f"{limit.amount} {'call' if limit.amount == 1 else 'calls'} at once{models}"
        hint = "Try again when one of the calls that run now has ended."
    else:
        window = _WINDOWS.get(limit.window_s, f"{limit.window_s} seconds")
        what = f"{limit.amount} {_TEXT[limit.unit][limit.amount != 1]} per {window}{models}"
        hint = f"Try again in {duration(max(wait_s, 0.001))}."
    if not limit.amount:
        hint = "Nothing is allowed until somebody raises it."
    return RateLimited(
        f"{limit.owner} has reached its limit of {what}. {hint}",
        retry_after_s=wait_s,
        metadata={
            "limit": {
                "level": limit.level.value,
                "owner": limit.owner,
                "unit": limit.unit.value,
                "amount": limit.amount,
                "window_s": limit.window_s or None,
                "model": limit.model,
            },
            "retry_after_s": round(wait_s, 3),
        },
    )
