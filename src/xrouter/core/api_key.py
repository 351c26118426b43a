"""The text form of an API key: `sk-xr-v1-<id>-<secret>-<crc>`.

The prefix lets secret scanners find leaked keys, the id is public and names the key in lists and logs, the
checksum lets the door refuse typing errors without a look-up. 43 base62 characters hold 256 random bits.
"""

import secrets
import zlib

from xrouter.core.secret import Secret

_BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_PREFIX = "sk-xr-v1-"
_ID_LENGTH, _SECRET_LENGTH, _CRC_LENGTH = 10, 43, 6


def mint() -> tuple[str, Secret]:
    """A fresh key: its public id and its whole text."""
    key_id, secret = _random(_ID_LENGTH), _random(_SECRET_LENGTH)
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
