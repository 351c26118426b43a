"""A service account's key, and the signed assertion that buys an IAM token with it.

Source: https://yandex.cloud/docs/iam/operations/iam-token/create-for-sa (a JWT, PS256 of RFC 7518 section 3.5).
"""

import base64
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from xrouter.core.secret import Secret

AUDIENCE: Final = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
_ASSERTION_S: Final = 600  # at most 3600; it is used at once
_RENEW_S: Final = 3600.0  # tokens live up to 12 hours; the vendor asks to take a new one every hour
_DEFAULT_LIFE_S: Final = 600.0
_PEM = "-----BEGIN"


class _KeyFile(msgspec.Struct):
    id: str
    service_account_id: str
    private_key: str


@dataclass(frozen=True, slots=True)
class ServiceKey:
    """`id` names the key, `account` the service account; the private key is not shown by `repr`."""

    id: str
    account: str
    private: RSAPrivateKey

    def __repr__(self) -> str:
        return f"ServiceKey(id={self.id!r}, account={self.account!r})"

    def assertion(self, now: float) -> bytes:
        """The JWT that says: it is me. Signing takes about a millisecond."""
        head = {"typ": "JWT", "alg": "PS256", "kid": self.id}
        issued = int(now)
        claims = {"iss": self.account, "aud": AUDIENCE, "iat": issued, "exp": issued + _ASSERTION_S}
        signed = b".".join(_base64url(msgspec.json.encode(part)) for part in (head, claims))
        how = padding.PSS(mgf=padding.MGF1(SHA256()), salt_length=padding.PSS.DIGEST_LENGTH)
        return signed + b"." + _base64url(self.private.sign(signed, how, SHA256()))


def read_key_file(text: str) -> ServiceKey:
    """The JSON that the vendor's console gives out. Raises ValueError that shows nothing of the key."""
    try:
        found = msgspec.json.decode(text, type=_KeyFile)
    except msgspec.ValidationError as error:
        raise ValueError(f"is not the JSON of a service account's key: {error}") from None
    except ValueError:
        raise ValueError("is not JSON; give the whole text that `yc iam key create` writes") from None
    start = found.private_key.find(_PEM)  # a warning stands before it
    try:
        private = load_pem_private_key(found.private_key[max(start, 0) :].encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError("private_key is not an unencrypted key in PEM form") from None
    if not isinstance(private, RSAPrivateKey):
        raise ValueError("private_key is not an RSA key, and the vendor takes no other")  # noqa: TRY004
    return ServiceKey(found.id, found.service_account_id, private)


def read_iam_token(body: bytes, now: float) -> tuple[Secret, float]:
    """The token and when to take a new one (seconds since the epoch), out of an answer of IAM,
    `{"iamToken", "expiresAt"}`, or of a virtual machine's metadata, `{"access_token", "expires_in"}`.

    Raises ValueError.
    """
    answer = msgspec.json.decode(body)
    text = answer.get("iamToken", answer.get("access_token")) if isinstance(answer, dict) else None
    if not isinstance(text, str) or not text or not text.isascii() or not text.isprintable():
        raise ValueError("no token in the answer")
    end, life = answer.get("expiresAt"), answer.get("expires_in")
    if isinstance(end, str):
        until = datetime.fromisoformat(end).timestamp()
    elif isinstance(life, int) and not isinstance(life, bool):
        until = now + life
    else:
        until = now + _DEFAULT_LIFE_S
    return Secret(text), min(until, now + _RENEW_S)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
