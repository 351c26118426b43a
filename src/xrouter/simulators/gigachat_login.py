"""GigaChat's OAuth endpoint: an authorization key becomes a token for half an hour."""

import base64
import binascii
import hashlib
import os
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qs

import msgspec
from aiohttp import web

from xrouter.simulators import delivery
from xrouter.simulators.desk import Desk, Refusal, read_body
from xrouter.simulators.faults import NONE
from xrouter.simulators.wire import Wire

SCOPES: Final = ("GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP")
MAX_TOKENS_KEPT: Final = 10_000
_HEADERS: Final = (
    ("Server", "SynGX"),
    ("Content-Type", "application/json"),
    ("Cache-Control", "no-cache, no-store, max-age=0, must-revalidate"),
    ("Allow", "GET, POST"),
)
_CODES: Final = {400: 3, 401: 6}


@dataclass(slots=True)
class Grant:
    """What a token stands for. `expires_ms` is the truth, whatever the login claimed."""

    client: str
    scope: str
    expires_ms: float


class Login:
    """Issues tokens and knows them again: by OAuth, and to users with a password as on a corporate stand.

    Any `client:secret` is a valid key, except the secret `wrong`. A client whose name begins with `pers-`, `b2b-`
    or `corp-` belongs to that scope only. Faults can be set for the model name `oauth`.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._grants: OrderedDict[str, Grant] = OrderedDict()
        self._windows: dict[str, tuple[int, int]] = {}

    async def answer(self, request: web.Request, wire: Wire) -> None:
        """POST /gigachat/api/v2/oauth."""
        body = await read_body(request)
        fault = self._desk.fault(wire.row, NONE, "oauth")
        if await delivery.refused(wire, fault, _HEADERS[:1], _failure, self._desk.clock):
            return
        try:
            answer = self._login(request, body, wire)
        except Refusal as refusal:
            error = {"code": refusal.extra.get("code", 0), "message": refusal.message}
            await delivery.whole(wire, refusal.status, _HEADERS, msgspec.json.encode(error))
            return
        whole = delivery.Whole(msgspec.json.encode(answer), 0, 0)
        await delivery.send_whole(wire, whole, _HEADERS, fault, _failure, self._desk.switches)

    def _login(self, request: web.Request, body: bytes, wire: Wire) -> dict[str, object]:
        client = _client(request.headers.get("Authorization", ""))
        wire.row.credential = client
        if not _is_uuid4(request.headers.get("RqUID", "")):
            raise Refusal(400, "RqUID is missing or not a uuid4", code=3)
        scope = parse_qs(body.decode("utf-8", "replace")).get("scope", [""])[0]
        if not scope:
            raise Refusal(400, "scope is empty", code=5)
        if scope not in SCOPES:
            raise Refusal(400, "scope data format invalid", code=1)
        owner = client.partition("-")[0].upper()
        if owner in ("PERS", "B2B", "CORP") and not scope.endswith(owner):
            raise Refusal(400, "scope from db not fully includes consumed scope", code=7)
        token, ends_ms = self._issue(client, scope)
        return {"access_token": token, "expires_at": ends_ms}

    def _issue(self, client: str, scope: str) -> tuple[str, int]:
        """A token, and the milliseconds at which it claims to end."""
        self._pace(client)
        switches = self._desk.switches
        now_ms = self._desk.clock.now() * 1000
        token = _token()
        self._grants[token] = Grant(client, scope, now_ms + switches.token_ttl_s * 1000)
        if len(self._grants) > MAX_TOKENS_KEPT:
            self._grants.popitem(last=False)
        self._desk.counters.totals.logins += 1
        claimed_s = switches.token_ttl_s if switches.token_claim_s is None else switches.token_claim_s
        return token, int(now_ms + claimed_s * 1000)

    async def token(self, request: web.Request, wire: Wire) -> None:
        """POST /gigachat/v1/token: user and password for a token. The password `wrong` is."""
        await read_body(request)
        try:
            user = _client(request.headers.get("Authorization", ""))
            wire.row.credential = user
            token, ends_ms = self._issue(user, "GIGACHAT_API_CORP")
        except Refusal as refusal:
            message = "Unauthorized" if refusal.status == 401 else refusal.message
            body = msgspec.json.encode({"status": refusal.status, "message": message})
            await delivery.whole(wire, refusal.status, _HEADERS, body)
            return
        await delivery.whole(wire, 200, _HEADERS, msgspec.json.encode({"tok": token, "exp": ends_ms}))

    def _pace(self, client: str) -> None:
        second = int(self._desk.clock.monotonic())
        last, count = self._windows.get(client, (second, 0))
        count = count + 1 if last == second else 1
        if len(self._windows) > MAX_TOKENS_KEPT:
            self._windows.clear()
        self._windows[client] = (second, count)
        if 0 < self._desk.switches.logins_per_s < count:
            raise Refusal(429, "Too Many Requests", code=429)

    def grant(self, request: web.Request) -> Grant:
        """Who calls the API. Raises `Refusal` 401."""
        kind, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self._grants.get(token.strip()) if kind.lower() == "bearer" else None
        if grant is None:
            raise Refusal(401, "Unauthorized")
        if grant.expires_ms <= self._desk.clock.now() * 1000:
            raise Refusal(401, "Token has expired")
        return grant

    def expire_all(self) -> int:
        """Every token issued so far is expired from now on; returns how many were alive."""
        now_ms = self._desk.clock.now() * 1000
        alive = [grant for grant in self._grants.values() if grant.expires_ms > now_ms]
        for grant in alive:
            grant.expires_ms = 0.0
        return len(alive)


def _client(authorization: str) -> str:
    kind, _, key = authorization.partition(" ")
    try:
        key = key.strip() if kind.lower() == "basic" else ":"
        client, colon, secret = base64.b64decode(key, validate=True).decode().partition(":")
    except (ValueError, binascii.Error):
        raise Refusal(401, "Can't decode 'Authorization' header", code=4) from None
    if not colon or not client:
        raise Refusal(401, "Can't decode 'Authorization' header", code=4)
    if secret == "wrong":  # noqa: S105 - the one secret that is refused
        raise Refusal(401, "credentials doesn't match db data", code=6)
    return client


def _is_uuid4(text: str) -> bool:
    try:
        return uuid.UUID(text).version == 4
    except ValueError:
        return False


def _token() -> str:
    """Opaque, about 1 KB, five parts like the real one (a JWE: header, key, nonce, ciphertext, tag)."""
    stream = hashlib.shake_256(os.urandom(32)).digest(256 + 12 + 420 + 32)
    head = base64.urlsafe_b64encode(b'{"cty":"jwt","enc":"A256CBC-HS512","alg":"RSA-OAEP-256"}')
    parts = (stream[:256], stream[256:268], stream[268:688], stream[688:])
    return ".".join(part.decode().rstrip("=") for part in (head, *map(base64.urlsafe_b64encode, parts)))


def _failure(status: int) -> bytes:
    return msgspec.json.encode({"code": _CODES.get(status, status), "message": f"simulated failure {status}"})
