"""TLS to an upstream: the usual roots plus the provider's own, for this provider only. Verification is always on."""

import binascii
import re
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import certifi

from xrouter.core.clock import Clock, SystemClock
from xrouter.core.secret import Secret

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_MAX_BUNDLE_BYTES = 1024 * 1024
_SYSTEM_CLOCK = SystemClock()

ClientCert: TypeAlias = tuple[Path, Path | None, Secret | None]
"""Our own certificate, PEM with its chain; its key where that is another file; the key's password."""


def client_tls(
    ca_bundle: Path | None, clock: Clock = _SYSTEM_CLOCK, *, client_cert: ClientCert | None = None
) -> ssl.SSLContext:
    """A context that verifies chain and host name against certifi's roots and the PEM certificates of `ca_bundle`.
    `client_cert` is shown to a server that asks for one (mTLS).

    Raises `ValueError`, in words for the operator, when the bundle cannot be read, holds no certificate, holds
    a broken one, or nothing but expired ones, and for a client certificate that cannot be used. Takes about 20 ms:
    make it once per provider, not per call.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # CERT_REQUIRED and check_hostname are on from the start
    # Our own listeners ask for 1.3. Upstreams are not ours: several Russian vendors and many in-house proxies in
    # front of vLLM still end at 1.2, which is sound with the AEAD suites that Python's default list leaves.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # A certificate of the bundle is trusted for itself: an intermediate without its root, or the self-signed
    # certificate of one server, is enough.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.set_alpn_protocols(["http/1.1"])
    context.load_verify_locations(cafile=certifi.where())
    if ca_bundle is not None:
        context.load_verify_locations(cadata=_checked(ca_bundle, clock))
    if client_cert is not None:
        _show(context, *client_cert)
    return context


def _show(context: ssl.SSLContext, cert: Path, key: Path | None, password: Secret | None) -> None:
    for setting, path in (("client_cert", cert), ("client_key", key)):
        if path is not None and not path.is_file():
            raise ValueError(f"{setting} {path}: is no file")
    try:
        # Never without a password: OpenSSL would ask for it on the terminal, and the start would hang.
        context.load_cert_chain(cert, key, password.reveal() if password else "")
    except OSError as error:  # SSLError is one
        why = getattr(error, "reason", None) or error.strerror or "no reason given"
        raise ValueError(
            f"client_cert {cert}: cannot be used with its key ({why}). Give the certificate and its private key in "
            "PEM, the key in the same file or in `client_key`, and `client_key_password` for an encrypted one"
        ) from None


def _checked(path: Path, clock: Clock) -> str:
    """The certificates of a PEM file without the text around them (comments may be in any language)."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_BUNDLE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"ca_bundle {path}: cannot be read: {error.strerror}") from None
    if len(raw) > _MAX_BUNDLE_BYTES:
        raise ValueError(f"ca_bundle {path}: is larger than {_MAX_BUNDLE_BYTES} bytes; give the few roots it needs")
    certificates: list[str] = _CERTIFICATE.findall(raw.decode("utf-8", "replace"))
    if not certificates:
        raise ValueError(
            f"ca_bundle {path}: holds no PEM certificate (-----BEGIN CERTIFICATE-----); "
            "`openssl x509 -inform der -in file -out file.pem` converts a binary one"
        )
    ends = [_end(path, number, text) for number, text in enumerate(certificates, 1)]
    known = [end for end in ends if end is not None]
    if len(known) == len(ends) and max(known) < clock.now():
        last = datetime.fromtimestamp(max(known), UTC).date().isoformat()
        raise ValueError(f"ca_bundle {path}: every certificate in it has expired, the last one on {last}")
    return "\n".join(certificates)


def _end(path: Path, number: int, text: str) -> float | None:
    """When this certificate ends, seconds since the epoch. None for a server's own one: OpenSSL lists only CAs."""
    alone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        ssl.PEM_cert_to_DER_cert(text)
        alone.load_verify_locations(cadata=text)
    except (ssl.SSLError, binascii.Error, ValueError):
        raise ValueError(f"ca_bundle {path}: certificate {number} is damaged") from None
    listed = alone.get_ca_certs()
    return float(ssl.cert_time_to_seconds(str(listed[0]["notAfter"]))) if listed else None
