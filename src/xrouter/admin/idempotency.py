"""`Idempotency-Key`: a write that is repeated is made once, and answered again as it was."""

import hashlib
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import msgspec
from fastapi import Request, Response

from xrouter.core.call import Caller
from xrouter.core.errors import Invalid, Overloaded
from xrouter.core.ports import IdempotentWrites, StoredAnswer

METHODS: Final = frozenset({"POST", "PATCH", "DELETE"})
_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")


async def once(
    request: Request, caller: Caller, writes: IdempotentWrites, handle: Callable[[Request], Awaitable[Response]]
) -> Response:
    """The answer of `handle`, or of the first request of this caller under this key within 24 hours.

    A refused or failed write frees its key. Raises `Invalid` for a key that is none, `IdempotencyMismatch` where it
    stood for another request, `Conflict` while that one runs.
    """
    key = request.headers.get("idempotency-key")
    if key is None or request.method not in METHODS:
        return await handle(request)
    if not _KEY.fullmatch(key):
        raise Invalid("'Idempotency-Key' must be 1 to 255 visible ASCII characters.", param="Idempotency-Key")
    begun = await writes.begin(f"{caller.key_id} {key}", _fingerprint(request, caller, await request.body()))
    if isinstance(begun, StoredAnswer):
        headers = {"idempotent-replayed": "true"}
        return Response(begun.body, begun.status, headers, media_type="application/json")
    try:
        response = await handle(request)
    except Exception:
        await writes.free(begun)
        raise
    with suppress(Overloaded):  # the write is done: that its answer cannot be kept is no reason to say otherwise
        await writes.keep(begun, response.status_code, bytes(response.body))
    return response


def _fingerprint(request: Request, caller: Caller, body: bytes) -> bytes:
    """What the request is, and what whoever asks may: JSON that says the same counts as the same, and a key that was
    moved or restricted meanwhile does not get an answer, with a secret in it, that it could not get any more."""
    with suppress(msgspec.MsgspecError):  # what is no JSON is refused later, and its key is free again
        body = msgspec.json.encode(msgspec.json.decode(body), order="deterministic")
    scope = request.scope
    whole = f"{scope['method']} {scope['path']}\n".encode() + scope["query_string"] + b"\n" + body
    return hashlib.sha256(whole + b"\n" + msgspec.json.encode(_rights(caller), order="deterministic")).digest()


def _rights(caller: Caller) -> tuple[object, ...]:
    place = (caller.organisation_id, caller.team_id, caller.user_id)
    limits = sorted(
        (one.level.value, one.unit.value, one.window_s, one.model or "", one.amount) for one in caller.limits
    )
    return place, caller.scopes, caller.expires_at, caller.models, caller.operations, caller.networks, limits
