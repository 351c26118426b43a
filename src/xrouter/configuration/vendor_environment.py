"""Providers out of the vendors' own environment names: `vendor_environment.toml`. For `xrouter serve` only."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from xrouter.settings import environment, secret_path

_FILE = Path(__file__).with_name("vendor_environment.toml")
_OPTIONS = "options."


class Vendor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of the file; its head explains the fields."""

    kind: str
    settings: dict[str, list[str]]
    needs: list[list[str]]
    choice: str
    models: list[str]
    form: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Found:
    """What the environment gives. `providers` are as they would stand in the operator's file, `sources` the variables
    of each, `files` those that hold secrets, and `hints` say what is missing for a vendor that is half there."""

    providers: Mapping[str, dict[str, Any]]
    sources: Mapping[str, tuple[str, ...]]
    files: tuple[Path, ...]
    hints: tuple[str, ...]


@cache
def vendors() -> Mapping[str, Vendor]:
    """All tables by name."""
    return msgspec.convert(tomllib.loads(_FILE.read_text(encoding="utf-8")), dict[str, Vendor])


def variables() -> tuple[str, ...]:
    """Every variable that is looked at, sorted, without its `_FILE` form."""
    found = {name for vendor in vendors().values() for names in vendor.settings.values() for name in names}
    return tuple(sorted(found | {vendor.choice for vendor in vendors().values()}))


def credentials() -> tuple[str, ...]:
    """For each vendor the variable of its key, in the file's order: what an operator would set."""
    return tuple(vendor.settings["api_key"][0] for vendor in vendors().values())


def look(names: Collection[str], kinds: Collection[str]) -> Found:
    """The vendors whose login is in the environment; `names` and `kinds` of providers are taken already.

    Raises ValueError for a variable that is there twice (`NAME` and `NAME_FILE`) or whose file cannot be read.
    """
    providers: dict[str, dict[str, Any]] = {}
    sources: dict[str, tuple[str, ...]] = {}
    files: list[Path] = []
    hints: list[str] = []
    for name, vendor in vendors().items():
        if name in names or vendor.kind in kinds:
            continue
        given = _given(vendor)
        missing = _missing(vendor, given)
        if missing is None:
            providers[name] = _provider(vendor, given)
            sources[name] = tuple(dict.fromkeys(variable for variable, _ in given.values()))
            files += [path for variable in sources[name] if (path := secret_path(variable))]
        elif missing:
            there = ", ".join(dict.fromkeys(variable for variable, _ in given.values()))
            hints.append(f"{there} is set, but for a provider {name!r} it takes {missing}, too")
    return Found(providers, sources, tuple(files), tuple(hints))


def _given(vendor: Vendor) -> dict[str, tuple[str, Any]]:
    """setting -> variable and value."""
    given: dict[str, tuple[str, Any]] = {}
    for setting, names in vendor.settings.items():
        for variable in names:
            value = environment(variable)
            if value and value.strip():
                given[setting] = variable, vendor.form.get(variable, "{}").format(value.strip())
                break
    chosen = [part.strip() for part in (environment(vendor.choice) or "").split(",") if part.strip()]
    if chosen:
        given["models"] = vendor.choice, chosen
    return given


def _missing(vendor: Vendor, given: Mapping[str, object]) -> str | None:
    """None where everything needed is there; else the variables that are missing, empty where no credential is."""
    ways = [[setting for setting in way if setting not in given] for way in vendor.needs]
    if not all(ways):
        return None
    begun = [left for way, left in zip(vendor.needs, ways, strict=True) if way[0] in given]
    if not begun:
        return ""
    names = [vendor.choice if one == "models" else " or ".join(vendor.settings[one]) for one in min(begun, key=len)]
    return " and ".join(names)


def _provider(vendor: Vendor, given: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    provider: dict[str, Any] = {"kind": vendor.kind, "models": vendor.models}
    options: dict[str, Any] = {}
    for setting, (_, value) in given.items():
        if setting.startswith(_OPTIONS):
            options[setting.removeprefix(_OPTIONS)] = value
        else:
            provider[setting] = value
    return provider | ({"options": options} if options else {})
