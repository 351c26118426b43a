"""The way to a host: its name, the connection, the certificates."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from xrouter import providers
from xrouter.core.clock import Clock
from xrouter.doctor.finding import Finding, failed, good, warning
from xrouter.settings import ProviderSettings
from xrouter.transport.tls import client_tls

LIMIT_S: Final = 10.0
"""For each step."""

BUNDLE_DAYS: Final = 90
"""A root that ends sooner is a warning: who issues the next one needs time."""

SERVER_DAYS: Final = 14
_DAY_S: Final = 86_400
_NO_PATH_TO_A_ROOT: Final = frozenset({18, 19, 20, 21})  # X509_V_ERR_*
_EXPIRED: Final = frozenset({9, 10})
_OTHER_HOST: Final = frozenset({62, 64})


def bundle(subject: str, path: Path, clock: Clock) -> Iterator[Finding]:
    """The roots that the operator gave to this provider."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except (OSError, ssl.SSLError) as error:
        yield failed(subject, "ca_bundle", f"{path} cannot be read: {error}", "give a PEM file of certificates")
        return
    ends = []
    for root in context.get_ca_certs():
        left = _days_left(root, clock)
        ends.append(left)
        if left < BUNDLE_DAYS:
            words = f"{_name(root, 'subject')} in {path} " + (f"ends in {left} days" if left >= 0 else "has expired")
            yield warning(subject, "ca_bundle", words, "get the successor from its issuer and add it to the file")
    if ends and min(ends) >= BUNDLE_DAYS:
        yield good(subject, "ca_bundle", f"{len(ends)} roots; the first ends in {min(ends)} days")


async def reach(subject: str, url: str, provider: ProviderSettings, clock: Clock) -> list[Finding]:
    """DNS, TCP and TLS to the host of `url`; ends at the first failure."""
    parts = urlsplit(url)
    host, secure = parts.hostname or "", parts.scheme == "https"
    port = parts.port or (443 if secure else 80)
    place = f"{host}:{port}"
    try:
        async with asyncio.timeout(LIMIT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError) as error:
        words = f"the name {host} cannot be looked up: {_words(error)}"
        return [failed(subject, "dns", words, "check base_url and auth_url, this machine's name server, or set proxy")]
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    findings = [good(subject, "dns", f"{host} is {', '.join(addresses[:4])}")]
    try:
        async with asyncio.timeout(LIMIT_S):
            _, writer = await asyncio.open_connection(host, port)
        await _close(writer)
    except (OSError, TimeoutError) as error:
        words = f"{place} takes no connection: {_words(error)}"
        mend = "open the firewall for it, or set proxy"
        if isinstance(error, ConnectionRefusedError):  # the machine answers, and says that nobody listens there
            mend = "is the server running, and is this its port? If so: " + mend
        return [*findings, failed(subject, "tcp", words, mend)]
    findings.append(good(subject, "tcp", f"{place} takes connections"))
    if secure:
        findings.append(await _tls(subject, host, port, provider, clock))
    return findings


async def _tls(subject: str, host: str, port: int, provider: ProviderSettings, clock: Clock) -> Finding:
    place = f"{host}:{port}"
    try:
        context = client_tls(provider.ca_bundle, client_cert=provider.client_identity)
        async with asyncio.timeout(LIMIT_S):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        return failed(subject, "tls", f"{place}: {error.verify_message}", _mend(error, provider))
    except (OSError, TimeoutError) as error:
        words = f"{place}: the TLS handshake failed: {_words(error)}"
        return failed(subject, "tls", words, "TLS 1.2 or newer is needed; is this really an https address?")
    except ValueError as error:
        return failed(subject, "tls", str(error), "mend ca_bundle")
    certificate = writer.get_extra_info("peercert") or {}
    await _close(writer)
    left = _days_left(certificate, clock)
    words = f"{place}: issued by {_name(certificate, 'issuer')}, {left} days left"
    if left < SERVER_DAYS:
        return warning(subject, "tls", words, "its owner must renew it")
    return good(subject, "tls", words)


def _mend(error: ssl.SSLCertVerificationError, provider: ProviderSettings) -> str:
    if error.verify_code in _NO_PATH_TO_A_ROOT:
        whose = getattr(providers.load(provider.kind), "ROOTS", "the vendor's own root certificate (PEM)")
        has = f"; {provider.ca_bundle} does not hold it" if provider.ca_bundle else ""
        return f"set ca_bundle of this provider to {whose}{has}"
    if error.verify_code in _EXPIRED:
        return "its owner must renew it, or this machine's clock is wrong; verification cannot be turned off"
    if error.verify_code in _OTHER_HOST:
        return "check the host in base_url"
    return "verification cannot be turned off; ca_bundle adds roots"


def _days_left(certificate: Any, clock: Clock) -> int:
    end = certificate.get("notAfter")
    return int((ssl.cert_time_to_seconds(end) - clock.now()) // _DAY_S) if end else -1


def _name(certificate: Any, field: str) -> str:
    """The organisation and the common name."""
    parts = {key: value for group in certificate.get(field, ()) for key, value in group}
    return ", ".join(parts[key] for key in ("organizationName", "commonName") if key in parts) or "nobody named"


def _words(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {LIMIT_S:g} s"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()
