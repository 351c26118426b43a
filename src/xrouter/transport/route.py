"""Where a URL leads, worked out once: what the connector must know, and what every request to it repeats."""

import re
from asyncio import AbstractEventLoop
from collections.abc import Mapping
from typing import Final

from aiohttp import ClientRequest, encode_basic_auth
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict
from yarl import URL

from xrouter import __version__

_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")  # all but tab and LF


class Proxy:
    """The egress proxy. `name` is host:port; the credentials are only in `headers`, so no message shows them."""

    __slots__ = ("headers", "host", "name", "url")

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
        self.name: Final = f"{url.host_subcomponent}:{port}"
        self.headers: Final = CIMultiDict[str]()
        if url.user is not None:
            self.headers["Proxy-Authorization"] = encode_basic_auth(url.user, url.password or "")
        self.url: Final = url.with_user(None)


class Route(ClientRequest):
    """A destination in the form in which aiohttp's connector takes it.

    Shared by all requests to one URL: it is never sent itself. `name` is host:port for messages. `inside_only`
    marks plain http to a name that has to lead into `allow_private`.
    """

    def __init__(self, url: URL, loop: AbstractEventLoop, proxy: Proxy | None, *, inside_only: bool) -> None:
        super().__init__(
            "GET",
            url,
            loop=loop,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=None if proxy is None else proxy.headers.copy(),
        )
        # The headers that every request begins with: their lower-case names and their lines.
        self._fixed: Final = (
            ("host", f"Host: {self.headers['Host']}"),
            ("user-agent", f"User-Agent: xrouter/{__version__}"),
            ("accept", "Accept: */*"),
            ("accept-encoding", "Accept-Encoding: identity"),
        )
        self._target: Final = url.raw_path_qs
        self.name: Final = f"{url.host_subcomponent}:{url.port}"
        self.inside_only: Final = inside_only
        # Kept, because the connector adds to `proxy_headers` when it builds a tunnel and the key is made of them.
        self._key: Final = super().connection_key

    @property
    def connection_key(self) -> ConnectionKey:
        return self._key

    def head(self, method: str, headers: Mapping[str, str], length: int | None) -> bytes:
        """The head of one request: our own headers, except those that `headers` replaces, then `headers`, then
        Content-Length where there is a `length`. Text, because a multidict and a writer for each request cost more.

        Raises ValueError for a header with a line end or another control character in it.
        """
        given = {name.lower() for name in headers}
        lines = [f"{method} {self._target} HTTP/1.1"]
        lines += [line for name, line in self._fixed if name not in given]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        text = "\n".join(lines)
        if text.count("\n") >= len(lines) or _CONTROLS.search(text):
            raise ValueError("Forbidden control character in a header: it could be read as two")
        return f"{text}\n\n".replace("\n", "\r\n").encode()
