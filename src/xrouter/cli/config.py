"""`xrouter config`: check the operator's file, say what is in force and where it comes from, print the JSON Schema."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from pydantic import BaseModel

from xrouter.cli import config_plan
from xrouter.cli.config_files import read_all, with_file
from xrouter.configuration import schema as json_schema
from xrouter.configuration.effective import BUILT_IN, Effective
from xrouter.configuration.picture import plain, said
from xrouter.core.clock import SystemClock
from xrouter.core.deployment import Deployment
from xrouter.core.money import Price, moscow_day, pricing
from xrouter.settings import Settings, load_settings, unknown_variables

app = typer.Typer(help="The configuration.", no_args_is_help=True)
app.command("plan")(config_plan.plan)

_File = Annotated[Path | None, typer.Argument(help="The file; XROUTER_CONFIG when left out.", show_default=False)]


@app.command("check")
def check_config(file: _File = None) -> None:
    """Check the file and the settings; every mistake with its place and its mend. Exit code 2 when there is one."""
    effective, deployments = read_all(with_file(load_settings(), file))
    for hint in (*unknown_variables(), *effective.hints):
        typer.echo(f"xrouter: {hint}", err=True)
    names, models = len(effective.config.providers), len({one.id for one in deployments})
    typer.echo(
        f"good: {names} providers, {models} models, {len(effective.config.aliases)} aliases"
        + (f", {len(effective.config.routes)} routes" if effective.config.routes else "")
    )


@app.command()
def explain(file: _File = None) -> None:
    """Say what is in force: each object with its owner and source, prices of now, aliases, defaults, and slots.
    Secrets are masked."""
    settings = with_file(load_settings(), file)
    effective, deployments = read_all(settings)
    typer.echo(
        yaml.safe_dump(_explained(settings, effective, deployments), sort_keys=False, allow_unicode=True), nl=False
    )


@app.command("schema")
def print_schema() -> None:
    """Print the JSON Schema of xrouter.yaml."""
    typer.echo(json_schema.text(), nl=False)


def _explained(settings: Settings, effective: Effective, deployments: list[Deployment]) -> dict[str, Any]:
    config = effective.config
    return {
        "settings": {name: _setting(settings, name) for name in type(settings).model_fields},
        "providers": {
            name: {
                "owner": _owner(effective.sources[f"providers.{name}"]),
                "source": effective.sources[f"providers.{name}"],
                "settings": dict(said(provider, but="models")),
                "slots": _slots(name, deployments),
                "models": {one.id: _model(one) for one in deployments if one.provider == name},
            }
            for name, provider in config.providers.items()
        },
        "aliases": {
            name: {
                "owner": _owner(effective.sources[f"aliases.{name}"]),
                "source": effective.sources[f"aliases.{name}"],
                "models": targets,
            }
            for name, targets in config.aliases.items()
        },
        "routes": {
            name: {"owner": "the file", "source": effective.sources[f"routes.{name}"], **_plain_route(route)}
            for name, route in config.routes.items()
        },
        "routing": _plain_route(config.routing),
        "defaults": {
            "model": settings.default_model or config.default_model,
            **{operation.value: name for operation, name in config.default_models.items()},
        },
        "keys": {"owner": "the database", "source": "`xrouter keys`, /admin/keys"},
    }


def _plain_route(settings: BaseModel) -> dict[str, Any]:
    shown: dict[str, Any] = settings.model_dump(mode="json", exclude_unset=True)
    return shown


def _owner(source: str) -> str:
    if source == BUILT_IN:
        return "xrouter"
    return "the environment" if source.startswith("environment") else "the file"


def _setting(settings: Settings, name: str) -> dict[str, Any]:
    source = f"environment (XROUTER_{name.upper()})" if name in settings.model_fields_set else BUILT_IN
    return {"value": plain(getattr(settings, name)), "source": source}


def _slots(name: str, deployments: list[Deployment]) -> Any:
    """For each account, where there are several."""
    each = {one.account: _slots_of(one.account, name, deployments) for one in deployments if one.provider == name}
    return each if len(each) > 1 else next(iter(each.values()))


def _slots_of(account: str, name: str, deployments: list[Deployment]) -> dict[str, Any]:
    own = [one for one in deployments if (one.provider, one.account) == (name, account)]
    limits, names = {one.max_concurrency for one in own}, {one.credential for one in own}
    return {"name": ", ".join(sorted(names)), "at_once": max(limits) or "unlimited"}


def _model(deployment: Deployment) -> dict[str, Any]:
    price, now = deployment.price, SystemClock().now()
    shown: dict[str, Any] = {
        "serves": sorted(operation.value for operation in deployment.serves),
        "price": pricing(None if price is None else price.at(now)),
    }
    if later := [*_later(price, now)]:
        shown["later"] = later
    return shown


def _later(price: Price | None, now: float) -> Iterator[dict[str, Any]]:
    """The prices that are not in force yet."""
    while price is not None:
        if price.valid_from > now:
            yield {"valid_from": moscow_day(price.valid_from).isoformat(), **pricing(price)}
        price = price.following
