"""Files that a client names by their address: fetched by us, because the vendor takes files only.

The address is a stranger's, so it goes through a transport of its own: no client certificate, no roots of the vendor,
no private network that was opened for the vendor.
"""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

from xrouter.core.errors import Invalid
from xrouter.transport import BrokenOff, CannotConnect, Transport, TransportError

from .uploads import LARGEST, Upload, checked

_FETCH_S: Final = 15.0
_HEADERS: Final = {"Accept": "*/*", "Accept-Encoding": "identity"}
_REASONS: Final = {
    "forbidden_address": "this address may not be fetched",
    "dns": "the name cannot be looked up",
    "tls": "its certificate was refused",
    "timeout": "no connection in time",
    "too_large": "is too large",
}


class Fetcher:
    """`open_own` makes the transport when the first file is named."""

    def __init__(self, open_own: Callable[[], Transport]) -> None:
        self._open = open_own
        self._http: Transport | None = None

    async def fetch(self, upload: Upload) -> Upload:
        """The same with its bytes and type. Raises `Invalid`: whoever names a file must name one that can be had."""
        if self._http is None:
            self._http = self._open()
        try:
            async with (
                asyncio.timeout(_FETCH_S),
                self._http.request("GET", upload.url, headers=_HEADERS) as response,
            ):
                if response.status != 200:
                    _refuse(upload, f"its server answered {response.status}")
                mime = response.headers.get("content-type", "").partition(";")[0]
                data = await response.read(LARGEST[upload.kind])
        except TimeoutError:
            _refuse(upload, f"did not arrive within {_FETCH_S:g} s")
        except (CannotConnect, BrokenOff) as error:
            _refuse(upload, _REASONS.get(error.reason, "the connection failed"))
        except TransportError:
            _refuse(upload, "the connection failed")
        return checked(Upload(upload.source, upload.param, upload.kind, mime, data, upload.url))

    async def close(self) -> None:
        if self._http is not None:
            await self._http.close()


def _refuse(upload: Upload, why: str) -> NoReturn:
    raise Invalid(f"{upload.param}: cannot be fetched: {why}.", param=upload.param) from None
