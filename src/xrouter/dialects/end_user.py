"""For whom does the client ask? From the body, else from the headers of the chat interfaces that say it."""

from typing import Final

import msgspec

from xrouter.core.call import Request
from xrouter.dialects.exchange import Exchange

FIELDS: Final = ("safety_identifier", "user")
"""OpenAI's present name, and the one before; checked as texts by the dialects that know them."""

HEADERS: Final = (
    b"x-xrouter-end-user",
    b"x-openwebui-user-id",  # Open WebUI with ENABLE_FORWARD_USER_INFO_HEADERS
    b"x-librechat-user-id",  # LibreChat: `headers: {X-LibreChat-User-Id: "{{LIBRECHAT_USER_ID}}"}`
    b"x-litellm-end-user-id",  # what clients of LiteLLM send
)
_LONGEST: Final = 512


def named(exchange: Exchange, request: Request) -> str | None:
    """The client's own name for its user; None where it gives none. Personal data: for `Pseudonyms` only."""
    fields = request.fields
    for field in FIELDS:
        if field in fields:
            value = msgspec.json.decode(fields[field])
            if isinstance(value, str) and value:
                return value
    headers = exchange.headers
    for name in HEADERS:
        if name in headers:
            text = headers[name].decode("latin-1").strip()[:_LONGEST]
            if text:
                return text
    return None
