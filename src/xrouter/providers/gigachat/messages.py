"""The conversation in GigaChat's form.

Its rules (v1 `messages`): one `system` and that first; `content` is a string; one function call per assistant
message; a result is a `function` message whose content is the text of a JSON object.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from xrouter.core.chat import Message, ToolCall
from xrouter.core.errors import Invalid

VendorMessage = dict[str, Any]

_UPLOADS = frozenset({"image_url", "file", "input_audio", "input_image", "input_file"})


def vendor_messages(
    messages: Sequence[Message], names: Mapping[str, str], instruction: str = ""
) -> list[VendorMessage]:
    """The messages to send. `names` renames functions; `instruction` is added to the system message.

    Raises `Invalid` for what cannot be said there, with the place in `param`.
    """
    systems, rest = _part_systems(messages)
    system = "\n".join(
        [*(_text(message, place) for place, message in systems), *([instruction] if instruction else [])]
    )
    out: list[VendorMessage] = [{"role": "system", "content": system}] if system else []
    at = 0
    while at < len(rest):
        place, message = rest[at]
        at += 1
        if message.role in ("user", "system", "developer"):
            _add(out, "user", _text(message, place))
        elif message.role == "assistant" and not message.tool_calls:
            _add(out, "assistant", _text(message, place))
        elif message.role == "assistant":
            results = []
            while at < len(rest) and rest[at][1].role in ("tool", "function"):
                results.append(rest[at])
                at += 1
            out += _calls(place, message, results, names)
        else:
            raise Invalid(
                f"messages[{place}] answers no call: put it right after the assistant message with its tool_calls",
                param=f"messages[{place}]",
            )
    return out


_Placed = tuple[int, Message]


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


def _add(out: list[VendorMessage], role: str, text: str) -> None:
    """Neighbours of one role become one message, as the vendor would have it."""
    last = out[-1] if out else None
    if last is not None and last["role"] == role and "function_call" not in last:
        last["content"] = f"{last['content']}\n{text}"
    else:
        out.append({"role": role, "content": text})


def _calls(place: int, message: Message, results: list[_Placed], names: Mapping[str, str]) -> list[VendorMessage]:
    """Several calls of one turn as alternating pairs: call 1, result 1, call 2, result 2."""
    out: list[VendorMessage] = []
    waiting = list(results)
    for number, call in enumerate(message.tool_calls):
        result = _take_result(waiting, call)
        if result is None:
            raise Invalid(
                f"messages[{place}].tool_calls[{number}] has no answer: a message with role `tool` must follow",
                param=f"messages[{place}].tool_calls",
            )
        name = names.get(call.name, call.name)
        out.append(
            {
                "role": "assistant",
                "content": _text(message, place) if number == 0 else "",
                "function_call": {"name": name, "arguments": arguments_object(call.arguments)},
            }
        )
        out.append({"role": "function", "name": name, "content": _result_text(_text(result[1], result[0]))})
    if waiting:
        raise Invalid(
            f"messages[{waiting[0][0]}] answers no call of the assistant message before it",
            param=f"messages[{waiting[0][0]}].tool_call_id",
        )
    return out


def _take_result(waiting: list[_Placed], call: ToolCall) -> _Placed | None:
    """Remove and give the answer to `call`: by its id, or in the old form by the function's name."""
    for at, (_, message) in enumerate(waiting):
        if message.tool_call_id == call.id if message.role == "tool" else message.name == call.name:
            return waiting.pop(at)
    return None


def arguments_object(text: str) -> dict[str, Any]:
    """The arguments of a call as the object that the vendor wants; what is none is wrapped into one."""
    if not text.strip():
        return {}
    try:
        value = msgspec.json.decode(text)
    except ValueError:
        value = text
    return value if isinstance(value, dict) else {"value": value}


def _result_text(text: str) -> str:
    """A result as the text of a JSON object: itself where it is one, else `{"result": ...}`."""
    try:
        value = msgspec.json.decode(text)
    except ValueError:
        value = text
    return text if isinstance(value, dict) else msgspec.json.encode({"result": value}).decode()


def _text(message: Message, place: int) -> str:
    """The text of a message. Parts are joined by line ends."""
    content = message.content
    if content is None or isinstance(content, str):
        return content or ""
    texts = []
    for part in content:
        kind = part.get("type")
        if kind == "text":
            texts.append(part.get("text") or "")
        elif kind == "refusal":
            texts.append(part.get("refusal") or "")
        else:
            why = "files are not sent to GigaChat yet" if kind in _UPLOADS else "only text parts are known"
            raise Invalid(
                f"messages[{place}].content has a part of type {kind!r}: {why}", param=f"messages[{place}].content"
            )
    return "\n".join(texts)
