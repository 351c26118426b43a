"""The ways into an account: an authorization key, a user with a password, a ready token.

Sources: https://developers.sber.ru/docs/ru/gigachat/api/reference/rest/post-token for the key; the `gigachat` client
on PyPI for the other two, which corporate stands have.
"""

from base64 import b64encode
from uuid import uuid4

from xrouter.core.clock import Clock
from xrouter.core.secret import Secret
from xrouter.providers._http import Exchange, Token, log_in
from xrouter.transport import Transport

from .login import read_token


class Login:
    """One POST that gives a token: what differs is where it goes and what it says. `secrets` never show in messages."""

    def __init__(
        self, provider: str, http: Transport, clock: Clock, *, url: str, basic: Secret, scope: str | None
    ) -> None:
        self._exchange = Exchange(f"{provider} login", http, clock, secrets=(basic,))
        self._provider = provider
        self._clock = clock
        self._url = url
        self._basic = basic
        self._scope = scope

    async def fetch(self) -> Token:
        """A fresh token. Raises `UpstreamError`; refusals of any kind mean that our credential is wrong."""
        return await log_in(self._provider, self._fetch)

    async def _fetch(self) -> Token:
        headers = {"Authorization": f"Basic {self._basic.reveal()}", "Accept": "application/json"}
        body = b""
        if self._scope is not None:
            headers |= {"RqUID": str(uuid4()), "Content-Type": "application/x-www-form-urlencoded"}
            body = f"scope={self._scope}".encode()
        async with self._exchange.post(self._url, headers=headers, body=body) as reply:
            answer = await reply.json()
        try:
            return read_token(answer, self._clock.now())
        except (ValueError, RecursionError):
            raise self._exchange.nonsense("without a token") from None


class ReadyToken:
    """A token that somebody else looks after. There is no other where the vendor refuses it."""

    def __init__(self, text: Secret) -> None:
        self._text = text

    async def token(self) -> Secret:
        return self._text

    async def replace(self, refused: Secret) -> Secret:
        """The same one: the vendor's 401 goes to the log as it is."""
        return self._text


def basic(user: str, password: Secret) -> Secret:
    """User and password as RFC 7617 sends them."""
    return Secret(b64encode(f"{user}:{password.reveal()}".encode()).decode())
