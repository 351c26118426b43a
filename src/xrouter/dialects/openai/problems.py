"""The error tree as OpenAI's error body: `{"error": {message, type, param, code}}`, all four always there."""

from math import ceil
from typing import Any

import msgspec

from xrouter.core.errors import QUEUE_FULL, GatewayError, MethodNotAllowed, NoRoute, RateLimited, UpstreamError

_WORTH_WAITING_S = 60
"""Official clients believe a `Retry-After` up to here; for a longer one they would repeat within seconds."""


def body(error: GatewayError, request_id: str) -> bytes:
    """The whole JSON body. `metadata` (ours) says which provider failed and what was tried."""
    return msgspec.json.encode({"error": fields(error, request_id)})


def fields(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The error object, also used inside a stream."""
    metadata: dict[str, Any] = {"request_id": request_id}
    if isinstance(error, UpstreamError):
        metadata |= {"provider": error.provider, "upstream_status": error.upstream_status}
    return {
        "message": error.message,
        "type": error.type,
        "param": error.param,
        "code": error.code,
        "metadata": metadata | error.metadata,
    }


def headers(error: GatewayError) -> list[tuple[bytes, bytes]]:
    """`Allow` for a 405, and retry advice.

    Official clients repeat 408, 409, 429 and 5xx by themselves unless `x-should-retry` says no; we say no when the
    vendors were already tried (a queue that was full let nobody try), so that retries do not multiply, when a limit of
    the caller lets nothing pass for longer than a minute, and when no deployment meets what is demanded. Every other
    503 says when: a second from now where nobody knows better.
    """
    found: list[tuple[bytes, bytes]] = []
    if isinstance(error, MethodNotAllowed):
        found.append((b"allow", ", ".join(error.allow).encode()))
    wait_s = error.retry_after_s
    if wait_s is None and error.http_status == 503 and not isinstance(error, NoRoute):
        wait_s = 1.0
    if wait_s is not None:
        found.append((b"retry-after", str(max(1, ceil(wait_s))).encode()))
    if isinstance(error, UpstreamError | NoRoute):
        found.append((b"x-should-retry", b"true" if error.code == QUEUE_FULL else b"false"))
        if isinstance(error, UpstreamError) and error.retry is not None:
            found.append((b"x-xrouter-retry", error.retry.encode()))
    elif isinstance(error, RateLimited):
        found += error.headers
        if wait_s is not None and wait_s > _WORTH_WAITING_S:
            found.append((b"x-should-retry", b"false"))
    elif error.http_status == 503:
        found.append((b"x-should-retry", b"true"))
    return found
