"""One file or folder per wire format, and rows of data for everybody who speaks OpenAI's.

`load(kind)` gives the maker of a provider. A kind is the name of a module here (`gigachat`) or of a row of
`openai_compatible.toml` (`tbank`). Nothing is registered: the file's name is the kind.
"""

import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from difflib import get_close_matches
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast, get_args
from urllib.parse import urlsplit

import msgspec

from xrouter.configuration.known_models import known
from xrouter.configuration.prices import catalogue
from xrouter.core.clock import Clock
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.money import Price
from xrouter.core.operation import Operation
from xrouter.core.ports import ChatProvider
from xrouter.core.secret import Secret
from xrouter.settings import (
    FILE_ENDING,
    ConfigError,
    ModelSettings,
    ProviderSettings,
    TimeoutSettings,
    price_over_time,
    read_secret_file,
)
from xrouter.transport import Transport
from xrouter.transport.guard import ForbiddenAddress, check_url

_Table = TypeVar("_Table", bound=msgspec.Struct)
_CHAT = frozenset({Operation.CHAT})


class ProviderKind(Protocol):
    """What a module here, or a row, offers."""

    def deployments(self, name: str, settings: ProviderSettings) -> tuple[Deployment, ...]:
        """One deployment per configured model, under the public id `name/model`. Raises `ConfigError`.

        `name` is the account's name in the operator's file.
        """
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
    near = get_close_matches(kind, kinds(), 1)
    guess = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown provider kind {kind!r}; known kinds: {', '.join(kinds())}{guess}")


def _modules() -> tuple[str, ...]:
    return tuple(found.name for found in pkgutil.iter_modules(__path__) if not found.name.startswith("_"))


def _rows() -> _Rows:
    return cast(_Rows, importlib.import_module(f"{__name__}.openai_compatible"))


class NoOptions(msgspec.Struct):
    """For kinds without settings of their own."""


def read_options(name: str, settings: ProviderSettings, options: type[_Table]) -> _Table:
    """The account's `options` as the kind's own struct; a field of type `Secret` reads text.

    Raises `ConfigError`, also for an option that the struct does not have.
    """
    return read_table(settings.options, options, f"providers.{name}.options", ".")


def read_model_options(name: str, model: ModelSettings, options: type[_Table]) -> _Table:
    """The same for one model's `options`."""
    return read_table(model.options, options, f"providers.{name}.models.{model.name}.options", ".")


def read_table(table: Mapping[str, Any], struct: type[_Table], place: str, joint: str) -> _Table:
    """Plain data as a struct. Raises `ConfigError` that names `place` + `joint` + field, and says what is wrong."""
    fields = {field.encode_name: field.type for field in msgspec.structs.fields(struct)}
    table = _secrets_from_files(table, struct, list(fields), place, joint)
    problems = []
    for name, value in table.items():
        if name not in fields:
            near = get_close_matches(name, fields, 1)
            guess = f"; did you mean {near[0]!r}?" if near else ""
            problems.append(f"{place}{joint}{name}: is not a known key{guess}")
            continue
        try:
            msgspec.convert(value, fields[name], dec_hook=_decode)
        except msgspec.ValidationError as error:
            what, _, where = str(error).partition(" - at `$")
            problems.append(f"{place}{joint}{name}{where.rstrip('`')}: {what[:1].lower()}{what[1:]}")
    if problems:
        raise ConfigError("\n".join(problems))
    try:
        return msgspec.convert(table, struct, dec_hook=_decode)
    except msgspec.ValidationError as error:  # a field that is missing
        words = str(error)
        raise ConfigError(f"{place}: {words[:1].lower()}{words[1:]}") from None


def check_all(*checks: Callable[[], object]) -> None:
    """Makes every check, though some raise `ConfigError`; raises one that holds the words of all."""
    problems: list[str] = []
    for check in checks:
        try:
            check()
        except ConfigError as error:
            problems += str(error).splitlines()
    if problems:
        raise ConfigError("\n".join(dict.fromkeys(problems)))


def _secrets_from_files(
    table: Mapping[str, Any], struct: type[msgspec.Struct], known: list[str], place: str, joint: str
) -> Mapping[str, Any]:
    """`token_file: PATH` becomes `token` with what stands in the file, where `token` is a `Secret`."""
    found = dict(table)
    for field in msgspec.structs.fields(struct):
        name = field.encode_name + FILE_ENDING
        if name not in table or name in known or Secret not in (field.type, *get_args(field.type)):
            continue
        if field.encode_name in table:
            raise ConfigError(f"{place}{joint}{name}: {field.encode_name} is given, too; keep one of them")
        try:
            found[field.encode_name] = read_secret_file(Path(str(found.pop(name))))
        except ValueError as error:
            raise ConfigError(f"{place}{joint}{name}: {error}") from None
    return found


def _decode(kind: type, value: Any) -> Any:
    if kind is Secret and isinstance(value, str):
        return Secret(value)
    raise NotImplementedError


def upstream_url(name: str, settings: ProviderSettings, default: str = "", *, field: str = "base_url") -> str:
    """The account's `base_url` (or another URL of its settings), else the kind's default; no slash at its end.

    Raises `ConfigError` where there is none, and for one that may never be dialled: better at start than at the
    first call. An address or `localhost` is taken where the operator has written it himself, not from a default.
    """
    written: str | None = getattr(settings, field)
    url = written or default
    if not url:
        raise ConfigError(f"providers.{name}.{field}: {settings.kind} has no address of its own; say where it runs")
    try:
        check_url(
            url,
            allow_private=settings.allow_private,
            trusted_hosts=frozenset({host} if written and (host := own_host(written)) else ()),
        )
    except ForbiddenAddress as error:
        raise ConfigError(f"providers.{name}.{field}: {error}") from None
    if settings.proxy and url.lower().startswith("http://"):
        raise ConfigError(f"providers.{name}.{field}: http would pass the proxy in clear; use https")
    url = url.rstrip("/")
    noted = _noted.get()
    if noted is not None:
        noted.append(url)
    return url


_noted: ContextVar[list[str] | None] = ContextVar("noted", default=None)


def connect_and_note(
    name: str, settings: ProviderSettings, http: Transport, clock: Clock
) -> tuple[ChatProvider, list[str]]:
    """The provider, and the addresses that its kind has settled on (the written ones, else its own): whoever looks
    for the reason of a failure must know them. Raises as `load` and `connect` do."""
    noted: list[str] = []
    token = _noted.set(noted)
    try:
        provider = load(settings.kind).connect(name, settings, http, clock)
    finally:
        _noted.reset(token)
    return provider, list(dict.fromkeys(noted))


def own_host(url: str) -> str | None:
    """The host of a URL in the operator's own file, when it is an address or localhost: whoever writes
    `10.0.0.7` down means it, and no name server can change it."""
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return host
    try:
        ip_address(host)
    except ValueError:
        return None
    return host


def list_deployments(
    name: str,
    settings: ProviderSettings,
    *,
    kind: str,
    max_concurrency: int,
    options: type[msgspec.Struct] = NoOptions,
    model_options: type[msgspec.Struct] = NoOptions,
    serves: Callable[[str], frozenset[Operation]] = lambda _model: _CHAT,
    listed_as: Callable[[str], str] = lambda model: model,
    one_choice: bool = False,
    one_input: bool = False,
    parameters: Callable[[ModelSettings], frozenset[str]] = lambda _model: frozenset(),
    sees: Callable[[str], bool] = lambda _model: False,
    prefill: Callable[[str], bool] = lambda _model: False,
) -> tuple[Deployment, ...]:
    """The deployments of one account. `max_concurrency` is the kind's own default; prices are those of the catalogue
    (`configuration/prices.toml`), where a model stands under `listed_as(its name)`. What the operator wrote wins over
    both. `options` and `model_options` are the structs that the kind reads its own settings with. `serves` says what
    a model can do by its name, `sees` whether it takes pictures; `one_choice`, `one_input`, `parameters` and
    `prefill` as in `Deployment`."""
    built_in = catalogue(kind)
    prices: dict[str, Price | None] = {}

    def check_model(number: int, model: ModelSettings) -> None:
        serves_all = model.serves or serves(model.name)
        price = built_in.get(listed_as(model.name))
        prices[model.name] = _price(f"providers.{name}.models.{number}", model, serves_all, price)

    check_all(
        lambda: read_options(name, settings, options),
        *(partial(read_model_options, name, model, model_options) for model in settings.models),
        *(partial(check_model, number, model) for number, model in enumerate(settings.models)),
    )
    limit = max_concurrency if settings.max_concurrency is None else settings.max_concurrency
    facts = {model.name: known(kind, listed_as(model.name)) for model in settings.models}
    return tuple(
        Deployment(
            id=f"{name}/{model.name}",
            provider=name,
            kind=kind,
            upstream_model=model.name,
            price=prices[model.name],
            timeouts=_timeouts(model.timeouts or settings.timeouts),
            max_concurrency=limit,
            credential=_slot_name(name, kind, settings.api_key),
            max_waiting=settings.max_waiting,
            adaptive=settings.adaptive,
            start_concurrency=settings.start_concurrency or 0,
            serves=model.serves or serves(model.name),
            one_choice=one_choice,
            one_input=one_input,
            parameters=parameters(model) if Operation.CHAT in (model.serves or serves(model.name)) else frozenset(),
            inputs=model.inputs
            or facts[model.name].inputs
            or frozenset({"text", "image"} if sees(model.name) else {"text"}),
            context_tokens=model.context_tokens or facts[model.name].context_tokens,
            region=model.region or settings.region,
            tags=settings.tags | model.tags,
            inputs_known=bool(model.inputs or facts[model.name].inputs),
            base_url=settings.base_url or "",
            prefill=prefill(model.name),
        )
        for model in settings.models
    )


def _price(place: str, model: ModelSettings, serves: frozenset[Operation], built_in: Price | None) -> Price | None:
    if model.price is None:
        return built_in
    if Operation.CHAT in serves and not all(one.prices_output for one in model.price):
        raise ConfigError(f"{place}.price: {model.name} chats, so it needs output_rub_per_1m (or output_rub_per_1k)")
    return price_over_time(model.price)


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
