"""`x-xrouter-explain: 1`: the answer tells why it came from where it came (docs/explain.md). In the field
`xrouter.route` of a whole answer and of a stream's last chunk; in short in a header of both."""

from typing import Any, Final

import msgspec

from xrouter.core.call import Call
from xrouter.core.errors import Invalid
from xrouter.dialects.exchange import Exchange
from xrouter.gateway import explain

HEADER: Final = b"x-xrouter-explain"
SHORT: Final = b"x-xrouter-route"

_YES: Final = frozenset({"1", "true"})
_NO: Final = frozenset({"0", "false"})


def wanted(exchange: Exchange) -> bool:
    """Does the client want to know? Raises `Invalid` for what is neither yes nor no."""
    said = exchange.header(HEADER)
    if said is None:
        return False
    said = said.lower()
    if said not in _YES | _NO:
        raise Invalid(f"The header 'x-xrouter-explain' must be 1 or 0, not '{said[:40]}'.", param="x-xrouter-explain")
    return said in _YES


def field(call: Call) -> dict[str, Any]:
    """What stands in the answer; nothing where nobody asked."""
    if call.explanation is None:
        return {}
    route = {"id": call.id, "decision": call.explanation, "attempts": explain.tried(call)}
    return {"xrouter": {"route": route}}


def added(body: bytes, call: Call) -> bytes:
    """The JSON object `body` with that field."""
    return body[:-1] + b"," + msgspec.json.encode(field(call))[1:]


def short(call: Call) -> bytes:
    """The header's value."""
    assert call.explanation is not None, "asked only where there is one"
    return explain.short(call.explanation).encode("ascii", "replace")
