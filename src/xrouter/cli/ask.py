"""What commands ask a running gateway."""

import json
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from xrouter.core.secret import Secret
from xrouter.settings import ConfigError, environment

_TIMEOUT_S = 10.0
KEY = "XROUTER_KEY"
"""The variable with the API key for it; XROUTER_BOOTSTRAP_KEY where that is not set."""


def ask(url: str, path: str) -> Any:
    """The JSON answer of `GET url + path`. Raises `ConfigError` in words."""
    found = environment(KEY) or environment("XROUTER_BOOTSTRAP_KEY")
    if not found:
        raise ConfigError(f"to ask {url}, put an API key into {KEY}")
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"{url}: must begin with https:// or http://")
    request = Request(f"{url.rstrip('/')}{path}", headers={"Authorization": f"Bearer {Secret(found).reveal()}"})  # noqa: S310
    try:
        with urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310  # nosec B310 - the scheme is checked above
            return json.load(answer)
    except HTTPError as error:
        raise ConfigError(f"{url}{path} answers {error.code}: {_words(error)}") from None
    except (URLError, OSError, ValueError) as error:
        raise ConfigError(f"{url}{path} cannot be asked: {error}") from None


def _words(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return error.reason
