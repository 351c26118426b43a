"""Built-in aliases: the names under which people know these models, `aliases.toml`."""

import tomllib
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

_FILE = Path(__file__).with_name("aliases.toml")
_FIRST = "*"


@cache
def known() -> Mapping[str, list[tuple[str, str]]]:
    """alias -> its targets (kind, model) in the order in which they are looked for."""
    return msgspec.convert(tomllib.loads(_FILE.read_text(encoding="utf-8")), dict[str, list[tuple[str, str]]])


def built_in(providers: object, taken: Iterable[str]) -> dict[str, list[str]]:
    """alias -> the one model id behind it, for every alias that has one and is not `taken`.

    `providers` is that part of the operator's file before it was checked: what is wrong in it is passed over.
    """
    served = [*_served(providers)]
    ids = {f"{name}/{model}" for name, _, model in served}
    found: dict[str, list[str]] = {}
    for alias, targets in known().items():
        if alias in taken or alias in ids:
            continue
        for kind, wanted in targets:
            fitting = [f"{name}/{model}" for name, its, model in served if its == kind and wanted in (model, _FIRST)]
            if fitting:
                found[alias] = fitting[:1]
                break
    return found


def _served(providers: object) -> Iterable[tuple[str, str, str]]:
    """Name of the provider, its kind, a model of its."""
    if not isinstance(providers, dict):
        return
    for name, provider in providers.items():
        models: Any = provider.get("models") if isinstance(provider, dict) else None
        if not isinstance(models, list):
            continue
        for model in models:
            given = model.get("name") if isinstance(model, dict) else model
            if isinstance(given, str):
                yield str(name), str(provider.get("kind", "openai_compatible")), given
