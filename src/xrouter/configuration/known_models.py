"""What is known of vendors' models beside their prices, `models.toml`."""

import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

import msgspec

from xrouter.settings import ConfigError

_FILE = Path(__file__).with_name("models.toml")


class Known(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Facts of one model; None where nobody says."""

    context_tokens: int | None = None
    inputs: frozenset[str] | None = None


def known(kind: str, model: str) -> Known:
    """What is known of a kind's model by the vendor's own id."""
    return next((found for pattern, found in _read().get(kind, {}).items() if fnmatchcase(model, pattern)), Known())


@cache
def _read() -> Mapping[str, Mapping[str, Known]]:
    try:
        return msgspec.convert(tomllib.loads(_FILE.read_text(encoding="utf-8")), dict[str, dict[str, Known]])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"{_FILE.name}: {error}") from None
