"""A catalogue out of the operator's file, and out of a picture of what was served once."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

import msgspec

from xrouter.configuration.picture import Picture, picture, revision
from xrouter.core.deployment import Deployment
from xrouter.core.money import Price, in_order
from xrouter.gateway import catalog
from xrouter.gateway.catalog import Catalog
from xrouter.settings import Config, ConfigError, parse_config
from xrouter.simulators import faults

_TIMES: Final = frozenset({"valid_from", "valid_to"})


def of_config(
    config: Config, deployments: Iterable[Deployment], default_model: str | None, created: int = 0
) -> tuple[Catalog, Picture]:
    """What is served, for the pipeline and for people. `default_model` is the one in force, `created` since when the
    models are what they are, as clients are told. Raises `ConfigError`."""
    found = [replace(one, created=created) for one in deployments]
    try:
        built = catalog.build(
            found,
            config.aliases,
            default_model,
            default_models=config.default_models,
            simulated=config.simulated,
            fault_hint=faults.hint,
            policies={name: route.policy(config.routing) for name, route in config.routes.items()},
            usual=config.routing.policy(),
        )
    except ValueError as error:
        raise ConfigError(str(error)) from error
    shown = picture(config, found, default_model)
    return replace(built, revision=revision(shown)), shown


def of_picture(shown: Mapping[str, Any]) -> Catalog:
    """The same catalogue, made of its picture. Raises `ConfigError` for one that this release cannot read."""
    try:
        deployments = [_deployment(one) for one in shown["deployments"].values()]
        others = {name: value for name, value in shown.items() if name not in ("providers", "deployments")}
        models: dict[tuple[str, str], dict[str, None]] = {}
        for one in deployments:
            models.setdefault((one.provider, one.kind), {})[one.upstream_model] = None
        accounts = {name: {"kind": kind, "models": [*known]} for (name, kind), known in models.items()}
        config = parse_config({"providers": accounts, **others, "default_model": None}, "configuration")
        built, _ = of_config(config, deployments, shown["default_model"])
    except (KeyError, TypeError, ValueError, msgspec.ValidationError) as error:
        raise ConfigError(f"this configuration cannot be read again: {error}") from None
    return replace(built, revision=revision(dict(shown)))


def _deployment(fields: Mapping[str, Any]) -> Deployment:
    said = {name: value for name, value in fields.items() if name != "prices"}
    return replace(msgspec.convert(said, Deployment), price=in_order(map(_price, fields["prices"])))


def _price(columns: Mapping[str, Any]) -> Price:
    found: dict[str, Any] = {name: value if name in _TIMES else Decimal(value) for name, value in columns.items()}
    return Price(**found)
