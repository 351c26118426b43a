"""Where a URL leads, worked out once: what the connector must know, and what every request to it repeats."""

from asyncio import AbstractEventLoop
from typing import Final

from aiohttp import ClientRequest, encode_basic_auth
from aiohttp.client_reqrep import ConnectionKey
from multidict import CIMultiDict
from yarl import URL

from xrouter import __version__


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

    Shared by all requests to one URL: it is never sent itself. `fixed` are the headers that every request
    begins with, `target` is the request target, `name` is host:port for messages. `inside_only` marks plain http
    to a name that has to lead into `allow_private`.
    """

    def __init__(self, url: URL, loop: AbstractEventLoop, proxy: Proxy | None, *, inside_only: bool) -> None:
        super().__init__(
            "GET",
            url,
            loop=loop,
            proxy=None if proxy is None else proxy.url,
            proxy_headers=None if proxy is None else proxy.headers.copy(),
        )
        self.fixed: Final = CIMultiDict(
            {
                "Host": self.headers["Host"],
                "User-Agent": f"xrouter/{__version__}",
                "Accept": "*/*",
                "Accept-Encoding": "identity",
            }
        )
        self.target: Final = url.raw_path_qs
        self.name: Final = f"{url.host_subcomponent}:{url.port}"
        self.inside_only: Final = inside_only
        # Kept, because the connector adds to `proxy_headers` when it builds a tunnel and the key is made of them.
        self._key: Final = super().connection_key

    @property
    def connection_key(self) -> ConnectionKey:
        return self._key
