"""The listening socket."""

import asyncio
import errno
import socket
from typing import Final

from xrouter.settings import ConfigError

BACKLOG: Final = 2048
"""Connections that wait for `accept`; the kernel's net.core.somaxconn may cut it."""

_PATIENCE_S: Final = 2.0
_PAUSE_S: Final = 0.05


async def bind(host: str, port: int) -> socket.socket:
    """A TCP socket bound to `host` and `port`, not listening yet.

    Waits up to 2 s for an address in use: orphans of a killed supervisor let go of it within milliseconds.
    Raises `ConfigError` where it cannot be had.
    """
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise ConfigError(f"XROUTER_HOST: {host!r} is not an address of this machine: {error.strerror}") from None
    family, kind, protocol, _, address = found[0]
    patience_ends = loop.time() + _PATIENCE_S
    while True:
        listener = socket.socket(family, kind, protocol)
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE or loop.time() > patience_ends:
                raise ConfigError(
                    f"cannot listen on {host}:{port}: {error.strerror}; "
                    "XROUTER_PORT names another port, 0 takes a free one"
                ) from None
        else:
            return listener
        await asyncio.sleep(_PAUSE_S)


def url_of(listener: socket.socket) -> str:
    """Where clients find it, with the real port where port 0 was asked for."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
