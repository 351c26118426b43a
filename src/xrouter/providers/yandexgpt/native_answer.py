"""The answers of the native methods -> events and values.

A stream is lines of JSON, each with the whole text so far; `{"result": ...}` is around every line and around the one
body of a call that is not streamed. Counts are text, calls have no ids, arguments are objects.
"""

import base64
import binascii
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from xrouter.core.chat import (
    Answer,
    AnswerMessage,
    Choice,
    Delta,
    Event,
    Finish,
    FinishReason,
    Start,
    ToolCall,
    ToolDelta,
    Usage,
    token_count,
)
from xrouter.core.embeddings import Embeddings
from xrouter.core.errors import ProviderUnavailable, UpstreamError
from xrouter.core.images import Image, Images
from xrouter.core.stops import StopCutter

_PREFIX: Final = "ALTERNATIVE_STATUS_"
_FINISH: Final[Mapping[str, FinishReason]] = {
    "FINAL": "stop",
    "TRUNCATED_FINAL": "length",
    "CONTENT_FILTER": "content_filter",
    "TOOL_CALLS": "tool_calls",
    "UNSPECIFIED": "stop",
}
_EXACT: Final = 2**53
_SSE: Final = b"data:"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a request leaves to know for its answer. `call_ids` begins the ids of calls; `stops` end the text."""

    provider: str
    in_band: Callable[[Any], UpstreamError]
    call_ids: str
    stops: tuple[str, ...] = ()
    one_call: bool = False

    def broken(self, what: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self.provider} {what}", provider=self.provider)


class _State:
    """One line, or the one body: the first alternative, there is no way to ask for more."""

    def __init__(self, data: bytes, reading: Reading) -> None:
        body = msgspec.json.decode(data)
        top = _object(body)
        if "result" not in top and "alternatives" not in top:
            raise reading.in_band(body)
        if top.get("error") is not None:
            raise reading.in_band(body)
        result = _object(top.get("result", top))
        alternatives = _list(result.get("alternatives"))
        first = _object(alternatives[0] if alternatives else None)
        message = _object(first.get("message"))
        self.text = _text(message.get("text"))
        status = _text(first.get("status"))
        self.native = status or None
        self.status = status.removeprefix(_PREFIX)
        calls = _list(_object(message.get("toolCallList")).get("toolCalls"))
        self.calls = [_call(call) for call in calls[: 1 if reading.one_call else None]]
        self.usage = read_usage(result.get("usage"))

    @property
    def is_last(self) -> bool:
        return self.status not in ("PARTIAL", "")

    @property
    def reason(self) -> FinishReason:
        return _FINISH.get(self.status, "stop")


def read_answer(body: bytes, reading: Reading) -> Answer:
    """The whole answer: the last line of the body, where there are several. Raises `UpstreamError`."""
    try:
        state = _State(_payload(body.strip().rpartition(b"\n")[2]), reading)
    except (ValueError, RecursionError) as error:
        raise reading.broken(f"answered a broken body: {type(error).__name__}") from None
    if not state.is_last:
        raise reading.broken("ended its answer before it was finished")
    cutter = StopCutter(reading.stops)
    text = cutter.feed(state.text) + cutter.end()
    calls = tuple(
        ToolCall(f"{reading.call_ids}_{place}", name, arguments) for place, (name, arguments) in enumerate(state.calls)
    )
    if cutter.hit:
        calls = ()
    message = AnswerMessage(content=text or (None if calls else ""), tool_calls=calls)
    reason: FinishReason = "stop" if cutter.hit else "tool_calls" if calls else state.reason
    return Answer((Choice(0, message, reason, state.native),), state.usage)


class StreamReader:
    """One stream: cumulative texts become deltas.

    Where the vendor takes back what it has said (its filter does), nothing more is shown, and the answer ends as
    filtered. A stream that ends with a text that goes on from what was shown is whole all the same.
    """

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._cutter = StopCutter(reading.stops)
        self._seen = ""
        self._started = False
        self.done = False
        self.complete = False
        self.cut_short = False

    def read(self, data: bytes) -> list[Event]:
        """The events of one line. Raises `UpstreamError`."""
        data = _payload(data)
        if not data or data == b"[DONE]":
            return []
        try:
            state = _State(data, self._reading)
        except (ValueError, RecursionError) as error:
            raise self._reading.broken(f"sent a broken line: {type(error).__name__}") from None
        events: list[Event] = []
        if not self._started:
            self._started = True
            events.append(Start())
        taken_back = not state.text.startswith(self._seen) and not (state.calls and not state.text)
        if not taken_back and state.text:
            fresh, self._seen = state.text[len(self._seen) :], state.text
            if shown := self._cutter.feed(fresh):
                events.append(Delta(shown))
        if self._cutter.hit:
            self.cut_short = True
            self._finish("stop", None, state, events)
        elif state.is_last:
            if rest := self._cutter.end():
                events.append(Delta(rest))
            for place, (name, arguments) in enumerate(state.calls):
                events.append(ToolDelta(place, f"{self._reading.call_ids}_{place}", name, arguments))
            reason: FinishReason = "tool_calls" if state.calls else state.reason
            self._finish("content_filter" if taken_back else reason, state.native, state, events)
        return events

    def end(self) -> None:
        """The stream is over. Raises `ProviderUnavailable` unless the answer was finished."""
        if not self._started:
            raise self._reading.broken("ended its stream without an answer")
        if not self.complete:
            raise self._reading.broken("ended its stream before the answer was finished")

    def _finish(self, reason: FinishReason, native: str | None, state: _State, events: list[Event]) -> None:
        self.complete = self.done = True
        events.append(Finish(reason, 0, native))
        if state.usage is not None:
            events.append(state.usage)


def read_usage(found: Any) -> Usage | None:
    """Tokens as reported, text or numbers; None where the report is absent or absurd, then the gateway estimates."""
    usage = _object(found)
    given, made = count(usage.get("inputTextTokens")), count(usage.get("completionTokens"))
    if given is None or made is None:
        return None
    thought = count(_object(usage.get("completionTokensDetails")).get("reasoningTokens")) or 0
    return Usage(given, made, reasoning_tokens=min(thought, made))


def count(value: Any) -> int | None:
    """A number of tokens, also as text; None where it is none."""
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 12:
        value = int(value)
    return token_count(value)


def read_token_count(body: bytes) -> int:
    """How many tokens `tokenize` or `tokenizeCompletion` found. Raises ValueError."""
    tokens = _object(msgspec.json.decode(body)).get("tokens")
    if not isinstance(tokens, list):
        raise ValueError("no tokens")  # noqa: TRY004 - one class for all bad bodies
    return len(tokens)


def read_model_ids(body: bytes) -> list[str]:
    """The ids in the list of the OpenAI surface. Raises ValueError."""
    rows = _object(msgspec.json.decode(body)).get("data")
    if not isinstance(rows, list):
        raise ValueError("no list")  # noqa: TRY004 - one class for all bad bodies
    return [_text(_object(row).get("id")) for row in rows]


def read_embedding(body: bytes) -> Embeddings:
    """The vector of one text. Raises ValueError for a body without one."""
    answer = _object(msgspec.json.decode(body))
    vector = answer.get("embedding")
    if not isinstance(vector, list) or not vector:
        raise ValueError("no embedding")
    numbers = tuple(float(number) for number in vector if isinstance(number, int | float))
    if len(numbers) != len(vector) or not all(map(math.isfinite, numbers)):
        raise ValueError("an embedding with something else than numbers")
    tokens = count(answer.get("numTokens"))
    return Embeddings((numbers,), None if tokens is None else Usage(tokens, 0))


class Operation(msgspec.Struct):
    """A piece of work that the vendor does beside. `error` and `response` are there once it is `done`."""

    id: str
    done: bool = False
    error: dict[str, Any] | None = None
    response: dict[str, Any] | None = None


_as_operation = msgspec.json.Decoder(Operation).decode
_OPERATION_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def read_operation(body: bytes) -> Operation:
    """How one stands. Raises ValueError, also for an id that could lead a URL elsewhere."""
    operation = _as_operation(body)
    if not _OPERATION_ID.fullmatch(operation.id):
        raise ValueError("not an operation's id")
    return operation


def read_picture(operation: Operation) -> Images:
    """The picture of a finished operation. Raises ValueError where there is none."""
    image = (operation.response or {}).get("image")
    if not isinstance(image, str) or not image:
        raise ValueError("no image")
    try:
        head = base64.b64decode(image[:16], validate=True)
    except binascii.Error:
        raise ValueError("an image that is not base64") from None
    return Images((Image(image, "image/png" if head.startswith(b"\x89PNG") else "image/jpeg"),))


def _call(call: Any) -> tuple[str, str]:
    """(name, arguments as JSON text)."""
    function = _object(_object(call).get("functionCall"))
    name = _text(function.get("name"))
    if not name:
        raise ValueError("a function call without a name")
    return name, msgspec.json.encode(_whole_numbers(_object(function.get("arguments")))).decode()


def _whole_numbers(value: Any) -> Any:
    """Numbers pass through a `Struct`, which has doubles only: 5 comes back as 5.0."""
    if isinstance(value, float) and value.is_integer() and abs(value) < _EXACT:
        return int(value)
    if isinstance(value, dict):
        return {name: _whole_numbers(item) for name, item in value.items()}
    return [_whole_numbers(item) for item in value] if isinstance(value, list) else value


def _payload(line: bytes) -> bytes:
    """A proxy or a document may put the line into an event stream."""
    return line[len(_SSE) :].strip() if line.startswith(_SSE) else line.strip()


def _object(value: Any) -> dict[str, Any]:
    """The object; an empty one for nothing. Raises ValueError for anything else."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one class for all bad bodies
    return value


def _list(value: Any) -> list[Any]:
    """The list; an empty one for nothing. Raises ValueError for anything else."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError("not a list")  # noqa: TRY004 - one class for all bad bodies
    return value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise ValueError("not a text")  # noqa: TRY004 - one class for all bad bodies
    return value
