"""The rows of `openai_compatible.toml`: who speaks OpenAI's wire format, and how each one bends it."""

import tomllib
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec

from xrouter.core.money import Price

_FILE = Path(__file__).parent.parent / "openai_compatible.toml"
_LISTS = "_lists"


class RowPrice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Roubles per million tokens, VAT included."""

    input: Decimal
    output: Decimal
    cached: Decimal | None = None

    def price(self) -> Price:
        return Price(self.input, self.output, self.cached)


class Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One kind of server. Every field has a default that changes nothing.

    - `base_url`: where it lives, up to and including the version; empty: the operator must say.
    - `needs_key`: it refuses calls without a key, so a configuration without one is an error.
    - `prices`: model -> price of this very host (an open model has another price elsewhere).
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
    - `drop`: parameters that the server does not know; they are left out and told to the client.
    - `extras`: parameters outside OpenAI's list that may pass. Anything else outside of it is dropped, for
      nobody knows what a server does with it (a gateway behind us may read `api_base`).

    `@name` in a list stands for the list of that name under `[_lists]`.
    """

    base_url: str = ""
    needs_key: bool = False
    prices: dict[str, RowPrice] = {}
    developer_role: bool = True
    system_first: bool = False
    max_tokens_only: bool = False
    thinking_switch: bool = False
    think_tags: Literal["", "inline", "prefilled"] = ""
    tool_call_tags: bool = False
    drop: frozenset[str] = frozenset()
    extras: frozenset[str] = frozenset()


@cache
def rows() -> dict[str, Row]:
    """All rows by name."""
    return parse_rows(_FILE.read_text(encoding="utf-8"))


def parse_rows(text: str) -> dict[str, Row]:
    """Rows out of TOML text. Raises ValueError for a wrong or unknown field."""
    tables = tomllib.loads(text, parse_float=Decimal)
    lists = tables.pop(_LISTS, {})
    return {name: msgspec.convert(_spread(table, lists), Row) for name, table in tables.items()}


def _spread(table: dict[str, Any], lists: dict[str, list[str]]) -> dict[str, Any]:
    def items(value: list[str]) -> list[str]:
        spread: list[str] = []
        for item in value:
            spread += lists[item[1:]] if item.startswith("@") else [item]
        return spread

    return {key: items(value) if isinstance(value, list) else value for key, value in table.items()}
