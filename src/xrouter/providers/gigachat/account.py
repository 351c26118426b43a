"""One account: its requests carry its token, and one that the vendor no longer takes is replaced once."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Protocol

from xrouter.core.call import Attempt
from xrouter.core.errors import ProviderAuthFailed
from xrouter.core.secret import Secret
from xrouter.providers._http import Exchange, Reply


class Tokens(Protocol):
    """Where the account's token comes from."""

    async def token(self) -> Secret: ...

    async def replace(self, refused: Secret) -> Secret:
        """Another token, or the same one where there is no other."""
        ...


class Account:
    """`tokens` None: the account is known by its client certificate."""

    def __init__(self, exchange: Exchange, base_url: str, tokens: Tokens | None) -> None:
        self.exchange = exchange
        self.base_url = base_url
        self._tokens = tokens

    def sharing(self, exchange: Exchange) -> "Account":
        """The same account by another way of talking."""
        return Account(exchange, self.base_url, self._tokens)

    async def post(
        self,
        connection: AsyncExitStack,
        url: str,
        *,
        headers: dict[str, str],
        body: bytes,
        attempt: Attempt | None = None,
    ) -> Reply:
        """The answer, entered on `connection`. A call that met an old token is repeated under the same attempt: a 401
        is not billed. Raises `UpstreamError`."""

        def send(login: dict[str, str]) -> Reply:
            return self.exchange.post(url, headers={**login, **headers}, body=body, attempt=attempt)

        return await self._logged_in(connection, send)

    async def get(self, connection: AsyncExitStack, url: str, *, headers: dict[str, str] | None = None) -> Reply:
        """The same for what is only read."""

        def send(login: dict[str, str]) -> Reply:
            return self.exchange.get(url, headers={**login, "Accept": "application/json", **(headers or {})})

        return await self._logged_in(connection, send)

    async def _logged_in(self, connection: AsyncExitStack, send: Callable[[dict[str, str]], Reply]) -> Reply:
        if self._tokens is None:
            return await connection.enter_async_context(send({}))
        token = await self._tokens.token()
        try:
            return await connection.enter_async_context(send(_bearer(token)))
        except ProviderAuthFailed as error:
            if error.upstream_status != 401:
                raise
            other = await self._tokens.replace(token)
            if other == token:
                raise
        return await connection.enter_async_context(send(_bearer(other)))


def _bearer(token: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.reveal()}"}
