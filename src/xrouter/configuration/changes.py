"""Which changes of the configuration a running process can take over. Pure."""

from pathlib import Path

from pydantic import BaseModel

from xrouter.settings import FILE_ENDING, Config, ProviderSettings

TAKEN = ("api_key", "scope", "options", "models", "credentials", "max_waiting", "adaptive")
"""Settings of a provider that belong to no connection and to no other provider; `models` as long as their names and
their order stay, for their prices; `credentials` may come and go, if those that stay keep their certificates."""


def take(old: Config, new: Config) -> tuple[Config, list[str]]:
    """`old` with what can be taken over from `new`, and the places of what cannot."""
    left = [name for name in Config.model_fields if name != "providers" and getattr(old, name) != getattr(new, name)]
    left += [f"providers.{name}" for name in sorted(old.providers.keys() ^ new.providers.keys())]
    taken = dict(old.providers)
    for name in old.providers.keys() & new.providers.keys():
        taken[name], places = _provider(old.providers[name], new.providers[name])
        left += [f"providers.{name}.{place}" for place in places]
    return old.model_copy(update={"providers": taken}), left


def files_of(provider: ProviderSettings) -> frozenset[Path]:
    """The files that its options name: the kind reads them when it connects."""
    return frozenset(
        Path(value)
        for _, own in provider.each()
        for name, value in own.options.items()
        if name.endswith(FILE_ENDING) and isinstance(value, str)
    )


def _provider(old: ProviderSettings, new: ProviderSettings) -> tuple[ProviderSettings, list[str]]:
    differing = _differing(old, new)
    if "kind" in differing:
        return old, ["kind"]
    taken = [name for name in differing if name in TAKEN]
    if "models" in taken and [one.name for one in old.models] != [one.name for one in new.models]:
        taken.remove("models")
    if "credentials" in taken and _other_certificates(old, new):
        taken.remove("credentials")
    fresh = old.model_copy(update={name: getattr(new, name) for name in taken})
    return fresh, [name for name in differing if name not in taken]


def _differing(old: BaseModel, new: BaseModel) -> list[str]:
    return [name for name in type(old).model_fields if getattr(old, name) != getattr(new, name)]


def _other_certificates(old: ProviderSettings, new: ProviderSettings) -> bool:
    """Does a credential that stays have another certificate? It is shown by connections that stay, too."""
    before = {label: own.client_identity for label, own in old.each()}
    return any(label in before and before[label] != own.client_identity for label, own in new.each())
