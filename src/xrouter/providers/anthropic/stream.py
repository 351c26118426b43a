"""A streamed answer: the payload of one event -> ours. The names of the events stand in the payloads, too.

Source: https://docs.anthropic.com/en/api/messages-streaming
"""

from typing import Any, Final

import msgspec
from msgspec import Raw

from xrouter.core.chat import Delta, Event, Finish, Reasoning, Start, ToolDelta

from .answer import Reading, finish_reason, stopped_at
from .blocks import redacted, signed
from .unfence import Unfencer
from .usage import read_usage

_READ: Final = frozenset({"text", "thinking", "redacted_thinking", "tool_use"})


class _Block:
    """One content block that is open. `call` is our number of a tool call, -1 for anything else; `other` is a block of
    a kind that has no event of its own, such as those of the vendor's tools."""

    __slots__ = ("arguments", "call", "kind", "other", "signature", "text")

    def __init__(self, kind: str, call: int, other: dict[str, Any] | None) -> None:
        self.kind = kind
        self.call = call
        self.other = other
        self.arguments = False
        self.text: list[str] = []
        self.signature = ""


class StreamReader:
    """One stream. `done` after `message_stop`; `complete` when the answer has its stop reason."""

    cut_short = False  # the vendor knows stop sequences itself

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._blocks: dict[int, _Block] = {}
        self._usage: dict[str, Any] = {}
        self._calls = 0
        self._thoughts = 0
        self._fence = Unfencer() if reading.wants_object else None
        self._began = False
        self.complete = False
        self.done = False

    def read(self, data: bytes) -> list[Event]:
        """The events of one payload. Raises `UpstreamError`: in-band errors, and what is no event of this vendor."""
        try:
            return self._read(msgspec.json.decode(data))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise self._reading.broken(f"sent a broken event: {type(error).__name__}") from None

    def end(self) -> None:
        """The stream is over. Raises `ProviderUnavailable` unless it is complete."""
        if not self._began:
            raise self._reading.broken("ended its stream without an answer")
        if not self.complete:
            raise self._reading.broken("ended its stream before the answer was finished")

    def _read(self, event: Any) -> list[Event]:
        kind = event.get("type")
        if kind == "content_block_delta":
            return self._delta(self._blocks[event["index"]], event["delta"])
        if kind == "content_block_start":
            return self._open(event["index"], event["content_block"])
        if kind == "content_block_stop":
            return self._close(event["index"])
        if kind == "message_start":
            return self._start(event["message"])
        if kind == "message_delta":
            return self._finish(event)
        if kind == "message_stop":
            self.done = True
        elif kind == "error" or (kind is None and "error" in event):
            raise self._reading.in_band(event)
        return []  # `ping`, and what later versions will add

    def _start(self, message: dict[str, Any]) -> list[Event]:
        self._began = True
        self._usage = dict(message.get("usage") or {})
        model = message.get("model")
        return [Start(model if isinstance(model, str) else None)]

    def _open(self, index: int, found: dict[str, Any]) -> list[Event]:
        kind = found["type"]
        other = None if kind in _READ else found
        block = self._blocks[index] = _Block(kind, self._calls if kind == "tool_use" else -1, other)
        if kind == "text" and found.get("text"):
            return self._say(found["text"])
        if kind == "thinking" and found.get("thinking"):
            return self._delta(block, {"type": "thinking_delta", "thinking": found["thinking"]})
        if kind == "redacted_thinking":
            self._thoughts += 1
            return [Reasoning("", extra=_details(redacted(found["data"], self._thoughts - 1)))]
        if kind != "tool_use":
            return []
        self._calls += 1
        events: list[Event] = [ToolDelta(block.call, found["id"], found["name"])]
        if found.get("input"):
            block.arguments = True
            events.append(ToolDelta(block.call, arguments=msgspec.json.encode(found["input"]).decode()))
        return events

    def _delta(self, block: _Block, delta: dict[str, Any]) -> list[Event]:
        kind = delta["type"]
        if kind == "text_delta":
            return self._say(delta["text"])
        if kind == "thinking_delta":
            block.text.append(delta["thinking"])
            return [Reasoning(delta["thinking"])]
        if kind == "signature_delta":
            block.signature += delta["signature"]
        elif kind == "input_json_delta" and block.call >= 0:
            piece = delta["partial_json"]
            block.arguments = block.arguments or bool(piece)
            return [ToolDelta(block.call, arguments=piece)] if piece else []
        elif kind == "input_json_delta":
            block.text.append(delta["partial_json"])
        elif kind == "citations_delta":
            return [Delta("", extra={"citations": Raw(msgspec.json.encode([delta["citation"]]))})]
        return []

    def _say(self, text: str) -> list[Event]:
        if self._fence is not None:
            text = self._fence.feed(text)
        return [Delta(text)] if text else []

    def _close(self, index: int) -> list[Event]:
        block = self._blocks.pop(index)
        if block.call >= 0 and not block.arguments:
            return [ToolDelta(block.call, arguments="{}")]
        if block.kind == "thinking" and block.signature:
            self._thoughts += 1
            whole = signed("".join(block.text), block.signature, self._thoughts - 1)
            return [Reasoning("", signature=block.signature, extra=_details(whole))]
        if block.other is not None:
            said = "".join(block.text)
            found = {**block.other, "input": msgspec.json.decode(said)} if said else block.other
            return [Delta("", extra={"content_blocks": Raw(msgspec.json.encode([found]))})]
        return []

    def _finish(self, event: dict[str, Any]) -> list[Event]:
        """The end comes with the counts so far; of what is told twice the later holds."""
        self._usage |= {name: value for name, value in (event.get("usage") or {}).items() if value is not None}
        delta = event["delta"]
        native = delta.get("stop_reason")
        if not isinstance(native, str) or self.complete:
            return []
        events: list[Event] = []
        if self._fence is not None and (rest := self._fence.end()):
            events.append(Delta(rest))
        usage = read_usage(self._usage)
        if usage is not None:
            events.append(usage)
        self.complete = self._began
        events.append(Finish(finish_reason(native), 0, native, stopped_at(delta.get("stop_sequence"))))
        return events


def _details(detail: dict[str, Any]) -> dict[str, Raw]:
    return {"reasoning_details": Raw(msgspec.json.encode([detail]))}
