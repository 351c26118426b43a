"""What is served, as plain data without secrets: to be shown, compared, and named by a digest of it."""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from math import isfinite
from typing import Any, Final

import msgspec
from pydantic import BaseModel

from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.money import Price, price_text
from xrouter.core.secret import Secret
from xrouter.settings import Config

_USERINFO: Final = re.compile(r"://.*@", re.DOTALL)
_UNSAID: Final = frozenset({"price", "timeouts", "created", "key"})  # told otherwise, or no matter of the file

Picture = dict[str, Any]


def picture(config: Config, deployments: Iterable[Deployment], default_model: str | None) -> Picture:
    """`providers` with what is said of each, `deployments` as they come out of that by id (those of one id are
    numbered), and the file's other keys. `default_model` is the one in force. `replay/catalogue.py` makes a catalogue
    of it."""
    others = {name: plain(getattr(config, name)) for name in Config.model_fields if name != "providers"}
    return {
        "providers": {name: dict(said(provider, but="models")) for name, provider in config.providers.items()},
        "deployments": _by_id(deployments),
        **others,
        "default_model": default_model,
    }


def revision(shown: Picture) -> str:
    """Names what is served: the same for the same picture, on every node."""
    return hashlib.blake2b(msgspec.json.encode(shown, order="deterministic"), digest_size=8).hexdigest()


def said(model: BaseModel, but: str = "") -> Iterator[tuple[str, Any]]:
    """The fields that somebody has set, in plain form, without the one called `but`."""
    for name in sorted(model.model_fields_set - {but}):
        value = getattr(model, name)
        if name == "options":
            yield name, dict(_masked(value))
        elif name == "credentials":
            yield name, [dict(said(one)) for one in value]
        else:
            yield name, plain(value)


def _masked(options: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Options are plain text until their kind reads them: only words that cannot be a secret are shown."""
    for name, value in options.items():
        yield name, value if isinstance(value, bool | int | float) else "***"


def plain(value: Any) -> Any:
    """The value in the words of JSON; secrets as `***`."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, str):
        return _USERINFO.sub("://***@", value)
    if isinstance(value, BaseModel):
        return {name: plain(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Secret):
        return str(value)
    if isinstance(value, Mapping):
        return {str(plain(name)): plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, frozenset):
        return sorted(map(plain, value))
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _by_id(deployments: Iterable[Deployment]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in deployments:
        name, number = one.id, 1
        while name in found:
            number += 1
            name = f"{one.id} ({number})"
        found[name] = _deployment(one)
    return found


def _deployment(one: Deployment) -> dict[str, Any]:
    return {
        **{name: plain(getattr(one, name)) for name in Deployment.__dataclass_fields__ if name not in _UNSAID},
        "timeouts": {name: getattr(one.timeouts, name) for name in Timeouts.__dataclass_fields__},
        "prices": [*_prices(one.price)],
    }


def _prices(price: Price | None) -> Iterator[dict[str, Any]]:
    """The columns that each has, in roubles as text, and when it holds, in seconds since the epoch."""
    while price is not None:
        columns = {name: getattr(price, name) for name in Price.__dataclass_fields__ if name not in _NO_COLUMNS}
        shown: dict[str, Any] = {name: price_text(rub) for name, rub in columns.items() if rub is not None}
        if isfinite(price.valid_from):
            shown["valid_from"] = price.valid_from
        if isfinite(price.valid_to):
            shown["valid_to"] = price.valid_to
        yield shown
        price = price.following


_NO_COLUMNS: Final = frozenset({"valid_from", "valid_to", "following", "_whole"})
