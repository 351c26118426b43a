"""Ids of tool calls. The vendor has none; what it has is the id of the state that its tools left behind.

It wants that one back beside the call (`functions_state_id`, in contract v2 `tools_state_id`), and a client of
OpenAI's API gives nothing back but the id of the call: so the call's id holds the state's. 40 characters, the most
that OpenAI itself takes, should the conversation go on there.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Final
from uuid import UUID

_WITH_STATE: Final = re.compile(r"call_[0-9A-Z]{10}[0-9]{1,3}_([A-Za-z0-9_-]{22})")


def call_id(attempt_id: str, number: int, state: str) -> str:
    """The id of call `number` of an attempt. A `state` that is no UUID, or none, is not kept: giving it back is
    optional."""
    packed = _packed(state)
    return f"call_{attempt_id[-10:]}{number}_{packed}" if packed else f"call_{attempt_id}_{number}"


def state_in(identifier: str) -> str:
    """The state that a call's id holds; empty for an id that another vendor gave."""
    found = _WITH_STATE.fullmatch(identifier)
    return str(UUID(bytes=urlsafe_b64decode(f"{found[1]}=="))) if found else ""


def _packed(state: str) -> str:
    try:
        number = UUID(state)
    except ValueError:
        return ""
    return urlsafe_b64encode(number.bytes).decode().rstrip("=") if str(number) == state else ""
