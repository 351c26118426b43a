"""How this process runs: the variables `XROUTER_*`. The only reader of the environment."""

import os
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from xrouter.core.service_url import check_database_url, check_redis_url, files_of
from xrouter.settings.secret_text import SecretText, read_secret_file, secret_fields
from xrouter.settings.words import ConfigError, in_words


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


def _url(check: Callable[[str], None]) -> AfterValidator:
    """A URL that `check` takes."""

    def checked(value: SecretText | None) -> SecretText | None:
        if value is not None:
            check(value.reveal())
            for name, path in files_of(value.reveal()):
                if not Path(path).is_file():
                    raise ValueError(f"names the file {path} as {name}, and there is none")
        return value

    return AfterValidator(checked)


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
    database_url: Annotated[SecretText | None, _url(check_database_url)] = Field(
        None,
        description="`postgresql://user:password@host/name`, also with libpq's `sslmode` and several hosts, or "
        "`sqlite:////path`; default is SQLite in the data directory.",
    )
    redis_url: Annotated[SecretText | None, _url(check_redis_url)] = Field(
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
    max_in_flight: int = Field(10_000, ge=1, description="Requests one worker serves at once; more wait a moment.")
    overload_queue: int = Field(
        1_000, ge=0, le=100_000, description="So many wait, the newest first; the oldest of more gets 503 at once."
    )
    overload_wait_s: float = Field(2.0, gt=0, le=2, description="None of them for longer; then 503.")
    max_lag_s: float = Field(
        0.5, gt=0, description="A worker whose event loop is later than this serves nobody new until it has caught up."
    )
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
    health_check_s: float = Field(
        30.0,
        ge=0,
        description="How often a vendor whose deployments are ejected is asked without a call whether it is back "
        "(docs/resilience.md); 0: never.",
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


def _explain(source: str, error: ValidationError, prefix: str) -> str:
    """What is wrong with the environment."""
    return "\n".join(
        f"{source}: {prefix}{'.'.join(map(str, item['loc'])).upper()}: {in_words(item)}"
        for item in error.errors(include_url=False, include_input=False)
    )
