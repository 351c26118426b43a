"""The operator's `xrouter.yaml`: providers, their models, aliases, routes."""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from xrouter.core.deployment import MAX_WAITING, Timeouts
from xrouter.core.operation import Operation
from xrouter.core.secret import Secret
from xrouter.settings.prices import Prices
from xrouter.settings.routes import Region, RouteSettings, RoutingSettings, Tags
from xrouter.settings.secret_text import SecretText
from xrouter.settings.strict import Strict

_USUAL = Timeouts()


class TimeoutSettings(Strict):
    """Limits of one provider, seconds. Unset ones keep their defaults."""

    connect_s: float = Field(_USUAL.connect_s, gt=0)
    first_s: float = Field(_USUAL.first_s, gt=0)
    idle_s: float = Field(_USUAL.idle_s, gt=0)
    total_s: float = Field(_USUAL.total_s, gt=0)
    total_stream_s: float = Field(_USUAL.total_stream_s, gt=0)


class ModelSettings(Strict):
    """One model of a provider. `name` is the vendor's own id; the public id is `provider/name`."""

    name: str = Field(min_length=1)
    serves: frozenset[Operation] | None = Field(
        None, description="chat, embeddings, images, rerank. Unset: what the kind knows of the name, else chat."
    )
    price: Prices | None = Field(
        None,
        description="One price, a list of prices with their dates, or `unpriced`. Unset: the built-in one, "
        "and unpriced where there is none.",
    )
    context_tokens: int | None = Field(
        None,
        ge=1,
        description="How much it reads and writes together; who asks for more is not sent there. Unset: what is known.",
    )
    inputs: frozenset[Literal["text", "image", "file", "audio", "video"]] | None = Field(
        None,
        description="What a message may hold; other content is not sent there. Unset: what is known; who "
        "lists the models is told text.",
    )
    region: Region | None = Field(None, description="Where it processes data, such as `ru`. Unset: the provider's.")
    tags: Tags = Field(frozenset(), description="Words of yours that routes ask for, beside the provider's.")
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


class CredentialSettings(Strict):
    """One of several credentials of a provider. What it leaves out is the provider's."""

    name: str | None = Field(None, description="What it is called where it is shown. Unset: its number, from 1.")
    api_key: SecretText | None = Field(None, description="As the provider's.")
    scope: str | None = Field(None, description="As the provider's.")
    client_cert: Path | None = Field(None, description="As the provider's.")
    client_key: Path | None = Field(None, description="As the provider's.")
    client_key_password: SecretText | None = Field(None, description="As the provider's.")
    max_concurrency: int | None = Field(None, ge=0, le=1024, description="Calls at once for this one.")
    weight: float = Field(
        1.0, gt=0, le=1000, description="How many calls it gets beside the others, when all are as busy."
    )
    options: dict[str, Any] = Field(
        default_factory=dict, repr=False, description="What differs from the provider's options: its own key file, say."
    )

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str | None) -> str | None:
        return value if value is None else _provider_name(value)


class ProviderSettings(Strict):
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
    max_waiting: int = Field(
        MAX_WAITING,
        ge=0,
        le=100_000,
        description="Calls of one worker that wait while as many run as may; more get 503 at once (docs/pressure.md).",
    )
    adaptive: bool = Field(
        True, description="Learn from the vendor's 429s how many calls at once it bears, and keep to that."
    )
    start_concurrency: int | None = Field(
        None,
        ge=1,
        le=1024,
        description="How many that is to begin with. Unset: max_concurrency, and without one all until the first 429.",
    )
    credentials: tuple[CredentialSettings, ...] = Field(
        (),
        max_length=64,
        description="Several credentials for the same models, instead of one; calls go to the least busy.",
    )
    region: Region | None = Field(None, description="Where it processes data, such as `ru`: for routes that ask.")
    tags: Tags = Field(frozenset(), description="Words of yours that routes ask for (`with_tags`).")
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

    @model_validator(mode="after")
    def _credentials_stand_apart(self) -> Self:
        if self.credentials and self.api_key:
            raise ValueError("api_key and credentials are given; keep one of them")
        names = [label for label, _ in self.each()]
        for number, label in enumerate(names):
            if label in names[:number]:
                raise ValueError(f"two credentials are called {label}; names stand once, and a number is a name, too")
        for label, own in self.each():
            if own.client_cert is None and (own.client_key or own.client_key_password):
                raise ValueError(f"credential {label}: client_key belongs to a client_cert, and there is none")
        return self

    def each(self) -> tuple[tuple[str, "ProviderSettings"], ...]:
        """The name of each credential, and the provider as if it had only this one. Without `credentials` the only one
        has no name."""
        if not self.credentials:
            return (("", self),)
        return tuple(
            (one.name or str(number), self.model_copy(update=self._with(one)))
            for number, one in enumerate(self.credentials, 1)
        )

    def _with(self, one: CredentialSettings) -> dict[str, Any]:
        own = {name: getattr(one, name) for name in type(one).model_fields if name not in ("name", "weight", "options")}
        given = {name: value for name, value in own.items() if value is not None}
        return {**given, "options": {**self.options, **one.options}, "credentials": ()}

    @property
    def client_identity(self) -> tuple[Path, Path | None, Secret | None] | None:
        """What `transport.tls.client_tls` shows to the upstream."""
        return None if self.client_cert is None else (self.client_cert, self.client_key, self.client_key_password)


def _provider_name(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", value):
        raise ValueError("provider names are lower case: gigachat; letters, digits, - and _, 64 at most")
    return value


class Config(Strict):
    """The operator's file."""

    providers: dict[Annotated[str, AfterValidator(_provider_name)], ProviderSettings]
    aliases: dict[str, list[str]] = Field(default_factory=dict, description="name -> model ids, tried in order.")
    routes: dict[str, RouteSettings] = Field(
        default_factory=dict, description="name -> how it is routed: aliases with a strategy, and models' own ids."
    )
    routing: RoutingSettings = Field(default_factory=RoutingSettings)
    default_model: str | None = Field(None, description="As XROUTER_DEFAULT_MODEL, which wins.")
    default_models: dict[Operation, str] = Field(
        default_factory=dict,
        description="The same for one kind of work: chat, embeddings, images, rerank. Goes before `default_model`.",
    )
    simulated: bool = Field(
        False, description="The upstreams are our simulators: `model+fault` asks for that fault. For tests only."
    )
