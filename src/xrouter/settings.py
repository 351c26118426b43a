"""Every setting, typed, with its reason. The only reader of the environment and of configuration files.

`Settings` come from environment variables named `XROUTER_*`. `Config` is the operator's `xrouter.yaml`:
providers, their models and prices, aliases. `${NAME}` in the file stands for an environment variable. Every secret
may stand in a file of its own: `api_key_file: PATH` for `api_key`, `XROUTER_PEPPER_FILE`, `NAME_FILE` for `${NAME}`.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from math import inf
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args
from urllib.parse import urlsplit

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from xrouter.core.deployment import Timeouts
from xrouter.core.money import VAT_PERCENT, Price, in_order, moscow_midnight
from xrouter.core.operation import Operation
from xrouter.core.secret import Secret


class ConfigError(Exception):
    """The configuration cannot be used. The message names the file, the place and the mend."""


class SecretText(Secret):
    """`Secret` as pydantic reads it from text; it serialises as `***`."""

    __slots__ = ()

    @classmethod
    def _read(cls, value: object) -> "SecretText":
        if isinstance(value, SecretText):
            return value
        if not isinstance(value, str):
            raise ValueError("must be text")  # noqa: TRY004 - pydantic collects ValueError only
        return cls(value.strip())

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._read, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string"}


def _commas(value: object) -> object:
    """`a, b` from the environment as ["a", "b"]."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


_CommaList = Annotated[list[str], NoDecode, BeforeValidator(_commas)]


def _strong_key(value: SecretText | None) -> SecretText | None:
    if value is not None:
        text = value.reveal()
        if len(text) < 32 or not all("!" <= char <= "~" for char in text):
            raise ValueError(
                "needs 32 or more visible ASCII characters without spaces; `openssl rand -hex 32` makes a good one"
            )
    return value


class Settings(BaseSettings):
    """How this process runs. Each field is the variable `XROUTER_<FIELD>`."""

    model_config = SettingsConfigDict(env_prefix="XROUTER_", extra="ignore", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 takes a free one and prints it.")
    data_dir: Path = Field(
        Path(".xrouter"), description="Database, journal, pepper. Must survive restarts; not shared between hosts."
    )
    config: Path | None = Field(None, description="The operator's xrouter.yaml.")
    bootstrap_key: Annotated[SecretText | None, AfterValidator(_strong_key)] = Field(
        None, description="The first admin key: 32 or more visible ASCII characters."
    )
    default_model: str | None = Field(
        None, description="Serves requests whose model is unknown. Unset: a 404 that lists near names."
    )
    database_url: SecretText | None = Field(
        None,
        description="`postgresql://user:password@host/name`, also with libpq's `sslmode` and several hosts, or "
        "`sqlite:////path`; default is SQLite in the data directory.",
    )
    redis_url: SecretText | None = Field(
        None,
        description="Redis (`redis://`, `rediss://`, `unix://`), over which several nodes count limits together and "
        "hear of changes at once (docs/limits.md). Unset: each host for itself.",
    )
    limits_share: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Only while Redis is away: the part of each limit that this host (data directory) gives out by "
        "itself, such as 0.33. All hosts together should be at most 1. Unset, which is right for most: one over the "
        "number of nodes that were last seen (docs/limits.md).",
    )
    pepper: Annotated[SecretText | None, AfterValidator(_strong_key)] = Field(
        None,
        description="Secret under the key digests, the same on all nodes: 32 or more visible ASCII characters. "
        "Default is a file in the data directory.",
    )
    workers: int = Field(
        1, ge=1, le=64, description="Processes that serve; above 1 a supervisor owns flushing and restarts."
    )
    allowed_hosts: _CommaList = Field(
        default_factory=list,
        description="Host names clients may use, comma-separated, `*.example.com` included. Empty: any well-formed.",
    )
    trusted_proxies: int = Field(
        0, ge=0, le=8, description="How many proxies in front append to X-Forwarded-For; 0 trusts none."
    )
    max_body_bytes: int = Field(20 * 1024 * 1024, ge=1024, description="Largest request body.")
    max_header_bytes: int = Field(32 * 1024, ge=1024, description="Largest sum of request header bytes.")
    body_timeout_s: float = Field(30.0, gt=0, description="A client must send its body within this time.")
    write_timeout_s: float = Field(30.0, gt=0, description="A client that does not read for this long is cut off.")
    max_in_flight: int = Field(10_000, ge=1, description="Calls one worker serves at once; more get 503 at once.")
    status_wait_s: float = Field(
        10.0,
        gt=0,
        description="A stream waits this long for its first event, then it sends 200: a later failure is in band.",
    )
    ping_s: float = Field(10.0, gt=0, description="A stream that is silent for this long sends a comment.")
    flush_interval_s: float = Field(0.2, gt=0, description="Pause between two moves from the journal to the database.")
    key_refresh_s: float = Field(1.0, gt=0, description="How often changed keys are read again from the database.")
    drain_delay_s: float = Field(
        5.0, ge=0, description="After SIGTERM: not ready but still accepting, so that load balancers notice."
    )
    drain_max_s: float = Field(
        60.0, ge=0, description="After that: how long running calls may finish before they get an error."
    )
    vendor_environment: bool = Field(
        True,
        description="`xrouter serve` adds a provider for each vendor whose own variables it finds (docs/cli.md).",
    )
    reload_s: float = Field(
        5.0, gt=0, description="How often `xrouter serve` looks whether its file or a file with a secret has changed."
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ] = Field("info", description="From which level on log lines are written.")

    @property
    def database(self) -> SecretText:
        """The database URL with its default filled in."""
        return self.database_url or SecretText(f"sqlite:///{self.data_dir.absolute() / 'xrouter.db'}")


FILE_ENDING = "_file"
"""`api_key_file` names the file that holds `api_key`."""

_MOST_SECRET_BYTES = 64 * 1024


def secret_fields(model: type[BaseModel]) -> tuple[str, ...]:
    """The fields that hold a secret: each of them may stand in a file of its own."""
    return tuple(
        name
        for name, known in model.model_fields.items()
        if SecretText in (known.annotation, *get_args(known.annotation))
    )


def read_secret_file(path: Path) -> str:
    """The secret in a file, without the line end that editors add. Raises ValueError in words."""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_SECRET_BYTES + 1).decode().strip()
    except OSError as error:
        raise ValueError(f"the file {path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"the file {path} is not UTF-8 text") from None
    if not text:
        raise ValueError(f"the file {path} is empty")
    if len(text) > _MOST_SECRET_BYTES:
        raise ValueError(f"the file {path} is too large for a secret")
    return text


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, data: Any) -> Any:
        """`api_key_file: PATH` becomes `api_key` with what stands in the file."""
        if not isinstance(data, dict):
            return data
        found = dict(data)
        for name in secret_fields(cls):
            path = found.pop(name + FILE_ENDING, None)
            if path is None:
                continue
            if name in found:
                raise ValueError(f"{name} and {name}{FILE_ENDING} are given; keep one of them")
            if not isinstance(path, str | Path):
                raise ValueError(f"{name}{FILE_ENDING} must be a path")  # noqa: TRY004 - pydantic collects ValueError
            try:
                found[name] = read_secret_file(Path(path))
            except ValueError as error:
                raise ValueError(f"{name}{FILE_ENDING}: {error}") from None
        return found


_USUAL = Timeouts()


class TimeoutSettings(_Strict):
    """Limits of one provider, seconds. Unset ones keep their defaults."""

    connect_s: float = Field(_USUAL.connect_s, gt=0)
    first_s: float = Field(_USUAL.first_s, gt=0)
    idle_s: float = Field(_USUAL.idle_s, gt=0)
    total_s: float = Field(_USUAL.total_s, gt=0)
    total_stream_s: float = Field(_USUAL.total_stream_s, gt=0)


_Rub = Annotated[Decimal, Field(ge=0, le=10**9, decimal_places=12)]
UNPRICED = "unpriced"
_COLUMNS = ("input", "output", "cached", "tool", "batch_input", "batch_output")


class PriceSettings(_Strict):
    """What a model costs, in roubles. Each column is given for a million or for a thousand tokens. A model whose
    price changes has a list of them."""

    input_rub_per_1m: _Rub | None = Field(None, description="Prompt.")
    input_rub_per_1k: _Rub | None = None
    output_rub_per_1m: _Rub | None = Field(None, description="Answer. Needed for chat.")
    output_rub_per_1k: _Rub | None = None
    cached_rub_per_1m: _Rub | None = Field(None, description="Part of the prompt that the vendor had. Unset: as input.")
    cached_rub_per_1k: _Rub | None = None
    tool_rub_per_1m: _Rub | None = Field(None, description="Part of the prompt that tools take. Unset: as input.")
    tool_rub_per_1k: _Rub | None = None
    batch_input_rub_per_1m: _Rub | None = Field(None, description="Prompt in a batch. Unset: as input.")
    batch_input_rub_per_1k: _Rub | None = None
    batch_output_rub_per_1m: _Rub | None = Field(None, description="Answer in a batch. Unset: as output.")
    batch_output_rub_per_1k: _Rub | None = None
    image_rub: _Rub | None = Field(None, description="One picture.")
    currency: Literal["RUB"] = "RUB"
    vat: Literal["included", "excluded"] = Field("included", description="Whether the figures hold the tax.")
    vat_percent: Annotated[Decimal, Field(ge=0, lt=100, decimal_places=4)] = Field(
        VAT_PERCENT, description="Its rate. What we count and show always includes it."
    )
    valid_from: date | None = Field(None, description="First day in force (Moscow). Unset: since ever.")
    valid_to: date | None = Field(None, description="Last day in force (Moscow). Unset: until further notice.")

    @model_validator(mode="after")
    def _is_a_price(self) -> Self:
        for column in _COLUMNS:
            if self._given(column, "1m") is not None and self._given(column, "1k") is not None:
                raise ValueError(f"{column} is given per 1k and per 1m; keep one of them")
        if self._rub("input") is None and self.image_rub is None:
            raise ValueError("needs input_rub_per_1m (or input_rub_per_1k) or image_rub; for none write `unpriced`")
        if self.valid_from and self.valid_to and self.valid_to < self.valid_from:
            raise ValueError("valid_to is before valid_from")
        return self

    def _given(self, column: str, unit: str) -> Decimal | None:
        found: Decimal | None = getattr(self, f"{column}_rub_per_{unit}")
        return found

    def _rub(self, column: str) -> Decimal | None:
        """One column per million tokens, VAT included."""
        per_1k = self._given(column, "1k")
        return self._with_tax(self._given(column, "1m") if per_1k is None else per_1k * 1000)

    def _with_tax(self, rub: Decimal | None) -> Decimal | None:
        if rub is None or self.vat == "included":
            return rub
        return rub * (100 + self.vat_percent) / 100

    @property
    def prices_output(self) -> bool:
        """Whether it says what an answer costs."""
        return self._rub("output") is not None

    def price(self) -> Price:
        """The same as the word of the core."""
        return Price(
            self._rub("input") or Decimal(0),
            self._rub("output") or Decimal(0),
            self._rub("cached"),
            self._rub("tool"),
            self._rub("batch_input"),
            self._rub("batch_output"),
            self._with_tax(self.image_rub),
            vat_percent=self.vat_percent,
            valid_from=-inf if self.valid_from is None else moscow_midnight(self.valid_from),
            valid_to=inf if self.valid_to is None else moscow_midnight(self.valid_to + timedelta(days=1)),
        )


def price_over_time(given: list[PriceSettings]) -> Price | None:
    """The prices of one model as one, the later ones behind the first; None for an empty list, which is `unpriced`.
    Raises ValueError for two that hold at once."""
    return in_order(one.price() for one in given)


def _as_list(value: object) -> object:
    """One price as a list of one; `unpriced` as an empty list."""
    if value == UNPRICED:
        return []
    if isinstance(value, str):
        raise ValueError(f"must be a price, a list of prices with their dates, or `{UNPRICED}`")  # noqa: TRY004
    if value == []:
        raise ValueError(f"is empty; for no price write `{UNPRICED}`")
    return [value] if isinstance(value, dict) else value


def _one_at_a_time(value: list[PriceSettings]) -> list[PriceSettings]:
    price_over_time(value)
    return value


_Prices = Annotated[list[PriceSettings], BeforeValidator(_as_list), AfterValidator(_one_at_a_time)]


class ModelSettings(_Strict):
    """One model of a provider. `name` is the vendor's own id; the public id is `provider/name`."""

    name: str = Field(min_length=1)
    serves: frozenset[Operation] | None = Field(
        None, description="chat, embeddings, images, rerank. Unset: what the kind knows of the name, else chat."
    )
    price: _Prices | None = Field(
        None,
        description="One price, a list of prices with their dates, or `unpriced`. Unset: the built-in one, "
        "and unpriced where there is none.",
    )
    context_tokens: int | None = Field(
        None, ge=1, description="How much it reads and writes together, for clients that ask. Unset: what is known."
    )
    inputs: frozenset[Literal["text", "image", "file", "audio", "video"]] | None = Field(
        None, description="What a message may hold, for clients that ask. Unset: what is known, else text."
    )
    timeouts: TimeoutSettings | None = None
    options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="What this kind lets one model have for itself."
    )


def check_upstream_url(value: str | None) -> str | None:
    """The same URL, if it is one that a path can be put behind. Raises ValueError without repeating its secrets."""
    if value is None:
        return None
    if not value.lower().startswith(("https://", "http://")):
        guess = f"; did you mean 'https://{value}'?" if _BARE_HOST.fullmatch(value) else ""
        raise ValueError(f"must begin with https://{guess}")
    if any(char <= " " or char in "\x7f\\" for char in value):
        raise ValueError("must not hold spaces, backslashes or control characters")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ValueError("has a malformed host or port") from None
    if "@" in parts.netloc:
        raise ValueError("must not hold a user name or password; credentials have their own settings")
    if not host:
        raise ValueError("names no host")
    if "?" in value or "#" in value:
        raise ValueError("must have nothing after the path")
    return value


_BARE_HOST = re.compile(r"[A-Za-z0-9.-]+(:[0-9]+)?(/[A-Za-z0-9._~/-]*)?")
_UpstreamUrl = Annotated[str | None, AfterValidator(check_upstream_url)]


class ProviderSettings(_Strict):
    """One upstream account. Its name in the file is the first part of its models' ids."""

    kind: str = Field(
        "openai_compatible",
        description="A wire format (`gigachat`, `openai_compatible`) or a row of openai_compatible.toml (`tbank`).",
    )
    base_url: _UpstreamUrl = Field(
        None,
        description="Up to and including the version: https://api.example.com/v1. Rows and wire formats have defaults.",
    )
    api_key: SecretText | None = Field(None, description="Bearer key; for GigaChat the authorization key.")
    auth_url: _UpstreamUrl = Field(None, description="GigaChat: where tokens come from.")
    scope: str | None = Field(None, description="GigaChat: GIGACHAT_API_PERS, _B2B or _CORP.")
    ca_bundle: Path | None = Field(None, description="PEM roots for this provider only, on top of the usual ones.")
    client_cert: Path | None = Field(
        None, description="Our own certificate (PEM, with its chain) for an upstream that asks for one: mTLS."
    )
    client_key: Path | None = Field(None, description="Its private key, where `client_cert` does not hold it.")
    client_key_password: SecretText | None = Field(None, description="The password of that key.")
    proxy: str | None = Field(None, description="Egress proxy, http://[user:password@]host:port.")
    allow_private: list[IPv4Network | IPv6Network] = Field(
        default_factory=list, description="Private networks that this provider's host name may resolve to."
    )
    max_concurrency: int | None = Field(
        None, ge=0, le=1024, description="Calls at once for this account, over all workers; 0 is unlimited."
    )
    timeouts: TimeoutSettings = Field(default_factory=TimeoutSettings)
    options: dict[str, Any] = Field(
        default_factory=dict,
        repr=False,
        description="What only this kind knows. Servers that speak OpenAI: any quirk of a row (`system_first: true`).",
    )
    models: list[ModelSettings] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _short_models(cls, data: Any) -> Any:
        """A model may be given by its bare name."""
        if isinstance(data, dict) and isinstance(data.get("models"), list):
            models = [{"name": item} if isinstance(item, str) else item for item in data["models"]]
            return {**data, "models": models}
        return data

    @model_validator(mode="after")
    def _key_belongs_to_a_certificate(self) -> Self:
        if self.client_cert is None and (self.client_key or self.client_key_password):
            raise ValueError("client_key and client_key_password belong to a client_cert, and there is none")
        return self

    @property
    def client_identity(self) -> tuple[Path, Path | None, Secret | None] | None:
        """What `transport.tls.client_tls` shows to the upstream."""
        return None if self.client_cert is None else (self.client_cert, self.client_key, self.client_key_password)


def _provider_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", value):
        raise ValueError("provider names are lower case: gigachat; letters, digits, - and _, 64 at most")
    return value


class Config(_Strict):
    """The operator's file."""

    providers: dict[Annotated[str, AfterValidator(_provider_name)], ProviderSettings]
    aliases: dict[str, list[str]] = Field(default_factory=dict, description="name -> model ids, tried in order.")
    default_model: str | None = Field(None, description="As XROUTER_DEFAULT_MODEL, which wins.")
    default_models: dict[Operation, str] = Field(
        default_factory=dict,
        description="The same for one kind of work: chat, embeddings, images, rerank. Goes before `default_model`.",
    )
    simulated: bool = Field(
        False, description="The upstreams are our simulators: `model+fault` asks for that fault. For tests only."
    )


def load_settings() -> Settings:
    """Settings from the environment. Raises `ConfigError` in plain words."""
    prefix = str(Settings.model_config["env_prefix"])
    problems: list[str] = []
    found: dict[str, Any] = {}
    for name in secret_fields(Settings):
        variable = f"{prefix}{name.upper()}"
        try:
            text = _from_file(variable)
        except ValueError as error:
            problems.append(f"environment: {error}")
            continue
        if text is not None:
            found[name] = text
    try:
        settings = Settings(**found)
    except ValidationError as error:
        problems.append(_explain("environment", error, prefix=prefix))
    if problems:
        raise ConfigError("\n".join(problems))
    return settings


def environment(name: str) -> str | None:
    """A variable of the environment, or what stands in the file that `<name>_FILE` names. Raises ValueError."""
    text = _from_file(name)
    return os.environ.get(name) if text is None else text  # noqa: TID251 - this file is the reader


def _from_file(name: str) -> str | None:
    path = os.environ.get(f"{name}_FILE")  # noqa: TID251 - this file is the reader
    if not path:
        return None
    if os.environ.get(name):  # noqa: TID251 - the same
        raise ValueError(f"{name} and {name}_FILE are set; keep one of them")
    try:
        return read_secret_file(Path(path))
    except ValueError as error:
        raise ValueError(f"{name}_FILE: {error}") from None


def secret_path(name: str) -> Path | None:
    """The file that `<name>_FILE` names."""
    path = os.environ.get(f"{name}_FILE")  # noqa: TID251 - this file is the reader
    return Path(path) if path else None


def unknown_variables() -> list[str]:
    """What in the environment looks like a setting of ours and is none, in words: a typing error stays silent
    otherwise. Not an error, because other tools may use the prefix."""
    known = {f"XROUTER_{name.upper()}" for name in Settings.model_fields}
    known |= {f"XROUTER_{name.upper()}_FILE" for name in secret_fields(Settings)}
    found = sorted(name for name in os.environ if name.startswith("XROUTER_"))  # noqa: TID251 - the reader
    return [
        f"{name} is no setting and is ignored" + (f"; did you mean {near[0]}?" if near else "")
        for name in found
        if name not in known and not name.startswith(("XROUTER_TEST_", "XROUTER_ACCEPTANCE_"))
        for near in [get_close_matches(name, sorted(known), 1)]
    ]


class _UniqueKeys(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, instead of the last one winning silently."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key!r} stands twice", node.start_mark)
        return super().construct_mapping(node, deep)


Place = tuple[int | str, ...]
"""Where something stands in the file: `("providers", "gigachat", "models", 0)`."""


@dataclass(frozen=True, slots=True)
class Draft:
    """Configuration that is read and filled in, but not yet checked.

    `source` stands in messages, with the line where `lines` knows it; `files` are those whose change may change it;
    `problems` were found while it was filled in, each in one line.
    """

    data: object
    source: str
    files: tuple[Path, ...] = ()
    lines: Mapping[Place, int] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def at(self, place: Place) -> str:
        """`xrouter.yaml:12: providers.gigachat`, or as much of it as is known."""
        words = ".".join(str(part) for part in place)
        for end in range(len(place), 0, -1):
            line = self.lines.get(place[:end])
            if line is not None:
                return f"{self.source}:{line}: {words}"
        return f"{self.source}: {words}" if words else self.source

    def located(self, message: str) -> str:
        """`providers.a.scope: words` with the source and, where it is known, the line before it. A model stands in the
        message under its number or its name."""
        line = self.lines.get(self._place(message.partition(": ")[0]))
        return f"{self.source}: {message}" if line is None else f"{self.source}:{line}: {message}"

    def _place(self, words: str) -> Place:
        """The deepest place that `providers.a.models.GigaChat-2.5.options` means; names may hold dots."""
        place: Place = ()
        found = self.data
        while words:
            steps = {label: (step, inner) for step, label, inner in _steps(found)}
            fitting = [label for label in steps if words == label or words.startswith(f"{label}.")]
            if not fitting:
                break
            label = max(fitting, key=len)
            step, found = steps[label]
            place, words = (*place, step), words[len(label) + 1 :]
        return place


def _steps(data: object) -> Iterator[tuple[int | str, str, object]]:
    """What lies inside: its step in a `Place`, the word that a message has for it, and itself."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield key, str(key), value
    elif isinstance(data, list):
        for number, item in enumerate(data):
            yield number, str(number), item
            if (name := _model_name(item)) is not None:
                yield number, name, item


def _model_name(model: object) -> str | None:
    """A model's name, given bare or as a mapping."""
    name = model.get("name") if isinstance(model, dict) else model
    return name if isinstance(name, str) else None


def load_config(path: Path) -> Config:
    """The operator's file. Raises `ConfigError` in plain words, with everything that is wrong with it."""
    return check_draft(read_draft(path))


def read_draft(path: Path) -> Draft:
    """The operator's file with `${NAME}` filled in. Raises `ConfigError` where it cannot be read at all."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text") from None
    try:
        data = yaml.load(text, _UniqueKeys)  # _UniqueKeys is a SafeLoader  # noqa: S506  # nosec B506
        root = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not YAML: {error}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: must be a mapping with the key 'providers'; docs/settings.md shows one")
    filling = _Filling(str(path), dict(_lines(root, ())))
    filled = filling.fill(data, ())
    assert isinstance(filled, dict)
    return Draft(filled, str(path), (path, *filling.files), filling.lines, tuple(filling.problems))


def parse_config(data: object, source: str) -> Config:
    """Checked configuration from plain data. `source` stands in error messages."""
    return check_draft(Draft(data, source))


def check_draft(draft: Draft) -> Config:
    """The configuration. Raises `ConfigError` with everything that is wrong, one problem in each line."""
    problems = draft_problems(draft)
    if problems:
        raise ConfigError("\n".join(problems))
    return Config.model_validate(draft.data)


def draft_problems(draft: Draft) -> list[str]:
    """Everything that is wrong with a draft by itself, each in one line."""
    problems = list(draft.problems)
    try:
        Config.model_validate(draft.data)
    except ValidationError as error:
        problems += _problems(draft, error)
    problems += [f"{draft.at(place)}: {words}" for place, words in _wrong_names(draft.data)]
    return list(dict.fromkeys(problems))


def sound_parts(draft: Draft) -> tuple[dict[str, ProviderSettings], dict[str, list[str]], dict[Operation, str]]:
    """The providers, aliases and default models of a draft that read well, whatever is wrong with the rest."""
    accounts: dict[str, ProviderSettings] = {}
    for name, provider in _mapping(draft.data, "providers").items():
        with suppress(ValidationError):
            accounts[str(name)] = ProviderSettings.model_validate(provider)
    aliases = {
        str(name): targets
        for name, targets in _mapping(draft.data, "aliases").items()
        if isinstance(targets, list) and all(isinstance(one, str) for one in targets)
    }
    operations = {operation.value for operation in Operation}
    defaults = {
        Operation(operation): name
        for operation, name in _mapping(draft.data, "default_models").items()
        if operation in operations and isinstance(name, str)
    }
    return accounts, aliases, defaults


def _mapping(data: object, key: str) -> dict[Any, Any]:
    found = data.get(key) if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


def _wrong_names(data: object) -> Iterator[tuple[Place, str]]:
    """Models that stand twice, and names that lead to no model. What is no name at all the types have told."""
    ids: list[str] = []
    unread: set[str] = set()  # providers whose models cannot be known
    for name, provider in _mapping(data, "providers").items():
        models = provider.get("models") if isinstance(provider, dict) else None
        names = [_model_name(one) for one in models] if isinstance(models, list) else [None]
        if None in names:
            unread.add(str(name))
        for number, model in enumerate(names):
            if model is not None and model in names[:number]:
                yield ("providers", name, "models", number), f"{model} stands twice"
        ids += [f"{name}/{model}" for model in names if model is not None]
    aliases = _mapping(data, "aliases")
    for alias, targets in aliases.items():
        if alias in ids:
            yield ("aliases", alias), "is a model's own id; an alias needs a name of its own"
        if not str(alias).strip():
            yield ("aliases", alias), "needs a name"
        if targets == []:
            yield ("aliases", alias), "needs at least one model id"
        for number, target in enumerate(targets if isinstance(targets, list) else ()):
            if _leads_nowhere(target, ids, unread):
                yield ("aliases", alias, number), _unknown_model(target, ids)
    served = [*ids, *map(str, aliases)]
    defaults: dict[Place, Any] = {("default_model",): data.get("default_model")} if isinstance(data, dict) else {}
    defaults |= {("default_models", work): name for work, name in _mapping(data, "default_models").items()}
    for place, name in defaults.items():
        if _leads_nowhere(name, served, unread):
            yield place, _unknown_model(name, served)


def _leads_nowhere(name: object, known: list[str], unread: set[str]) -> bool:
    return isinstance(name, str) and name not in known and name.partition("/")[0] not in unread


def _unknown_model(name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1)
    return f"names the unknown model {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def _lines(node: yaml.Node | None, place: Place) -> Iterator[tuple[Place, int]]:
    """place -> line, from 1."""
    if node is None or len(place) > _DEEPEST:
        return
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode):
                yield (*place, key.value), key.start_mark.line + 1
                yield from _lines(value, (*place, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield (*place, number), item.start_mark.line + 1
            yield from _lines(item, (*place, number))


_DEEPEST = 12
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_ALMOST = re.compile(r"\$\{|^\$[A-Za-z_][A-Za-z0-9_]*$")  # unclosed, or the shell's form: never a credential


class _Filling:
    """Fills in `${NAME}`; collects what goes wrong, and the files that secrets come from."""

    def __init__(self, source: str, lines: Mapping[Place, int]) -> None:
        self.lines = lines
        self.files: list[Path] = []
        self.problems: list[str] = []
        self._draft = Draft({}, source, lines=lines)

    def fill(self, data: object, place: Place) -> object:
        if isinstance(data, dict):
            return {key: self.fill(value, (*place, key)) for key, value in data.items()}
        if isinstance(data, list):
            return [self.fill(value, (*place, number)) for number, value in enumerate(data)]
        if isinstance(data, str):
            return self._text(data, place)
        return data

    def _text(self, text: str, place: Place) -> str:
        if _ALMOST.search(_VARIABLE.sub("", text)):
            self._say(place, f"write ${{NAME}} for the environment variable NAME, not {text[:40]!r}")
            return text
        filled = _VARIABLE.sub(lambda found: self._variable(found[1], place), text)
        if place and str(place[-1]).endswith(FILE_ENDING):
            self.files.append(Path(filled))
        return filled

    def _variable(self, name: str, place: Place) -> str:
        try:
            value = environment(name)
        except ValueError as error:
            self._say(place, str(error))
            return name
        if path := secret_path(name):
            self.files.append(path)
        if value is None:
            self._say(place, f"names ${{{name}}}, but the environment has no {name}")
            return name
        return value

    def _say(self, place: Place, words: str) -> None:
        self.problems.append(f"{self._draft.at(place)}: {words}")


_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "string_too_short": "must not be empty",
    "string_type": "must be text",
    "path_type": "must be a path",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "decimal_type": "must be a number",
    "decimal_parsing": "must be a number",
    "decimal_max_places": "must have {decimal_places} decimal places at most",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be {ge} or more",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be {le} or less",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "list_type": "must be a list",
    "set_type": "must be a list",
    "frozen_set_type": "must be a list",
    "too_short": "needs {min_length} or more",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "date_type": "must be a date, such as 2026-01-31",
    "date_parsing": "must be a date, such as 2026-01-31",
    "date_from_datetime_parsing": "must be a date, such as 2026-01-31",
}
"""pydantic's word for a mistake -> ours; what is not here has words of ours already."""


def in_words(item: Mapping[str, Any]) -> str:
    """One of pydantic's errors in words for whoever wrote the file."""
    words = _WORDS.get(item["type"])
    if words is not None:
        return words.format(**item.get("ctx", {}))
    message: str = item["msg"]
    return message.removeprefix("Value error, ")


def _explain(source: str, error: ValidationError, prefix: str) -> str:
    """What is wrong with the environment."""
    return "\n".join(
        f"{source}: {prefix}{'.'.join(map(str, item['loc'])).upper()}: {in_words(item)}"
        for item in error.errors(include_url=False, include_input=False)
    )


def _problems(draft: Draft, error: ValidationError) -> Iterator[str]:
    """What is wrong with the file, each in one line."""
    for item in error.errors(include_url=False, include_input=False):
        place = tuple(part for part in item["loc"] if part != "[key]")
        message = in_words(item)
        if item["type"] == "extra_forbidden":
            message = _unknown_key(place)
        yield f"{draft.at(place)}: {message}"


def _unknown_key(place: Place) -> str:
    near = get_close_matches(str(place[-1]), sorted(_known_keys(place)), 1)
    return "is not a known key" + (f"; did you mean {near[0]!r}?" if near else "")


def _known_keys(place: Place) -> set[str]:
    """The keys that may stand where `place` does."""
    words = [part for part in place if isinstance(part, str)]
    model: type[BaseModel] = Config
    if "timeouts" in words[:-1]:
        model = TimeoutSettings
    elif "price" in words[3:-1]:
        model = PriceSettings
    elif "models" in words[2:-1]:
        model = ModelSettings
    elif len(words) > 2:
        model = ProviderSettings
    return {*model.model_fields, *(name + FILE_ENDING for name in secret_fields(model))}
