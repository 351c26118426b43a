"""Where a URL leads, worked out once: what the dialler must know, and what every request to it repeats."""

import re
from base64 import b64encode
from collections.abc import Mapping
from typing import Final

from yarl import URL

from xrouter import __version__

_MAX_BEGINS: Final = 64
_FORBIDDEN: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # every control character but tab


class Proxy:
    """The egress proxy. `name` is host:port; the credentials are only in `credentials`, so no message shows them."""

    __slots__ = ("_credentials", "host", "name", "port")

    def __init__(self, text: str) -> None:
        """`text` is `http://[user:password@]host:port`. Raises `ValueError` without repeating it."""
        try:
            url = URL(text)
            host, port = url.raw_host, url.explicit_port
        except ValueError:
            host = port = None
        if not host or not port or url.scheme != "http" or url.path not in ("", "/") or url.query_string:
            raise ValueError("proxy: must read http://[user:password@]host:port")
        self.host: Final = host
        self.port: Final = port
        self.name: Final = f"{url.host_subcomponent}:{port}"
        self._credentials = "" if url.user is None else f"{url.user}:{url.password or ''}"

    def connect_request(self, target: str) -> bytes:
        """The request for a tunnel to `target` (host:port); RFC 9110 section 9.3.6."""
        lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: xrouter/{__version__}"]
        if self._credentials:
            lines.append(f"Proxy-Authorization: Basic {b64encode(self._credentials.encode()).decode()}")
        return ("\r\n".join(lines) + "\r\n\r\n").encode()


class Route:
    """A destination, shared by all requests to one URL. `name` is host:port for messages; `key`, that and `tls`, is
    what connections are kept under. `inside_only` marks plain http to a name that has to lead into `allow_private`."""

    __slots__ = ("_begins", "_fixed", "_target", "host", "inside_only", "key", "name", "port", "tls")

    def __init__(self, url: URL, *, inside_only: bool) -> None:
        host, port = url.raw_host, url.port
        if host is None or port is None:
            raise ValueError("a URL without a host")  # `guard.check_url` lets none through
        self.host: Final = host
        self.port: Final = port
        self.tls: Final = url.scheme == "https"
        self.name: Final = f"{url.host_subcomponent}:{port}"
        self.key: Final = (self.name, self.tls)
        self.inside_only: Final = inside_only
        # The headers that every request begins with: their lower-case names and their lines.
        self._fixed: Final = (
            ("host", f"Host: {url.host_port_subcomponent}"),
            ("user-agent", f"User-Agent: xrouter/{__version__}"),
            ("accept", "Accept: */*"),
            ("accept-encoding", "Accept-Encoding: identity"),
        )
        self._target: Final = url.raw_path_qs
        self._begins: dict[tuple[str, ...], str] = {}

    def head(self, method: str, headers: Mapping[str, str], length: int | None) -> bytes:
        """The head of one request: our own headers, except those that `headers` replaces, then `headers`, then
        Content-Length where there is a `length`.

        Raises ValueError for a header with a line end or another control character in it.
        """
        key = (method, *headers)
        begin = self._begins.get(key)
        if begin is None:
            begin = self._begin(key)
        lines = [f"{name}: {value}" for name, value in headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        # A line end is not printable either; what is not gets a closer look, because a tab is allowed.
        if not "".join(lines).isprintable() and any(_FORBIDDEN.search(line) for line in lines):
            raise ValueError("Forbidden control character in a header: it could be read as two")
        lines.append("\r\n")
        return (begin + "\r\n".join(lines)).encode()

    def _begin(self, key: tuple[str, ...]) -> str:
        """The request line and our own headers in front of those of `key`: a method and header names."""
        method, *names = key
        given = {name.lower() for name in names}
        lines = [f"{method} {self._target} HTTP/1.1", *(line for name, line in self._fixed if name not in given)]
        if len(self._begins) >= _MAX_BEGINS:
            self._begins.clear()
        begin = self._begins[key] = "\r\n".join([*lines, ""])
        return begin
