"""What only this kind has under `options`, and which of the four ways of login an account uses."""

from pathlib import Path
from typing import Literal

import msgspec

from xrouter.core.secret import Secret
from xrouter.settings import ConfigError, ProviderSettings

from .key_file import ServiceKey, read_key_file


class Options(msgspec.Struct, frozen=True):
    """The account's own settings.

    - `folder`: the folder (`b1g...`) of short model names; it also goes out as `OpenAI-Project` and `x-folder-id`;
    - `surface`: `openai` for chat over the OpenAI-compatible API, which has every model; `native` for the vendor's
      own, which has hidden reasoning and `required` tools, and its own models only;
    - `data_logging`: the vendor keeps requests unless told not to; true lets it;
    - `vision_models`: further models, by their configured names, that take pictures (dedicated instances).

    The login is one of `api_key`, and here: `iam_token` (for tests: nobody renews it), `service_account_key_file` or
    `service_account_key` (the JSON that `yc iam key create` writes), and `metadata`: the token of the virtual machine
    that we run on, from the address that `auth_url` must name.
    """

    folder: str = ""
    surface: Literal["openai", "native"] = "openai"
    data_logging: bool = False
    vision_models: frozenset[str] = frozenset()
    iam_token: Secret | None = None
    service_account_key_file: str = ""
    service_account_key: Secret | None = None
    metadata: bool = False


_WAYS = ("api_key", "iam_token", "service_account_key_file", "service_account_key", "metadata")


def check_login(name: str, settings: ProviderSettings, options: Options) -> None:
    """Raises `ConfigError` unless there is exactly one way to log in."""
    given = [way for way in _WAYS if getattr(settings if way == "api_key" else options, way)]
    if len(given) != 1:
        raise ConfigError(
            f"providers.{name}: yandexgpt needs exactly one of api_key, options.iam_token, "
            f"options.service_account_key_file, options.service_account_key, options.metadata; "
            f"{' and '.join(given) if given else 'none'} is set"
        )
    if options.metadata and settings.auth_url is None:
        raise ConfigError(
            f"providers.{name}.auth_url: options.metadata asks the virtual machine's own address; write it down: "
            "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
        )


def service_key(name: str, options: Options) -> ServiceKey | None:
    """The service account's key, where the account has one. Raises `ConfigError`."""
    place = f"providers.{name}.options.service_account_key"
    if options.service_account_key_file:
        place += "_file"
        try:
            text = Path(options.service_account_key_file).read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
            raise ConfigError(f"{place}: {options.service_account_key_file} cannot be read: {why}") from None
    elif options.service_account_key:
        text = options.service_account_key.reveal()
    else:
        return None
    try:
        return read_key_file(text)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
