"""The conversation as GigaChat takes it, in the form of either contract.

Its rules: one `system` and that first; one function call per assistant message, answered by the next one. In v1
`content` is a string and a result is the text of a JSON object; in v2 `content` is a list of parts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from xrouter.core.chat import Message, ToolCall
from xrouter.core.errors import Invalid

from .call_ids import state_in
from .uploads import MAX_IMAGES, PARTS, Upload, is_image, read_part

VendorMessage = dict[str, Any]


@dataclass(slots=True)
class Turn:
    """One message to send. `texts` are its pieces, `files` the sources of its uploads; `called` is the function that
    an assistant calls or a function message answers, by the vendor's name; `state` goes with both."""

    role: str
    texts: list[str]
    files: list[Upload] = field(default_factory=list)
    called: str = ""
    arguments: dict[str, Any] | None = None
    state: str = ""

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


_Placed = tuple[int, Message]


def turns_of(messages: Sequence[Message], names: Mapping[str, str], instruction: str = "") -> list[Turn]:
    """The conversation in order. `names` renames functions; `instruction` is added to the system message.

    Raises `Invalid` for what cannot be said there, with the place in `param`.
    """
    systems, rest = _part_systems(messages)
    told = [text for place, message in systems for text in _texts(message, place)]
    if instruction:
        told.append(instruction)
    out = [Turn("system", told)] if any(told) else []
    at = 0
    while at < len(rest):
        place, message = rest[at]
        at += 1
        if message.role == "user":
            texts, files = _content(message, place)
            out.append(Turn("user", texts, files))
        elif message.role in ("system", "developer"):
            out.append(Turn("user", _texts(message, place)))
        elif message.role == "assistant" and not message.tool_calls:
            out.append(Turn("assistant", _texts(message, place)))
        elif message.role == "assistant":
            results = []
            while at < len(rest) and rest[at][1].role == "tool":
                results.append(rest[at])
                at += 1
            out += _calls(place, message, results, names)
        else:
            raise Invalid(
                f"messages[{place}] answers no call: put it right after the assistant message with its tool_calls",
                param=f"messages[{place}]",
            )
    return out


def v1_messages(turns: Sequence[Turn], files: Mapping[str, str], *, states: bool) -> list[VendorMessage]:
    """Neighbours of one role become one message, as the vendor would have it. `files` leads from the source of an
    upload to its id; `states` says whether states are given back."""
    out: list[VendorMessage] = []
    for turn in turns:
        last = out[-1] if out else None
        plain = not turn.called and not turn.files
        if last is not None and plain and last["role"] == turn.role and last.keys() == {"role", "content"}:
            last["content"] = f"{last['content']}\n{turn.text}"
            continue
        if turn.role == "function":
            out.append({"role": "function", "name": turn.called, "content": _object_text(turn.text)})
            continue
        message: VendorMessage = {"role": turn.role, "content": turn.text}
        if turn.called:
            message["function_call"] = {"name": turn.called, "arguments": turn.arguments}
        if turn.state and states:
            message["functions_state_id"] = turn.state
        if turn.files:
            if sum(map(is_image, turn.files)) > 1:
                raise Invalid("GigaChat takes one image per message: spread them over several", param="messages")
            message["attachments"] = [files.get(upload.source, "") for upload in turn.files]
        out.append(message)
    return out


def v2_messages(turns: Sequence[Turn], files: Mapping[str, str], *, states: bool) -> list[VendorMessage]:
    """The same in parts, each of one member."""
    out: list[VendorMessage] = []
    for turn in turns:
        parts: list[dict[str, Any]] = []
        if turn.role == "function":
            parts = [{"function_result": {"name": turn.called, "result": _value(turn.text)}}]
        else:
            parts = [{"text": text} for text in turn.texts if text]
            if turn.files:
                parts.append({"files": [{"id": files.get(upload.source, "")} for upload in turn.files]})
            if turn.called:
                parts.append({"function_call": {"name": turn.called, "arguments": turn.arguments}})
        message: VendorMessage = {
            "role": "tool" if turn.role == "function" else turn.role,
            "content": parts or [{"text": ""}],
        }
        if turn.state and states:
            message["tools_state_id"] = turn.state
        out.append(message)
    return out


def uploads_of(turns: Sequence[Turn]) -> tuple[Upload, ...]:
    """Every file of the conversation once. Raises `Invalid` for more images than one call may have."""
    found = {upload.source: upload for turn in turns if turn.files for upload in turn.files}
    if not found:
        return ()
    if sum(map(is_image, found.values())) > MAX_IMAGES:
        raise Invalid(f"GigaChat takes at most {MAX_IMAGES} images in one call", param="messages")
    return tuple(found.values())


def _part_systems(messages: Sequence[Message]) -> tuple[list[_Placed], list[_Placed]]:
    """The instructions that open the conversation (or the first that comes later), and everything else.

    Those further on stay where they are and become the user's words: moved, they would change their meaning.
    """
    placed = list(enumerate(messages))
    opening = 0
    while opening < len(placed) and placed[opening][1].role in ("system", "developer"):
        opening += 1
    if opening:
        return placed[:opening], placed[opening:]
    for at, (_, message) in enumerate(placed):
        if message.role in ("system", "developer"):
            return [placed[at]], placed[:at] + placed[at + 1 :]
    return [], placed


def _calls(place: int, message: Message, results: list[_Placed], names: Mapping[str, str]) -> list[Turn]:
    """Several calls of one turn as alternating pairs: call 1, result 1, call 2, result 2."""
    out: list[Turn] = []
    waiting = list(results)
    for number, call in enumerate(message.tool_calls):
        result = _take_result(waiting, call)
        if result is None:
            raise Invalid(
                f"messages[{place}].tool_calls[{number}] has no answer: a message with role `tool` must follow",
                param=f"messages[{place}].tool_calls",
            )
        name, state = names.get(call.name, call.name), state_in(call.id)
        texts = _texts(message, place) if number == 0 else []
        out.append(Turn("assistant", texts, called=name, arguments=arguments_object(call.arguments), state=state))
        out.append(Turn("function", _texts(result[1], result[0]), called=name, state=state))
    if waiting:
        raise Invalid(
            f"messages[{waiting[0][0]}] answers no call of the assistant message before it",
            param=f"messages[{waiting[0][0]}].tool_call_id",
        )
    return out


def _take_result(waiting: list[_Placed], call: ToolCall) -> _Placed | None:
    """Remove and give the answer to `call`."""
    for at, (_, message) in enumerate(waiting):
        if message.tool_call_id == call.id:
            return waiting.pop(at)
    return None


def arguments_object(text: str) -> dict[str, Any]:
    """The arguments of a call as the object that the vendor wants; what is none is wrapped into one."""
    if not text.strip():
        return {}
    value = _value(text)
    return value if isinstance(value, dict) else {"value": value}


def _value(text: str) -> Any:
    """The JSON value that a text is, or the text itself."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return text


def _object_text(text: str) -> str:
    """A result as the text of a JSON object: itself where it is one, else `{"result": ...}`."""
    value = _value(text)
    return text if isinstance(value, dict) else msgspec.json.encode({"result": value}).decode()


def _content(message: Message, place: int) -> tuple[list[str], list[Upload]]:
    """The texts and files of a message."""
    content = message.content
    if content is None or isinstance(content, str):
        return [content or ""], []
    texts, files = [], []
    for number, part in enumerate(content):
        kind = part.get("type")
        if kind == "text":
            texts.append(part.get("text") or "")
        elif kind == "refusal":
            texts.append(part.get("refusal") or "")
        elif kind in PARTS:
            files.append(read_part(part, f"messages[{place}].content[{number}]"))
        else:
            raise Invalid(
                f"messages[{place}].content has a part of type {kind!r}, which is not known",
                param=f"messages[{place}].content",
            )
    return texts, files


def _texts(message: Message, place: int) -> list[str]:
    texts, files = _content(message, place)
    if files:
        raise Invalid(
            f"messages[{place}].content has a file: with GigaChat only a user's message may have one",
            param=f"messages[{place}].content",
        )
    return texts
