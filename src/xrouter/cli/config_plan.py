"""`xrouter config plan`: what a file would change in what runs."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from xrouter.cli import config_files
from xrouter.cli.ask import ask
from xrouter.cli.requests import read_request
from xrouter.configuration.picture import Picture, revision
from xrouter.configuration.standing import left
from xrouter.core.clock import SystemClock
from xrouter.core.money import moscow_day
from xrouter.gateway.catalog import Catalog
from xrouter.replay import catalogue, difference
from xrouter.replay.difference import Change, Moved, Sample, Way
from xrouter.settings import ConfigError, Settings, load_settings

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_MOST_LETTERS = 160


@dataclass(frozen=True, slots=True)
class _Side:
    words: str
    picture: Picture
    catalog: Catalog


def plan(
    file: Annotated[
        Path | None, typer.Argument(help="The new file; XROUTER_CONFIG when left out.", show_default=False)
    ] = None,
    against: Annotated[Path | None, typer.Option(help="Compare with this file.", show_default=False)] = None,
    url: Annotated[
        str | None,
        typer.Option("--from", help="Compare with what the gateway at this URL serves.", show_default=False),
    ] = None,
    request: Annotated[
        list[Path] | None,
        typer.Option(help="A request body (JSON) whose way is compared, too.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Say what the file would change: in what is served, and in where requests go. Compares with what the gateway of
    this data directory served last. Exit code 0: nothing, 1: something, 2: the file cannot be used."""
    if against is not None and url is not None:
        raise ConfigError("--against and --from name two things to compare with; give one of them")
    settings = load_settings()
    new = _of_file(settings, file)
    old = _before(settings, against, url)
    changes = difference.changes(old.picture, new.picture)
    samples = difference.samples(old.catalog, new.catalog)
    samples += [Sample(path.name, *read_request(path)) for path in request or ()]
    moved = difference.moved(old.catalog, new.catalog, samples, SystemClock().now())
    if as_json:
        document = {
            "before": {"source": old.words, "revision": revision(old.picture)},
            "after": {"source": new.words, "revision": revision(new.picture)},
            "changes": [_shown(change) for change in changes],
            "requests": msgspec.to_builtins(moved),
        }
        typer.echo(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        typer.echo("\n".join(_told(old, new, changes, moved)))
    raise typer.Exit(1 if changes or moved else 0)


def _of_file(settings: Settings, file: Path | None) -> _Side:
    settings = config_files.with_file(settings, file)
    effective, deployments = config_files.read_all(settings)
    config = effective.config
    catalog, shown = catalogue.of_config(config, deployments, settings.default_model or config.default_model)
    return _Side(str(settings.config or "environment"), shown, catalog)


def _before(settings: Settings, against: Path | None, url: str | None) -> _Side:
    if against is not None:
        return _of_file(settings, against)
    if url is not None:
        return _of_picture(url, ask(url, "/admin/config")["serving"])
    try:
        found = left(settings.data_dir)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{settings.data_dir}: what is served cannot be read: {error}") from None
    if found is None:
        raise ConfigError(
            f"no gateway has served from the data directory {settings.data_dir} yet; name a file with --against, or a "
            "running gateway with --from"
        )
    return _of_picture(f"what {settings.data_dir} serves since {_time(found.since)}", found.serving)


def _of_picture(words: str, shown: Picture) -> _Side:
    return _Side(words, shown, catalogue.of_picture(shown))


def _time(moment: float) -> str:
    return f"{config_files.moment(moment):%Y-%m-%d %H:%M:%S} UTC"


def _shown(change: Change) -> dict[str, Any]:
    found = {"kind": change.kind, "place": change.place, "before": change.before, "after": change.after}
    missing = {"added": "before", "removed": "after"}.get(change.kind)
    return {name: value for name, value in found.items() if name != missing}


def _told(old: _Side, new: _Side, changes: list[Change], moved: list[Moved]) -> Iterator[str]:
    yield f"{old.words} -> {new.words}"
    if not changes and not moved:
        yield "nothing changes"
    for change in changes:
        yield f"  {_SIGNS[change.kind]} {change.place}{_what(change)}"
    if moved:
        yield "requests that go another way (while nobody is busy and nobody has failed):"
    for one in moved:
        yield f"  {one.sample}: {_way(one.before)} -> {_way(one.after)}"


def _what(change: Change) -> str:
    if change.kind == "added":
        return f": {_short(change.place, change.after)}"
    if change.kind == "removed":
        return ""
    return f": {_short(change.place, change.before)} -> {_short(change.place, change.after)}"


def _short(place: str, value: Any) -> str:
    if place.startswith("deployments.") and isinstance(value, dict):
        limits = [f"at once {value['max_concurrency']}"] if value["max_concurrency"] else []
        return ", ".join([_prices(value["prices"]), *limits])
    if place.endswith(".prices") and isinstance(value, list):
        return _prices(value)
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _MOST_LETTERS else f"{text[:_MOST_LETTERS]}…"


def _prices(prices: list[dict[str, Any]]) -> str:
    return "; ".join(_price(price) for price in prices) or "unpriced"


def _price(price: dict[str, Any]) -> str:
    """`65 / 65 RUB per 1M tokens from 2027-01-01`."""
    words = f"{price['input_rub_per_1m']} / {price['output_rub_per_1m']} RUB per 1M tokens"
    told = {"input_rub_per_1m", "output_rub_per_1m", "valid_from", "valid_to", "vat_percent"}
    words += "".join(f", {name} {value}" for name, value in price.items() if name not in told)
    if "valid_from" in price:
        words += f" from {moscow_day(price['valid_from'])}"
    if "valid_to" in price:
        words += f" until {moscow_day(price['valid_to'])}"
    return words


def _way(way: Way) -> str:
    if way.error is not None:
        return f"refused ({way.error[:_MOST_LETTERS]})"
    if way.shares:
        return ", ".join(f"{name} {share:.0%}" for name, share in way.shares.items())
    return ", ".join(way.order)
