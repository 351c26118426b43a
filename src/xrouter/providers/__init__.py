"""One file or folder per wire format, and rows of data for everybody who speaks OpenAI's.

`load(kind)` gives the maker of a provider. A kind is the name of a module here (`gigachat`) or of a row of
`openai_compatible.toml` (`tbank`). Nothing is registered: the file's name is the kind.
"""

import hashlib
import importlib
import pkgutil
from collections.abc import Mapping
from typing import Protocol, cast

from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.money import Price
from xrouter.core.ports import ChatProvider
from xrouter.core.secret import Secret
from xrouter.settings import ModelSettings, ProviderSettings, TimeoutSettings
from xrouter.transport import Transport


class ProviderKind(Protocol):
    """What a module here, or a row, offers."""

    def deployments(self, name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
        """One deployment per configured model, under the public id `name/model`. Raises `ConfigError`."""
        ...

    def connect(self, name: str, settings: ProviderSettings, http: Transport, clock: Clock) -> ChatProvider:
        """The provider itself. Does no I/O. Raises `ConfigError`."""
        ...


class _Rows(Protocol):
    """The module for everybody who speaks OpenAI's wire format."""

    def row_names(self) -> tuple[str, ...]: ...

    def row(self, name: str) -> ProviderKind: ...


def kinds() -> tuple[str, ...]:
    """Every name that `load` knows, sorted."""
    return tuple(sorted({*_modules(), *_rows().row_names()}))


def load(kind: str) -> ProviderKind:
    """The provider kind of that name; its module is imported now. Raises ValueError for an unknown one."""
    if kind in _rows().row_names():
        return _rows().row(kind)
    if kind in _modules():
        return cast(ProviderKind, importlib.import_module(f"{__name__}.{kind}"))
    raise ValueError(f"unknown provider kind {kind!r}; known kinds: {', '.join(kinds())}")


def _modules() -> tuple[str, ...]:
    return tuple(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))


def _rows() -> _Rows:
    return cast(_Rows, importlib.import_module(f"{__name__}.openai_compatible"))


def list_deployments(
    name: str,
    settings: ProviderSettings,
    *,
    kind: str,
    prices: Mapping[str, Price],
    max_concurrency: int,
) -> tuple[Deployment, ...]:
    """The deployments of one account. `prices` and `max_concurrency` are the kind's own defaults; what the
    operator wrote wins."""
    limit = max_concurrency if settings.max_concurrency is None else settings.max_concurrency
    return tuple(
        Deployment(
            id=f"{name}/{model.name}",
            provider=name,
            kind=kind,
            upstream_model=model.name,
            price=_price(model, prices),
            timeouts=_timeouts(model.timeouts or settings.timeouts),
            max_concurrency=limit,
            credential=_slot_name(name, kind, settings.api_key),
        )
        for model in settings.models
    )


def _price(model: ModelSettings, prices: Mapping[str, Price]) -> Price | None:
    if model.price is None:
        return prices.get(model.name)
    return Price(model.price.input_rub_per_1m, model.price.output_rub_per_1m, model.price.cached_rub_per_1m)


def _timeouts(limits: TimeoutSettings) -> Timeouts:
    return Timeouts(
        connect_s=limits.connect_s,
        first_s=limits.first_s,
        idle_s=limits.idle_s,
        total_s=limits.total_s,
        total_stream_s=limits.total_stream_s,
    )


def _slot_name(name: str, kind: str, api_key: Secret | None) -> str:
    """Two entries of the file with one key share the vendor's limit, so the name follows the key.

    64 bits of a keyed hash: nobody reads a random key out of it.
    """
    if not api_key:
        return name
    digest = hashlib.blake2b(api_key.reveal().encode(), digest_size=8, person=b"xrouter-slot")
    return f"{kind}-{digest.hexdigest()}"
