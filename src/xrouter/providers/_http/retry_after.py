"""How long a vendor asks us to wait, in the five ways vendors say it."""

import math
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

_LONGEST_S = 86_400.0
_EPOCH_FROM = 1e9  # a plain number above this is a point in time, not a duration
_EPOCH_MS_FROM = 1e11
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(\d{1,12}(?:\.\d{1,12})?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d{1,15}(?:\.\d{1,12})?")


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds to wait, between 0 and a day, or None where no header says it.

    In this order: `retry-after-ms`, `Retry-After` (seconds or an HTTP date, RFC 9110 10.2.3), the latest
    `x-ratelimit-reset-*` (`1s`, `6m0s`, seconds, or a point in time) of a limit that is not known to have
    anything left. `headers` have lower-case names; `now` is seconds since the epoch.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    text = headers.get("retry-after")
    if text is not None:
        seconds = _number(text)
        if seconds is None:
            seconds = _until(text, now)
        if seconds is not None:
            return _bounded(seconds)
    return _bounded(max(_resets(headers, now), default=None))


def _resets(headers: Mapping[str, str], now: float) -> list[float]:
    found = []
    for what in ("-requests", "-tokens", ""):
        if _number(headers.get(f"x-ratelimit-remaining{what}")):
            continue
        reset = _duration(headers.get(f"x-ratelimit-reset{what}"), now)
        if reset is not None:
            found.append(reset)
    return found


def _duration(text: str | None, now: float) -> float | None:
    seconds = _number(text)
    if seconds is not None:
        if seconds >= _EPOCH_MS_FROM:
            return seconds / 1000 - now
        return seconds - now if seconds >= _EPOCH_FROM else seconds
    text = (text or "").strip()
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def _number(text: str | None) -> float | None:
    text = (text or "").strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _until(text: str, now: float) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - now
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _bounded(seconds: float | None) -> float | None:
    if seconds is None or not math.isfinite(seconds):
        return None
    return min(max(seconds, 0.0), _LONGEST_S)
