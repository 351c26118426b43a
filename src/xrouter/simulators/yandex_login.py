"""Yandex Cloud's IAM: a signed assertion of a service account becomes a token; and who may call the API.

Sources: https://yandex.cloud/docs/iam/api-ref/IamToken/create, https://yandex.cloud/docs/iam/api-ref/Key/create
"""

import base64
import binascii
import hashlib
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from aiohttp import web
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from xrouter.simulators import delivery
from xrouter.simulators.desk import Desk, Refusal, read_body, read_object
from xrouter.simulators.faults import NONE
from xrouter.simulators.wire import Wire
from xrouter.simulators.yandex_errors import HEADERS, unary_error

FOLDER: Final = "b1gsimulatedfolder00"
AUDIENCE: Final = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
MAX_KEPT: Final = 10_000
MAX_ASSERTION_CHARS: Final = 8_000
_SKEW_S: Final = 60
_LONGEST_S: Final = 3600
_API_KEY = re.compile(r"[!-~]{1,200}")


@dataclass(slots=True)
class Grant:
    """What a credential stands for: the folder it may use."""

    who: str
    folder: str
    expires_at: float = float("inf")


@dataclass(frozen=True, slots=True)
class _Key:
    account: str
    public: rsa.RSAPublicKey


class YandexLogin:
    """Makes keys of service accounts, changes assertions and OAuth tokens into IAM tokens, and knows them again.

    Any API key is valid except `wrong` and `expired`; one of the form `<folder>.<anything>` belongs to that folder,
    all others to `FOLDER`, and one that begins with `norole` may not call models. A service account of the name
    `<folder>.<anything>` belongs to that folder likewise. Faults can be set for the model name `iam`.
    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._grants: OrderedDict[str, Grant] = OrderedDict()
        self._keys: OrderedDict[str, _Key] = OrderedDict()

    async def tokens(self, request: web.Request, wire: Wire) -> None:
        """POST /yandex/iam/v1/tokens."""
        body = await read_body(request)
        fault = self._desk.fault(wire.row, NONE, "iam")
        if await delivery.refused(wire, fault, HEADERS, unary_error, self._desk.clock):
            return
        try:
            answer = self._login(read_object(body), wire)
        except Refusal as refusal:
            await delivery.whole(wire, refusal.status, HEADERS, unary_error(refusal.status, refusal.message))
            return
        whole = delivery.Whole(msgspec.json.encode(answer), 0, 0)
        await delivery.send_whole(wire, whole, HEADERS, fault, unary_error, self._desk.switches)

    async def keys(self, request: web.Request, wire: Wire) -> None:
        """POST /yandex/iam/v1/keys: a fresh key of a service account. The vendor asks for a login; here anybody may."""
        try:
            account = _account_in(await read_body(request))
        except Refusal as refusal:
            await delivery.whole(wire, refusal.status, HEADERS, unary_error(refusal.status, refusal.message))
            return
        private = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        number = f"aje{os.urandom(8).hex()}"
        self._keys[number] = _Key(account, private.public_key())
        if len(self._keys) > MAX_KEPT:
            self._keys.popitem(last=False)
        public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
        key = {
            "id": number,
            "serviceAccountId": account,
            "createdAt": self._time(self._desk.clock.now()),
            "keyAlgorithm": "RSA_2048",
            "publicKey": public,
        }
        warning = f"PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <{number}>\n"
        await delivery.whole(wire, 200, HEADERS, msgspec.json.encode({"key": key, "privateKey": warning + pem}))

    def _login(self, data: dict[str, Any], wire: Wire) -> dict[str, str]:
        oauth, assertion = data.get("yandexPassportOauthToken"), data.get("jwt")
        if isinstance(oauth, str) and oauth and assertion is None:
            if oauth == "wrong":
                raise Refusal(401, "OAuth token is invalid or expired")
            who = "user"
        elif isinstance(assertion, str) and oauth is None:
            who = self._account_of(assertion)
        else:
            raise Refusal(400, "One of yandex_passport_oauth_token, jwt is required")
        wire.row.credential = who
        switches, now = self._desk.switches, self._desk.clock.now()
        token = _token()
        self._grants[token] = Grant(who, _folder_of(who), now + switches.token_ttl_s)
        if len(self._grants) > MAX_KEPT:
            self._grants.popitem(last=False)
        self._desk.counters.totals.logins += 1
        claimed_s = switches.token_ttl_s if switches.token_claim_s is None else switches.token_claim_s
        return {"iamToken": token, "expiresAt": self._time(now + claimed_s)}

    def _account_of(self, assertion: str) -> str:
        """The service account that signed. Raises `Refusal`."""
        if len(assertion) > MAX_ASSERTION_CHARS:
            raise Refusal(400, f"jwt: length must be at most {MAX_ASSERTION_CHARS}")
        try:
            head_text, claims_text, signature_text = assertion.encode("ascii").split(b".")
            head, claims = (msgspec.json.decode(_unbase64(part), type=dict) for part in (head_text, claims_text))
            signature = _unbase64(signature_text)
        except (ValueError, binascii.Error):
            raise Refusal(400, "JWT is malformed") from None
        if head.get("alg") != "PS256" or head.get("typ", "JWT") != "JWT":
            raise Refusal(401, "JWT algorithm must be PS256")
        key = self._keys.get(str(head.get("kid")))
        if key is None or key.account != claims.get("iss"):
            raise Refusal(401, "JWT key is unknown, or is not the issuer's")
        how = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
        try:
            key.public.verify(signature, head_text + b"." + claims_text, how, SHA256())
        except InvalidSignature:
            raise Refusal(401, "JWT signature is wrong") from None
        if claims.get("aud") != AUDIENCE:
            raise Refusal(401, f"JWT audience must be {AUDIENCE}")
        issued, ends, now = claims.get("iat"), claims.get("exp"), self._desk.clock.now()
        if not isinstance(issued, int) or not isinstance(ends, int):
            raise Refusal(401, "JWT needs iat and exp")
        if issued > now + _SKEW_S or ends <= now or ends - issued > _LONGEST_S:
            raise Refusal(401, "JWT is expired, from the future, or lives longer than an hour")
        return key.account

    def grant(self, request: web.Request, *, openai: bool) -> Grant:
        """Who calls the API; only the OpenAI surface takes an API key as a Bearer. Raises `Refusal`."""
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        text = text.strip()
        if kind.lower() == "bearer" and (text.startswith("t1.") or not openai):
            return self._bearer(text)
        if kind.lower() not in ("api-key", "bearer") or not _API_KEY.fullmatch(text):
            raise Refusal(401, "The request has no credential")
        if text == "expired":
            raise Refusal(401, "The apikey has expired")
        if text == "wrong":
            raise Refusal(401, f"Unknown api key '{text[:4]}****'")
        if text.startswith("norole"):
            raise Refusal(403, "Permission denied: ai.languageModels.user is needed")
        return Grant(text, _folder_of(text))

    def _bearer(self, token: str) -> Grant:
        grant = self._grants.get(token)
        if grant is None:
            raise Refusal(401, "The token is invalid")
        if grant.expires_at <= self._desk.clock.now():
            raise Refusal(401, "The token has expired")
        return grant

    def expire_all(self) -> int:
        """Every token issued so far is expired from now on; returns how many were alive."""
        now = self._desk.clock.now()
        alive = [grant for grant in self._grants.values() if grant.expires_at > now]
        for grant in alive:
            grant.expires_at = 0.0
        return len(alive)

    @staticmethod
    def _time(seconds: float) -> str:
        """With nanoseconds, as the vendor writes it."""
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f789Z")


def _account_in(body: bytes) -> str:
    account = read_object(body).get("serviceAccountId")
    if not isinstance(account, str) or not account:
        raise Refusal(400, "service_account_id is required")
    return account


def _folder_of(name: str) -> str:
    folder, dot, _ = name.partition(".")
    return folder if dot else FOLDER


def _unbase64(data: bytes) -> bytes:
    return base64.b64decode(data + b"=" * (-len(data) % 4), altchars=b"-_", validate=True)


def _token() -> str:
    """`t1.<body>.<86 characters>`: the form that the vendor's own client checks."""
    stream = hashlib.shake_256(os.urandom(32)).digest(96 + 64)
    body, seal = (base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (stream[:96], stream[96:]))
    return f"t1.{body}.{seal}"
