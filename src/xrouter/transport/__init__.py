"""The upstream HTTP client behind one small interface: request in, status and a byte stream out.

Everything that dials out goes through here, so the address guard, the CA bundles and the egress proxy hold
for all of it. `open_transport()` in `client.py` opens it.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Literal, Protocol


class Response(Protocol):
    """A status line, headers with lower-case names, and a body that is read on demand."""

    status: int
    headers: Mapping[str, str]

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it arrives, undecoded and unbuffered. Raises `BrokenOff` when it ends too early."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `BrokenOff`, with reason `too_large` beyond `limit` bytes."""
        ...


class Transport(Protocol):
    """One provider's client: its own connection pool, TLS roots, proxy and address guard."""

    def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        body: bytes | None = None,
        on_sending: Callable[[], None] | None = None,
    ) -> AbstractAsyncContextManager[Response]:
        """Send and wait for the status line. Redirects are not followed, bodies not decompressed beyond
        what was asked for, cookies not kept. `on_sending` is called when a connection is held, before the
        first byte leaves. Leaving the context with the body unread cuts the connection.

        Raises `CannotConnect` before the first byte has left and `BrokenOff` after. There is no timeout
        after the connection stands: the caller owns the clock.
        """
        ...

    async def close(self) -> None: ...


class TransportError(Exception):
    """Something between us and the upstream failed. `reason` is a stable word; the message is for people
    and holds no credential."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class CannotConnect(TransportError):
    """No byte of the request has left: a retry is safe."""

    def __init__(
        self,
        reason: Literal["dns", "refused", "timeout", "tls", "proxy", "forbidden_address", "pool"],
        message: str,
    ) -> None:
        super().__init__(reason, message)


class BrokenOff(TransportError):
    """The exchange broke after bytes had left: the upstream may have done the work."""

    def __init__(self, reason: Literal["reset", "eof", "protocol", "too_large"], message: str) -> None:
        super().__init__(reason, message)
