"""Writes docs/settings.md from the models of `xrouter.settings`: `make docs`. A test holds the page to the code."""

import types
import typing
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from xrouter.configuration import schema
from xrouter.settings import (
    Config,
    ModelSettings,
    PriceSettings,
    ProviderSettings,
    SecretText,
    Settings,
    TimeoutSettings,
)
from xrouter.settings.routes import (
    CanarySettings,
    FallbackSettings,
    RouteSettings,
    RoutingSettings,
    RuleSettings,
)

PAGE = Path(__file__).resolve().parents[1] / "docs" / "settings.md"
SCHEMA = PAGE.with_name("xrouter.schema.json")
FILE_MODELS = (
    Config,
    ProviderSettings,
    ModelSettings,
    PriceSettings,
    TimeoutSettings,
    RouteSettings,
    RuleSettings,
    CanarySettings,
    FallbackSettings,
    RoutingSettings,
)
TITLES: dict[type[BaseModel], str] = {Config: "the file", RoutingSettings: "routing", FallbackSettings: "fallbacks"}

HEAD = """\
# Settings

Generated from `src/xrouter/settings/` by `make docs`; edit those files, not this page.

Settings of the process come from the environment. Providers, models, prices and aliases come from one file,
`xrouter.yaml`, that `XROUTER_CONFIG` names. A key that does not exist is an error with a suggestion. In the file
`${NAME}` stands for an environment variable, so that credentials need not be written down; a secret may also stand in
a file of its own: `api_key_file: PATH` for `api_key`, `XROUTER_PEPPER_FILE` for `XROUTER_PEPPER`, `NAME_FILE` for
`${NAME}`. [xrouter.schema.json](xrouter.schema.json) is the file's JSON Schema: with
`# yaml-language-server: $schema=<path of the schema>` in its first line, editors complete and check it.
`xrouter config check` finds everything that is wrong, and `xrouter config explain` says what is in force.

## Environment
"""

FILE_HEAD = """
## xrouter.yaml

```yaml
providers:
  gigachat:
    kind: gigachat
    api_key: ${GIGACHAT_CREDENTIALS}
    scope: GIGACHAT_API_PERS
    models:
      - GigaChat-2
      - name: GigaChat-2-Max
        price: {input_rub_per_1m: 650, output_rub_per_1m: 650}
  tbank:
    kind: tbank
    base_url: https://llm.example.com/v1
    api_key: ${TBANK_API_KEY}
    models: [t-pro-it-2.1]

aliases:
  smart: [gigachat/GigaChat-2-Max, tbank/t-pro-it-2.1]
```

A model's public id is `provider/name`. An alias is a list of ids that are tried in order. Names under which people
know these models (`gigachat-pro`, `yandexgpt:latest`, `yandexgpt-lite:rc`, `mts-ai`) are aliases by themselves, as long
as their target is served and the file does not give the name to another one. A route is an alias with a strategy,
weights or rules: [routing](routing.md).

Prices are in roubles. What vendors publish is built in (`configuration/prices.toml`); the file goes before it. A price
that changes is a list, an attempt costs what is in force when it starts, and a model without a price says `unpriced`
wherever prices are shown:

```yaml
providers:
  mts:
    base_url: https://gpt.mwsapis.ru/projects/example/openai/v1
    api_key: ${MWS_API_KEY}
    models:
      - name: qwen3-32b
        price:
          - {input_rub_per_1k: 0.1, output_rub_per_1k: 0.3, vat: excluded, valid_to: 2026-12-31}
          - {input_rub_per_1k: 0.12, output_rub_per_1k: 0.35, vat: excluded, valid_from: 2027-01-01}
      - {name: bge-m3, serves: [embeddings], price: unpriced}
```
"""


def word(annotation: Any) -> str:
    """A type as an operator would say it."""
    origin, inside = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        return word(inside[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(word(part) for part in inside if part is not type(None)))
    if origin is Literal:
        return ", ".join(map(str, inside))
    if origin in (list, tuple, frozenset):
        return f"list of {word(inside[0])}"
    if origin is dict:
        return f"{word(inside[0])} → {word(inside[1])}"
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return ", ".join(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{heading(annotation).removeprefix('a ')}](#{anchor(annotation)})"
    names = {
        "str": "text",
        "int": "integer",
        "bool": "yes or no",
        "float": "number",
        "Decimal": "decimal number",
        "SecretText": "secret",
        "Any": "anything",
    }
    name = annotation.__name__
    return names.get(name, {"Path": "path", "IPv4Network": "network", "IPv6Network": "network"}.get(name, name))


def anchor(model: type[BaseModel]) -> str:
    return heading(model).lower().replace(" ", "-")


def heading(model: type[BaseModel]) -> str:
    return TITLES.get(model) or "a " + model.__name__.removesuffix("Settings").lower()


def default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True) if field.default_factory in (list, dict) else field.default
    if value is PydanticUndefined or value is None or value in ([], {}, frozenset()):
        return "–"
    return f"`{value.reveal() if isinstance(value, SecretText) else value}`"


def limits(field: FieldInfo) -> str:
    """`; 1 to 64` and the like."""
    found = {name: getattr(part, name) for part in field.metadata for name in ("ge", "gt", "le") if hasattr(part, name)}
    if "ge" in found and "le" in found:
        return f", {found['ge']} to {found['le']}"
    if "ge" in found:
        return f", {found['ge']} or more"
    return f", above {found['gt']}" if "gt" in found else ""


def table(model: type[BaseModel], prefix: str = "") -> list[str]:
    rows = ["| name | type | default | meaning |", "|---|---|---|---|"]
    for name, field in model.model_fields.items():
        shown = f"{prefix}{name.upper()}" if prefix else name
        kind = word(field.annotation) + limits(field)
        rows.append(f"| `{shown}` | {kind} | {default(field)} | {field.description or ''} |".replace("  |", " |"))
    return rows


def page() -> str:
    lines = [HEAD, *table(Settings, str(Settings.model_config["env_prefix"])), FILE_HEAD]
    for model in FILE_MODELS:
        title = heading(model)
        lines += [
            f"### {title[0].upper()}{title[1:]}",
            "",
            " ".join((model.__doc__ or "").split()),
            "",
            *table(model),
            "",
        ]
    return "\n".join(lines)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    SCHEMA.write_text(schema.text(), encoding="utf-8")
