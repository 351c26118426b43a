"""A chat as it travels through the gateway: one request in, a stream of events out.

The events are a closed union. They were checked against three client dialects before they were frozen:
OpenAI chat chunks, Anthropic Messages (`content_block_*`, `thinking_delta` + `signature_delta`) and the
Responses API (`output_text.delta`, `function_call_arguments.delta`, `reasoning_*`); what only one vendor
knows travels in `extra` (beside what it belongs to) or as an `Extension`. No adapter makes an `Extension` or a
`Reasoning.signature` yet: they stand here because the union is frozen and the later dialects need them.
"""

from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

import msgspec
from msgspec import Raw, Struct

from xrouter.core.operation import Operation

Fields: TypeAlias = dict[str, Raw]
"""Fields that we pass on without knowing them: name -> the JSON text as it came."""

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call", "error"]
FINISH_REASONS: frozenset[str] = frozenset(get_args(FinishReason))

Role = Literal["system", "developer", "user", "assistant", "tool", "function"]


# ── the request ──────────────────────────────────────────────────────────────────────────────────────────


class ToolCall(Struct, frozen=True, gc=False):
    """A finished tool call. `arguments` is JSON text, whatever the vendor's own form is."""

    id: str
    name: str
    arguments: str
    type: str = "function"
    extra: Fields | None = None


class Message(Struct, frozen=True):
    """One message of the conversation, decoded only by the steps that need it.

    `content` is text, a list of parts (each a JSON object with `type`), or None.
    """

    role: Role
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None


class Tool(Struct, frozen=True):
    """A function the model may call. `parameters` is a JSON Schema object."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None


TEXT: Final = frozenset({"text"})
"""What the messages of nearly every chat hold."""


class ChatRequest(Struct, frozen=True):
    """What the client asked for.

    `fields` holds every other top-level field in OpenAI's spelling as its own JSON text; the dialect has
    checked the type of each field it knows and the syntax of all. Steps decode one when they need it.

    `prompt` is set for `/v1/completions`: the text to be continued. `messages` then hold it as one user message,
    for vendors that only chat. `prompts` are all of them where the client sent several: no vendor gets those, the
    pipeline makes a request of each (`gateway/fan_out.py`), and `prompt` and `messages` hold the first.

    `legacy_functions`: the client offered its tools as `functions`, and reads calls in that form only. The fields hold
    them as tools.

    `inputs` are the kinds of content in its messages: text, image, file, audio.
    `prefilled`: the last message is the beginning of the answer, and the model shall go on exactly there. Only set for
    deployments that can do it (`Deployment.prefill`).
    """

    operation: ClassVar[Operation] = Operation.CHAT

    model: str
    stream: bool
    fields: Fields
    models: tuple[str, ...] = ()
    include_usage: bool = False
    prompt: str | None = None
    prompts: tuple[str, ...] = ()
    legacy_functions: bool = False
    inputs: frozenset[str] = TEXT
    prefilled: bool = False

    def field(self, name: str) -> Any:
        """The decoded value of a field, or None where the client sent none (or null)."""
        raw = self.fields.get(name)
        return None if raw is None else msgspec.json.decode(raw)

    @property
    def max_tokens(self) -> int | None:
        """The cap on generated tokens; `max_completion_tokens` wins over the older name."""
        found: int | None = self.field("max_completion_tokens")
        if found is None:
            found = self.field("max_tokens")
        return found

    def messages(self) -> list[Message]:
        """The conversation, decoded. Costs about 1 us per message and 1 us per KB: ask once."""
        return [_message(item) for item in msgspec.json.decode(self.fields["messages"])]

    def tools(self) -> list[Tool]:
        """The functions on offer."""
        return [_tool(item["function"]) for item in self.field("tools") or () if item.get("type") == "function"]


def _message(item: dict[str, Any]) -> Message:
    calls = tuple(
        ToolCall(
            id=call.get("id") or "",
            name=(call.get("function") or {}).get("name") or "",
            arguments=(call.get("function") or {}).get("arguments") or "",
        )
        for call in item.get("tool_calls") or ()
    )
    return Message(
        role=item["role"],
        content=item.get("content"),
        name=item.get("name"),
        tool_calls=calls,
        tool_call_id=item.get("tool_call_id"),
    )


def _tool(function: dict[str, Any]) -> Tool:
    return Tool(
        name=function["name"],
        description=function.get("description"),
        parameters=function.get("parameters"),
    )


# ── usage ────────────────────────────────────────────────────────────────────────────────────────────────


MOST_TOKENS: Final = 1_000_000_000
"""A report of more than that is absurd: then the gateway estimates."""


def token_count(value: object) -> int | None:
    """A vendor's count that can be billed, or None. A vendor's number becomes money, so it is read with distrust."""
    return value if type(value) is int and 0 <= value <= MOST_TOKENS else None


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one answer. Also an event: the last report of an attempt wins.

    `cached_tokens` and `cache_write_tokens` are parts of `input_tokens`, `reasoning_tokens` of
    `output_tokens`. `estimated` marks our own count where the vendor gave none. `extra` keeps the vendor's
    further fields.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    estimated: bool = False
    extra: Fields | None = None

    @property
    def total_tokens(self) -> int:
        return self.input_tokens + self.output_tokens


# ── the events ───────────────────────────────────────────────────────────────────────────────────────────


class Start(Struct, frozen=True):
    """The vendor began to answer (a role-only chunk, `message_start`). Not content.

    `extra` holds fields that stand on every chunk of the stream from here on (`system_fingerprint`, ...);
    a vendor that changes one in mid-stream gets a second `Start`.
    """

    model: str | None = None
    extra: Fields | None = None


class Delta(Struct, frozen=True, gc=False):
    """More text of the answer."""

    text: str
    choice: int = 0
    logprobs: Raw | None = None
    extra: Fields | None = None


class Reasoning(Struct, frozen=True, gc=False):
    """More of the model's visible reasoning; `signature` closes a signed block (Anthropic)."""

    text: str
    choice: int = 0
    signature: str | None = None
    extra: Fields | None = None


class Refusal(Struct, frozen=True, gc=False):
    """More of the model's refusal, where the vendor keeps it apart from the answer."""

    text: str
    choice: int = 0
    logprobs: Raw | None = None


class ToolDelta(Struct, frozen=True, gc=False):
    """More of a tool call. `id` and `name` are set on the first piece of call number `index` and empty after;
    `arguments` is the next piece of JSON text."""

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""
    choice: int = 0
    type: str = "function"
    extra: Fields | None = None


class Finish(Struct, frozen=True, gc=False):
    """One choice is complete. `native` is the vendor's own word for `reason`."""

    reason: FinishReason
    choice: int = 0
    native: str | None = None
    extra: Fields | None = None


class Extension(Struct, frozen=True):
    """A vendor's own payload, for clients of the same dialect. Others skip it."""

    name: str
    payload: Raw


class AnswerMessage(Struct, frozen=True):
    """The whole assistant message of a non-streamed answer."""

    content: str | None
    tool_calls: tuple[ToolCall, ...] = ()
    reasoning: str | None = None
    refusal: str | None = None
    extra: Fields | None = None


class Choice(Struct, frozen=True):
    """One of the alternatives of a non-streamed answer."""

    index: int
    message: AnswerMessage
    finish_reason: FinishReason
    native_finish_reason: str | None = None
    logprobs: Raw | None = None
    extra: Fields | None = None


class Answer(Struct, frozen=True):
    """The one event of a non-streamed answer: the whole message, nothing folded away."""

    choices: tuple[Choice, ...]
    usage: Usage | None = None
    model: str | None = None
    extra: Fields | None = None


Event: TypeAlias = Start | Delta | Reasoning | Refusal | ToolDelta | Finish | Usage | Extension | Answer
