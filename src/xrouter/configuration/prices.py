"""The built-in price catalogue, `prices.toml`."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from xrouter.core.money import Price
from xrouter.settings import ConfigError, ModelSettings, in_words, price_over_time

_FILE = Path(__file__).with_name("prices.toml")


def catalogue(kind: str) -> Mapping[str, Price]:
    """The built-in prices of a kind by the vendor's own model id; empty for a kind without any."""
    return _read().get(kind, {})


@cache
def _read() -> Mapping[str, Mapping[str, Price]]:
    return parse_catalogue(_FILE.read_text(encoding="utf-8"))


def parse_catalogue(text: str) -> Mapping[str, Mapping[str, Price]]:
    """kind -> model -> price over time, out of TOML text. Raises `ConfigError` that names the place."""
    try:
        tables = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{_FILE.name}: is not TOML: {error}") from None
    return {
        kind: {model: found for model, given in table.items() if (found := _price(kind, model, given)) is not None}
        for kind, table in tables.items()
    }


def _price(kind: str, model: str, given: object) -> Price | None:
    try:
        price = ModelSettings.model_validate({"name": model, "price": given}).price
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{_FILE.name}: [{kind}] {model}: {place}: {in_words(first)}") from None
    return price_over_time(price or [])
