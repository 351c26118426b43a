"""Which call a piece of a tool call belongs to, at vendors that say it badly."""

from dataclasses import dataclass

from msgspec import Raw

from xrouter.core.chat import Fields, ToolDelta

from .json_fields import as_fields_list, integer, is_null, take_fields, text
from .text import Called, json_text


@dataclass(slots=True)
class _Open:
    """A call that has begun. `number` is ours: dense, from 0."""

    number: int
    id: str
    named: bool


class ToolCallPieces:
    """The tool calls of one choice. `id_prefix` makes ids where the vendor gives none.

    Vendors known to need this: `index` absent (Mistral, some Ollama builds); `index` 0 for every parallel call
    (Gemini); another random id on every piece (older vLLM). So a name opens a call, and nothing else does where
    an index is known already; empty strings on later pieces change nothing.
    """

    def __init__(self, id_prefix: str, choice: int) -> None:
        self._id_prefix = id_prefix
        self._choice = choice
        self._count = 0
        self._last: _Open | None = None
        self._by_index: dict[int, _Open] = {}

    def __bool__(self) -> bool:
        return self._count > 0

    def read(self, raw: Raw) -> list[ToolDelta]:
        """`delta.tool_calls`. Raises ValueError for what is no list of calls."""
        return [self._piece(item) for item in as_fields_list(raw)]

    def legacy(self, raw: Raw) -> ToolDelta:
        """`delta.function_call`: the form before `tool_calls`, one call at most."""
        return self._piece({"index": Raw(b"0"), "function": raw})

    def whole(self, call: Called) -> ToolDelta:
        """A call that was found complete in the text."""
        opened = self._open("", named=True)
        return ToolDelta(opened.number, opened.id, call.name, call.arguments, self._choice)

    def _piece(self, item: Fields) -> ToolDelta:
        index_raw = item.pop("index", None)
        kind = text(item.pop("type", None)) or "function"
        call_id = text(item.pop("id", None))
        body = take_fields(item, kind if kind == "custom" else "function")
        name = text(body.pop("name", None))
        arguments = json_text(body.pop("input" if kind == "custom" else "arguments", None))
        index = None if index_raw is None or is_null(index_raw) else integer(index_raw)
        found = self._find(index, call_id, name)
        extra = {**item, **body} or None
        if found is not None:
            late_name = "" if found.named else name
            found.named = found.named or bool(name)
            return ToolDelta(found.number, "", late_name, arguments, self._choice, kind, extra)
        opened = self._open(call_id, named=bool(name))
        if index is not None:
            self._by_index[index] = opened
        return ToolDelta(opened.number, opened.id, name, arguments, self._choice, kind, extra)

    def _find(self, index: int | None, call_id: str, name: str) -> _Open | None:
        """The call that this piece continues, or None where it begins one."""
        known = self._last if index is None else self._by_index.get(index)
        if known is None or not name:
            return known
        same_id = not call_id or call_id == known.id
        if index is None:
            return known if call_id and same_id else None
        return known if same_id or not known.named else None

    def _open(self, call_id: str, *, named: bool) -> _Open:
        opened = _Open(self._count, call_id or f"{self._id_prefix}_{self._choice}_{self._count}", named)
        self._count += 1
        self._last = opened
        return opened
