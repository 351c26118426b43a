"""The rows of `openai_compatible.toml`: who speaks OpenAI's wire format, and how each one bends it."""

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from xrouter.core.money import Price
from xrouter.providers import read_table
from xrouter.settings import ConfigError, check_upstream_url

_FILE = Path(__file__).parent.parent / "openai_compatible.toml"
_LISTS = "_lists"


class RowPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Roubles per million tokens, VAT included."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None

    def price(self) -> Price:
        return Price(self.input, self.output, self.cached)


class Quirks(msgspec.Struct, frozen=True):
    """How a server bends the format. Every field has a default that changes nothing. The operator may set them
    for one account under `options`.

    - `developer_role`: false where the role `developer` is unknown; it becomes `system`.
    - `system_first`: Qwen-family chat templates answer 400 "System message must be at the beginning." to a
      system message in any other place, so all of them are joined into one at the front.
    - `max_tokens_only`: older servers ignore `max_completion_tokens`, and an ignored cap costs money.
    - `thinking_switch`: `reasoning_effort` means nothing to the template, `chat_template_kwargs.enable_thinking`
      does: `none` is false, any other effort true; a client that sends the kwarg itself is right.
      Also: with thinking off, a reasoning parser may file the whole answer under reasoning; then it is moved.
    - `think_tags`: reasoning arrives inside the text as `<think>...</think>` when the server runs without a
      reasoning parser. `inline`: the model writes both tags. `prefilled`: the template has written the first.
    - `tool_call_tags`: without a tool parser, calls arrive as `<tool_call>{...}</tool_call>` in the text
      (the Hermes form). Looked for only when the request offered tools.
    - `reasoning_field`: the name under which reasoning arrives, where it is neither `reasoning` nor
      `reasoning_content`.
    - `drop`: parameters that the server does not know; they are left out and told to the client.
    - `extras`: parameters outside OpenAI's list that may pass. Anything else outside of it is dropped, for
      nobody knows what a server does with it (a gateway behind us may read `api_base`).
    """

    developer_role: bool = True
    system_first: bool = False
    max_tokens_only: bool = False
    thinking_switch: bool = False
    think_tags: Literal["", "inline", "prefilled"] = ""
    tool_call_tags: bool = False
    reasoning_field: str = ""
    drop: frozenset[str] = frozenset()
    extras: frozenset[str] = frozenset()


class Row(Quirks, frozen=True):
    """One kind of server.

    - `base_url`: where it lives, up to and including the version; empty: the operator must say.
    - `needs_key`: it refuses calls without a key, so a configuration without one is an error.
    - `prices`: model -> price of this very host (an open model has another price elsewhere).

    `@name` in a list stands for the list of that name under `[_lists]`.
    """

    base_url: str = ""
    needs_key: bool = False
    prices: dict[str, RowPrice] = {}

    def with_options(self, options: dict[str, Any], quirks: Quirks) -> "Row":
        """The row for one account: what the operator wrote under `options`, already read as `quirks`, wins."""
        return msgspec.structs.replace(self, **{name: getattr(quirks, name) for name in options})


@cache
def rows() -> dict[str, Row]:
    """All rows by name. Raises `ConfigError` for a mistake in the file."""
    return parse_rows(_FILE.read_text(encoding="utf-8"))


def parse_rows(text: str) -> dict[str, Row]:
    """Rows out of TOML text. Raises `ConfigError` that names the file, the row and the field."""
    try:
        tables = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{_FILE.name}: is not TOML: {error}") from None
    lists = tables.pop(_LISTS, {})
    return {name: _parse_row(f"{_FILE.name}: [{name}]", table, lists) for name, table in tables.items()}


def _parse_row(place: str, table: Any, lists: dict[str, list[str]]) -> Row:
    if not isinstance(table, dict):
        raise ConfigError(f"{place} must be a table")
    row = read_table({key: _spread(f"{place} {key}", value, lists) for key, value in table.items()}, Row, place, " ")
    try:
        check_upstream_url(row.base_url or None)
    except ValueError as error:
        raise ConfigError(f"{place} base_url: {error}") from None
    return row


def _spread(place: str, value: Any, lists: dict[str, list[str]]) -> Any:
    """A list with the lists that it names; anything else as it is."""
    if not isinstance(value, list):
        return value
    items: list[Any] = []
    for item in value:
        if not (isinstance(item, str) and item.startswith("@")):
            items.append(item)
        elif item[1:] in lists:
            items += lists[item[1:]]
        else:
            raise ConfigError(f"{place}: no list is called {item!r}; known lists: @{', @'.join(sorted(lists))}")
    return items
