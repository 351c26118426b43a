"""The rows of `openai_compatible.toml`: who speaks OpenAI's wire format, and how each one bends it."""

import re
import tomllib
from collections.abc import Iterable
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import msgspec

from xrouter.core.operation import Operation
from xrouter.providers import read_table
from xrouter.settings import ConfigError, check_upstream_url

_FILE = Path(__file__).parent.parent / "openai_compatible.toml"
_LISTS, _NAMES = "_lists", "_names"

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
EFFORTS: Final[tuple[Effort, ...]] = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class Meaning(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a vendor's own error code stands for: an HTTP status, and a code of ours where there is one. With `says` it
    stands for that only where one of these patterns fits the message; else the HTTP status that came decides."""

    status: int
    code: str | None = None
    says: tuple[str, ...] = ()


class Quirks(msgspec.Struct, frozen=True):
    """How a server bends the format. Every field has a default that changes nothing. The operator may set them
    for one account under `options`.

    What goes out:

    - `developer_role`: false where the role `developer` is unknown; it becomes `system`.
    - `system_first`: Qwen-family chat templates answer 400 "System message must be at the beginning." to a
      system message in any other place, so all of them are joined into one at the front.
    - `max_tokens_only`: older servers ignore `max_completion_tokens`, and an ignored cap costs money.
    - `rename`: parameters that have another name there (`seed` is Mistral's `random_seed`).
    - `drop`: parameters that the server does not know; they are left out and told to the client.
    - `extras`: parameters outside OpenAI's list that may pass. Anything else outside of it is dropped, for
      nobody knows what a server does with it (a gateway behind us may read `api_base`).
    - `parts`: the kinds of content part that the server reads; another one is the client's error, for leaving a
      picture or a recording out would change the question. Empty: any may pass.
    - `functions_only`: tools other than functions are the client's error, for the same reason.
    - `allowed_tools`: false where this form of `tool_choice` is unknown; only the tools that it allows are sent.
    - `required_word`: the server's word for `tool_choice: required` (Mistral: `any`).
    - `short_call_ids`: ids of tool calls must be nine letters and digits (Mistral answers 400 to any other). Ids that
      another vendor made become such ones, the same in the call and in its result.
    - `reasoning_back`: the reasoning of earlier turns that clients send back. `drop`: the server refuses the unknown
      field. `keep`: the server wants it as `reasoning_content` in a tool loop (DeepSeek answers 400 without it); a
      client that has lost it gets its answer without thinking.
    - `thinking_switch`: `reasoning_effort` means nothing to the server, and something else does: `template` is
      `chat_template_kwargs.enable_thinking` (Qwen-family templates; with thinking off their reasoning parser may file
      the whole answer under reasoning; then it is moved), `enable_thinking` the parameter of that name (DashScope),
      `thinking` is `{"type": "enabled"}` (DeepSeek, Z.ai), `reasoning` is `{"effort": ...}` (OpenRouter). `none` is
      off, any other effort on; a client that sends the switch itself is right.
    - `thinks_unasked`: the server thinks unless it is told not to, and thinking costs money: it is told so unless the
      client asks for it.
    - `efforts`: the words that the server knows for `reasoning_effort`; any other becomes the nearest. Empty: all.
    - `stream_usage`: false where `stream_options` is refused because usage always comes (Mistral).
    - `stream_only`: models, as patterns, that answer in streams only; a whole answer is put together from one.
    - `prefill`: how the server is told that the last message is the beginning of the answer, and goes on exactly there:
      `template` by `continue_final_message` (vLLM, SGLang), `prefix` and `partial` by that member of the message
      (Mistral and DeepSeek's beta; Moonshot and DashScope), `plain` by nothing. Empty: it cannot, or nobody knows.
    - `model_prefix`: what the server puts before the ids that it lists, but does not want back (Gemini: `models/`).

    What comes back:

    - `think_tags`: reasoning arrives inside the text as `<think>...</think>` when the server runs without a
      reasoning parser. `inline`: the model writes both tags. `prefilled`: the template has written the first.
    - `tool_call_tags`: without a tool parser, calls arrive as `<tool_call>{...}</tool_call>` in the text
      (the Hermes form). Looked for only when the request offered tools.
    - `reasoning_field`: the name under which reasoning arrives, where it is neither `reasoning` nor
      `reasoning_content`.
    - `errors`: the server's own error codes, which say more than its HTTP status. A name may be a pattern (`MAX_*`).

    What else it serves, as paths behind the base URL:

    - `completions`: it has `/completions`; without it a text is continued by a chat with one user message.
    - `rerank`: where documents are ranked.
    - `tokenize`: where tokens are counted (vLLM); empty: nowhere.
    - `plain_images`: image models, as patterns, that refuse `response_format` because they always answer in base64.
    """

    developer_role: bool = True
    system_first: bool = False
    max_tokens_only: bool = False
    rename: dict[str, str] = {}
    drop: frozenset[str] = frozenset()
    extras: frozenset[str] = frozenset()
    parts: frozenset[str] = frozenset()
    functions_only: bool = False
    allowed_tools: bool = True
    required_word: str = "required"
    short_call_ids: bool = False
    reasoning_back: Literal["", "drop", "keep"] = ""
    thinking_switch: Literal["", "template", "enable_thinking", "thinking", "reasoning"] = ""
    thinks_unasked: bool = False
    efforts: frozenset[Effort] = frozenset()
    stream_usage: bool = True
    stream_only: frozenset[str] = frozenset()
    prefill: Literal["", "template", "prefix", "partial", "plain"] = ""
    model_prefix: str = ""
    think_tags: Literal["", "inline", "prefilled"] = ""
    tool_call_tags: bool = False
    reasoning_field: str = ""
    errors: dict[str, Meaning] = {}
    completions: bool = False
    rerank: str = "rerank"
    tokenize: str = ""
    plain_images: frozenset[str] = frozenset()


class Row(Quirks, frozen=True):
    """One kind of server.

    - `base_url`: where it lives, up to and including the version; empty: the operator must say.
    - `needs_key`: it refuses calls without a key, so a configuration without one is an error.
    - `base_form`: how the address of an account looks, for servers that have the account in the path; `<name>` stands
      for what is the account's own. A base URL with another path is an error at start.

    `@name` in a list stands for the list of that name under `[_lists]`.
    """

    base_url: str = ""
    base_form: str = ""
    needs_key: bool = False

    def check_form(self, name: str, url: str) -> None:
        """Raises `ConfigError` for a base URL that cannot be an account's."""
        path = re.escape(urlsplit(self.base_form).path)
        form = re.sub("<[a-z]+>", "[^/<>]+", path)
        if self.base_form and not re.fullmatch(f".*{form}", urlsplit(url).path):
            raise ConfigError(f"providers.{name}.base_url: must look like {self.base_form}, with a name of your own")

    def with_options(self, options: dict[str, Any], quirks: Quirks) -> "Row":
        """The row for one account: what the operator wrote under `options`, already read as `quirks`, wins."""
        return msgspec.structs.replace(self, **{name: getattr(quirks, name) for name in options})


def fits(model: str, patterns: Iterable[str]) -> bool:
    """Does one of the patterns (`gpt-image*`) fit the model's name? Case does not matter."""
    return any(fnmatchcase(model.lower(), pattern.lower()) for pattern in patterns)


@cache
def rows() -> dict[str, Row]:
    """All rows by name. Raises `ConfigError` for a mistake in the file."""
    return parse_rows(_FILE.read_text(encoding="utf-8"))


@cache
def _names() -> dict[Operation, list[str]]:
    tables = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    return msgspec.convert(tables[_NAMES], dict[Operation, list[str]])


def serves(model: str) -> frozenset[Operation]:
    """What a model can do, by its name alone: the first pattern that fits decides, and whatever fits none chats."""
    found = (operation for operation, patterns in _names().items() if fits(model, patterns))
    return frozenset({next(found, Operation.CHAT)})


def parse_rows(text: str) -> dict[str, Row]:
    """Rows out of TOML text. Raises `ConfigError` that names the file, the row and the field."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{_FILE.name}: is not TOML: {error}") from None
    lists = tables.pop(_LISTS, {})
    tables.pop(_NAMES, None)
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
