"""A request out of a file: a JSON body as a client would send it."""

from pathlib import Path
from typing import NamedTuple

from xrouter.core.call import Request
from xrouter.core.errors import GatewayError
from xrouter.core.preferences import Preferences
from xrouter.dialects.openrouter import chat_request
from xrouter.settings import ConfigError


class Written(NamedTuple):
    """A request, and its wishes for the route."""

    request: Request
    preferences: Preferences | None


def read_request(path: Path) -> Written:
    """A chat as for `/v1/chat/completions` or `/api/v1/chat/completions`. Raises `ConfigError` in words."""
    try:
        request, preferences, _ = chat_request.parse(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except GatewayError as error:
        raise ConfigError(f"{path}: {error.message}") from None
    return Written(request, preferences)
