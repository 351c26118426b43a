"""The text form of an API key: `sk-xr-v1-<id>-<secret>-<crc>`.

The prefix lets secret scanners find leaked keys, the id is public and names the key in lists and logs, the
checksum lets the door refuse typing errors without a look-up. 43 base62 characters hold 256 random bits.
"""

import re
import secrets
import zlib

from xrouter.core.secret import Secret

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX = "sk-xr-v1-"
_ID_LENGTH, _SECRET_LENGTH, _CRC_LENGTH = 10, 43, 6

MAX_NAME_LENGTH = 100
NAME_PATTERN = r"^[^\x00-\x1f\x7f]+$"
MAX_DAYS = 36_500
LAST_EXPIRY = 253_402_300_799.0
"""9999-12-31T23:59:59Z, the last time that RFC 3339 can write; seconds since the epoch."""


def check_new(name: str, expires_at: float | None, now: float) -> None:
    """Raises ValueError, in words, for what no key may have: a name that lists could not show, or an end that is
    past already or beyond what can be written. The same for every door that makes keys."""
    if not name.strip() or len(name) > MAX_NAME_LENGTH or not re.fullmatch(NAME_PATTERN, name):
        raise ValueError(f"a key's name is 1 to {MAX_NAME_LENGTH} characters of text, without control characters")
    if expires_at is not None and not now < expires_at <= LAST_EXPIRY:
        raise ValueError("a key must expire in the future, and before the year 10000")


def mint(key_id: str | None = None) -> tuple[str, Secret]:
    """A fresh key, or a fresh secret for the one called `key_id`: its public id and its whole text."""
    key_id, secret = key_id or _random(_ID_LENGTH), _random(_SECRET_LENGTH)
    body = f"{_PREFIX}{key_id}-{secret}"
    return key_id, Secret(f"{body}-{_checksum(body)}")


def is_mistyped(text: str) -> bool:
    """True for a text that has our prefix but cannot be one of our keys (length or checksum is wrong).

    Bootstrap keys need not have the form, so a text without the prefix is never mistyped.
    """
    if not text.startswith(_PREFIX):
        return False
    body, _, checksum = text.rpartition("-")
    return len(body) != len(_PREFIX) + _ID_LENGTH + 1 + _SECRET_LENGTH or checksum != _checksum(body)


def _random(length: int) -> str:
    return "".join(secrets.choice(_BASE62) for _ in range(length))


def _checksum(body: str) -> str:
    value, digits = zlib.crc32(body.encode()), ""
    for _ in range(_CRC_LENGTH):
        value, digit = divmod(value, 62)
        digits = _BASE62[digit] + digits
    return digits
