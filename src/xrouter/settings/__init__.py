"""Every setting, typed, with its reason. The only reader of the environment and of configuration files.

`Settings` come from environment variables named `XROUTER_*`. `Config` is the operator's `xrouter.yaml`:
providers, their models and prices, aliases. `${NAME}` in the file stands for an environment variable. Every secret
may stand in a file of its own: `api_key_file: PATH` for `api_key`, `XROUTER_PEPPER_FILE`, `NAME_FILE` for `${NAME}`.
"""

from xrouter.settings.beside import BesideSettings
from xrouter.settings.draft import (
    Draft,
    check_draft,
    draft_problems,
    load_config,
    parse_config,
    read_draft,
    sound_parts,
    sound_routes,
)
from xrouter.settings.environment import Settings, environment, load_settings, secret_path, unknown_variables
from xrouter.settings.operator_file import (
    Config,
    CredentialSettings,
    ModelSettings,
    ProviderSettings,
    TimeoutSettings,
    check_upstream_url,
)
from xrouter.settings.prices import UNPRICED, PriceSettings, price_over_time
from xrouter.settings.routes import RouteSettings, RoutingSettings
from xrouter.settings.secret_text import FILE_ENDING, SecretText, read_secret_file, secret_fields
from xrouter.settings.words import ConfigError, in_words

__all__ = [
    "FILE_ENDING",
    "UNPRICED",
    "BesideSettings",
    "Config",
    "ConfigError",
    "CredentialSettings",
    "Draft",
    "ModelSettings",
    "PriceSettings",
    "ProviderSettings",
    "RouteSettings",
    "RoutingSettings",
    "SecretText",
    "Settings",
    "TimeoutSettings",
    "check_draft",
    "check_upstream_url",
    "draft_problems",
    "environment",
    "in_words",
    "load_config",
    "load_settings",
    "parse_config",
    "price_over_time",
    "read_draft",
    "read_secret_file",
    "secret_fields",
    "secret_path",
    "sound_parts",
    "sound_routes",
    "unknown_variables",
]
