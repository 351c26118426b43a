"""`/health/live`, `/health/ready` and `/metrics`: what orchestrators and Prometheus ask, without a key."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from xrouter.admin.problems import error_body
from xrouter.core.errors import MethodNotAllowed
from xrouter.core.ids import ulid

PATHS = frozenset({"/health/live", "/health/ready", "/metrics"})

_JSON = b"application/json"

_Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Health:
    """`why_not_ready` says in a word why new calls are not welcome, or nothing; `scrape` gives the content type and
    body of `/metrics`."""

    def __init__(
        self, why_not_ready: Callable[[], str | None], scrape: Callable[[], Awaitable[tuple[bytes, bytes]]]
    ) -> None:
        self._why_not_ready = why_not_ready
        self._scrape = scrape

    async def __call__(self, scope: MutableMapping[str, Any], receive: object, send: _Send) -> None:
        request_id = "req_" + ulid()
        status, kind, body = await self._answer(scope["method"], scope["path"], request_id)
        headers = [
            (b"content-type", kind),
            (b"content-length", b"%d" % len(body)),
            (b"cache-control", b"no-store"),
            (b"x-request-id", request_id.encode()),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    async def _answer(self, method: str, path: str, request_id: str) -> tuple[int, bytes, bytes]:
        if method not in ("GET", "HEAD"):
            error = MethodNotAllowed(f"{path} answers GET, HEAD, not {method}.", allow=("GET", "HEAD"))
            return 405, _JSON, error_body(error, request_id)
        if path == "/metrics":
            return 200, *await self._scrape()
        if path == "/health/live":
            return 200, _JSON, b'{"status":"live"}'
        why_not = self._why_not_ready()
        if why_not is None:
            return 200, _JSON, b'{"status":"ready"}'
        return 503, _JSON, b'{"status":"%b"}' % why_not.encode()
