"""The access token in the answer to GigaChat's login."""

import msgspec

from xrouter.core.secret import Secret
from xrouter.providers._http import Token, TokenKeeper

__all__ = ["Token", "TokenKeeper", "read_token"]

_MILLISECONDS_FROM = 1e11
_DEFAULT_LIFE_S = 1500.0


def read_token(body: bytes, now: float) -> Token:
    """The token in a login's answer: `{"access_token", "expires_at"}`, or `{"tok", "exp"}` of corporate stands.

    The end is milliseconds at the vendor and seconds at some stands; one that is missing is taken as 25 of the
    documented 30 minutes. Raises ValueError for anything else.
    """
    answer = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    raw_text = answer.get("access_token", answer.get("tok"))
    text = None if raw_text is None else msgspec.json.decode(raw_text)
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
        raise ValueError("no token in the answer")
    raw_end = answer.get("expires_at", answer.get("exp"))
    end = None if raw_end is None else msgspec.json.decode(raw_end)
    if not isinstance(end, int | float) or isinstance(end, bool) or end <= 0:
        return Token(Secret(text), now + _DEFAULT_LIFE_S)
    return Token(Secret(text), end / 1000 if end > _MILLISECONDS_FROM else float(end))
