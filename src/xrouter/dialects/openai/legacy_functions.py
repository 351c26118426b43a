"""`functions` and `function_call`, the form before `tools`: made into tools at the door, so that no adapter knows it.

The answer goes back in the client's own form (`chat_answer.py`, by `ChatRequest.legacy_functions`). There a message
calls one function at most, and a call has no id: a result answers the call right before it, and `call_3` is the call of
message 3. https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Raw

from xrouter.core.chat import Fields
from xrouter.core.errors import Invalid

_NULL: Final = Raw(b"null")

_encode = msgspec.json.encode
_functions = msgspec.json.Decoder(list[Raw]).decode
_fields = msgspec.json.Decoder(Fields).decode
_messages = msgspec.json.Decoder(list[Fields]).decode
_text = msgspec.json.Decoder(str | None).decode


def offered(fields: Fields, values: Mapping[str, Any]) -> bool:
    """Puts `tools` and `tool_choice` in the place of the functions in `fields`. False where there are none.

    Raises `Invalid` where they contradict themselves or the tools beside them.
    """
    functions, choice = values.get("functions"), values.get("function_call")
    if functions is None and choice is None:
        return False
    if functions and values.get("tools"):
        raise Invalid("'functions' are the older form of 'tools': send one of the two.", param="functions")
    wanted = getattr(choice, "name", None)
    if wanted is not None and wanted not in {function.name for function in functions or ()}:
        raise Invalid(f"function_call: no function is called '{wanted}'.", param="function_call")
    raw, choice_raw = fields.pop("functions", None), fields.pop("function_call", None)
    if not functions or raw is None:
        return False
    fields["tools"] = Raw(_encode([{"type": "function", "function": function} for function in _functions(raw)]))
    if wanted is not None:
        fields["tool_choice"] = Raw(_encode({"type": "function", "function": {"name": wanted}}))
    elif choice_raw is not None:
        fields["tool_choice"] = choice_raw
    return True


def modernised(raw: Raw) -> Raw:
    """The `messages` with their calls and results of the older form as those of tools. Raises `Invalid` for a result
    that answers no call."""
    messages = _messages(raw)
    last: tuple[Raw, str] | None = None
    for place, message in enumerate(messages):
        call, called = message.pop("function_call", _NULL), last
        last = None
        if call != _NULL and message.get("tool_calls", _NULL) == _NULL:
            last = Raw(_encode(f"call_{place}")), _text(_fields(call)["name"])
            message["tool_calls"] = Raw(_encode([{"id": last[0], "type": "function", "function": call}]))
        elif _text(message["role"]) == "function":
            if called is None or _text(message.pop("name", _NULL)) not in (called[1], None):
                param = f"messages[{place}]"
                raise Invalid(f"{param}: answers no call of a function right before it.", param=param)
            message["role"], message["tool_call_id"] = Raw(b'"tool"'), called[0]
            if message.get("content", _NULL) == _NULL:
                message["content"] = Raw(b'""')
    return Raw(_encode(messages))
