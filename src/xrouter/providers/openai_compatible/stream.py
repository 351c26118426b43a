"""A streamed answer: the payload of one `data:` line -> events. The hot path: it runs once per token.

Source: https://platform.openai.com/docs/api-reference/chat-streaming
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.chat import Delta, Event, Fields, Finish, Reasoning, Refusal, Start, ToolDelta
from xrouter.core.errors import ProviderUnavailable, UpstreamError

from .errors import unlisted
from .finish import BROKEN, finish_reason
from .json_fields import (
    as_fields,
    as_fields_list,
    checked,
    content_text,
    integer,
    is_null,
    known,
    text,
)
from .plain import MOST_MISSES, text_delta
from .reading import Reading
from .text import Called, Piece, ThinkTags, Thought, ToolCallTags
from .tool_calls import ToolCallPieces
from .usage import read_usage

_UNTOLD_LIMIT = 2048  # characters of reasoning that may yet turn out to be the answer


class StreamReader:
    """One stream. `done` after `[DONE]`; `complete` when every choice that began has finished."""

    cut_short = False  # these servers know `stop` themselves

    def __init__(self, provider: str, in_band: Callable[[Any], UpstreamError], reading: Reading) -> None:
        self._provider = provider
        self._in_band = in_band
        self._reading = reading
        self._choices: dict[int, _ChoiceReader] = {}
        self._started = False
        self._standing: Fields = {}  # top-level fields that stand on every chunk
        self._last_top: Fields = {}  # as they were on the last one
        self._misses = 0  # chunks in a row that were no plain text
        self.done = False

    @property
    def complete(self) -> bool:
        return bool(self._choices) and all(choice.finished for choice in self._choices.values())

    def read(self, data: bytes) -> list[Event]:
        """The events of one payload. Raises `UpstreamError`: in-band errors, and what is no chunk."""
        if self._misses < MOST_MISSES and self._started:
            plain = text_delta(data, self._last_top)
            if plain is not None and (choice := self._choices.get(plain.choice)) is not None and choice.plain:
                self._misses = 0
                return [plain]
            self._misses += 1
        if data.startswith(b"[DONE]"):
            self.done = True
            return []
        try:
            if data.startswith(b"["):  # an error in a list
                data = msgspec.json.encode(unlisted(msgspec.json.decode(data)))
            return self._read(as_fields(data))
        except (ValueError, RecursionError) as error:
            raise self._broken(f"sent a broken chunk: {type(error).__name__}") from None

    def end(self) -> None:
        """The stream is over. Raises `ProviderUnavailable` unless it is complete."""
        if not self._choices:
            raise self._broken("ended its stream without an answer")
        if not self.complete:
            raise self._broken("ended its stream before the answer was finished")

    def _read(self, top: Fields) -> list[Event]:
        choices, usage = top.pop("choices", None), top.pop("usage", None)
        if not is_null(top.get("error")) or (choices is None and usage is None and "message" in top):
            raise self._in_band(msgspec.json.decode(msgspec.json.encode(top)))
        events: list[Event] = []
        self._stand(top, events)
        if choices is not None:
            for choice in as_fields_list(choices) if not is_null(choices) else ():
                index = integer(choice.pop("index", None))
                reader = self._choices.get(index)
                if reader is None:
                    reader = self._choices[index] = _ChoiceReader(index, self._reading)
                native = reader.read(choice, events)
                if native in BROKEN:
                    raise self._broken(f"broke off its answer: finish reason {native}")
        if usage is not None and (report := read_usage(usage)) is not None:
            events.append(report)
        return events

    def _stand(self, top: Fields, events: list[Event]) -> None:
        """The first chunk, and every change of the fields that stand on all chunks, makes a `Start`."""
        model = top.pop("model", None)
        for name in ("id", "object", "created", "obfuscation"):  # ours, ours, ours; and padding without a use here
            top.pop(name, None)
        if self._started and (not top or top == self._last_top):
            return
        self._last_top = top
        fresh = {name: raw for name, raw in (known(top) or {}).items() if self._standing.get(name) != raw}
        if fresh or not self._started:
            self._started = True
            self._standing = {**self._standing, **(checked(fresh) or {})}
            events.append(Start(text(model) or None, self._standing or None))

    def _broken(self, what: str) -> ProviderUnavailable:
        return ProviderUnavailable(f"{self._provider} {what}", provider=self._provider)


class _ChoiceReader:
    """One of the alternatives of a stream."""

    __slots__ = (
        "_call_tags",
        "_called_in_text",
        "_calls",
        "_index",
        "_misfiled",
        "_reasoning_field",
        "_think_tags",
        "finished",
    )

    def __init__(self, index: int, reading: Reading) -> None:
        self._index = index
        self._calls = ToolCallPieces(reading.call_ids, index)
        self._think_tags = ThinkTags(prefilled=reading.think_tags == "prefilled") if reading.think_tags else None
        self._call_tags = ToolCallTags() if reading.tool_call_tags else None
        self._misfiled = _Misfiled(index, live=reading.think_tags == "prefilled") if reading.may_be_misfiled else None
        self._called_in_text = False
        self._reasoning_field = reading.reasoning_field
        self.finished = False

    @property
    def plain(self) -> bool:
        """Is a text that comes now the answer's, with nothing to look for in it?"""
        return self._think_tags is None and self._call_tags is None and self._misfiled is None and not self.finished

    def read(self, choice: Fields, events: list[Event]) -> str:
        """Appends the events of one chunk's choice; gives the native finish reason where it ends."""
        delta_raw, finish_raw = choice.pop("delta", None), choice.pop("finish_reason", None)
        logprobs = choice.pop("logprobs", None)
        native = text(finish_raw) if finish_raw is not None else ""
        before = len(events)
        delta = as_fields(delta_raw) if not is_null(delta_raw) else {}  # type: ignore[arg-type]  # not None
        if delta_raw is None and "text" in choice:  # `/completions`
            delta = {"content": choice.pop("text")}
        if delta:
            self._read_delta(delta, events)
        if choice and not native and (beside := known(choice)):
            delta = {**delta, **beside}
        if delta or not is_null(logprobs):
            self._attach(delta, None if is_null(logprobs) else logprobs, events, before)
        if native and native not in BROKEN and not self.finished:
            self._finish(native, choice, events)
        return native

    def _read_delta(self, delta: Fields, events: list[Event]) -> None:
        delta.pop("role", None)
        content, refusal = delta.pop("content", None), delta.pop("refusal", None)
        newer, older = delta.pop("reasoning", None), delta.pop("reasoning_content", None)
        if self._reasoning_field and not is_null(own := delta.pop(self._reasoning_field, None)):
            newer = own
        calls, legacy = delta.pop("tool_calls", None), delta.pop("function_call", None)
        thought = ""
        if newer is not None or older is not None:
            thought = text(newer) or text(older)  # a server in transition sends both, and they say the same
        said, in_parts = content_text(content)
        if thought or in_parts:
            self._think(thought or in_parts, events)
        if said:
            if self._think_tags is None and self._call_tags is None and self._misfiled is None:
                events.append(Delta(said, self._index))
            else:
                self._say(said, events)
        if refusal is not None and (refused := text(refusal)):
            events.append(Refusal(refused, self._index))
        if not is_null(calls):
            self._flush(events)
            events += self._calls.read(calls)  # type: ignore[arg-type]  # not None
        if not is_null(legacy):
            self._flush(events)
            events.append(self._calls.legacy(legacy))  # type: ignore[arg-type]  # not None

    def _think(self, thought: str, events: list[Event]) -> None:
        # A field of its own means that the server has a parser, so tags in the text are just text.
        if self._think_tags is not None:
            self._place(self._think_tags.end(), events)
            self._think_tags = None
        self._reason(thought, events)

    def _reason(self, thought: str, events: list[Event]) -> None:
        if self._misfiled is None:
            events.append(Reasoning(thought, self._index))
        else:
            self._misfiled.think(thought, events)

    def _say(self, said: str, events: list[Event]) -> None:
        if self._think_tags is None:
            self._tell(said, events)
        else:
            self._place(self._think_tags.feed(said), events)

    def _place(self, pieces: list[Piece], events: list[Event]) -> None:
        for piece in pieces:
            if isinstance(piece, Thought):
                self._reason(piece.text, events)
            elif isinstance(piece, str):
                self._tell(piece, events)

    def _tell(self, said: str, events: list[Event]) -> None:
        """Text of the answer, which may hold calls."""
        if self._misfiled is not None:
            self._misfiled.settle(events)
            self._misfiled = None
        if self._call_tags is None:
            events.append(Delta(said, self._index))
        else:
            self._tell_pieces(self._call_tags.feed(said), events)

    def _tell_pieces(self, pieces: list[Piece], events: list[Event]) -> None:
        for piece in pieces:
            if isinstance(piece, Called):
                self._called_in_text = True
                events.append(self._calls.whole(piece))
            elif isinstance(piece, str):
                events.append(Delta(piece, self._index))

    def _flush(self, events: list[Event]) -> None:
        """Nothing more will come to complete a tag: hand out what was held back."""
        if self._think_tags is not None:
            self._place(self._think_tags.end(), events)
        if self._call_tags is not None:
            self._tell_pieces(self._call_tags.end(), events)

    def _finish(self, native: str, choice: Fields, events: list[Event]) -> None:
        self.finished = True
        self._flush(events)
        reason = finish_reason(native)
        if self._misfiled is not None:
            if reason == "stop" and not self._calls:
                self._misfiled.move(events)
            else:
                self._misfiled.settle(events)
        if reason == "stop" and self._called_in_text:
            reason = "tool_calls"
        report = read_usage(choice.pop("usage", None))  # Moonshot's place for it
        events.append(Finish(reason, self._index, native, checked(choice) or None))
        if report is not None:
            events.append(report)

    def _attach(self, extra: Fields, logprobs: Raw | None, events: list[Event], before: int) -> None:
        """Unknown fields of the delta, and logprobs, go onto the first event that the delta made."""
        checked(extra)
        if logprobs is not None:
            str(logprobs, "utf-8")
        for place in range(before, len(events)):
            event = events[place]
            if type(event) is Delta and (logprobs is not None or extra):
                events[place] = Delta(event.text, event.choice, logprobs, extra or None)
                return
            if logprobs is None and type(event) in (Reasoning, ToolDelta):
                events[place] = msgspec.structs.replace(event, extra={**(event.extra or {}), **extra} or None)  # type: ignore[union-attr]
                return
        if logprobs is not None or known(extra):
            events.append(Delta("", self._index, logprobs, extra or None))


class _Misfiled:
    """Reasoning of a model that was told not to think: maybe a parser filed the answer there.

    A little of it waits; more than `_UNTOLD_LIMIT` goes out as reasoning, so that a model that thinks all the
    same is not silent. If the answer ends with nothing else said, all of it was the answer. With `live`
    nothing waits (a template that prefills the tag: reasoning is what to expect).
    """

    __slots__ = ("_index", "_live", "_size", "_thoughts")

    def __init__(self, index: int, *, live: bool) -> None:
        self._index = index
        self._live = live
        self._size = 0
        self._thoughts: list[str] = []

    def think(self, thought: str, events: list[Event]) -> None:
        self._thoughts.append(thought)
        self._size += len(thought)
        if self._live:
            events.append(Reasoning(thought, self._index))
        elif self._size > _UNTOLD_LIMIT:
            self.settle(events)

    def settle(self, events: list[Event]) -> None:
        """It is reasoning."""
        if not self._live and self._thoughts:
            events.append(Reasoning("".join(self._thoughts), self._index))
        self._live = True

    def move(self, events: list[Event]) -> None:
        """It was the answer."""
        if self._thoughts:
            events.append(Delta("".join(self._thoughts), self._index))
