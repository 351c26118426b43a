"""Our own certificate, shown to an upstream that asks for one (mTLS)."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from tests.transport.conftest import Peer

from xrouter.core.secret import Secret
from xrouter.settings import ConfigError, parse_config
from xrouter.transport import TransportError
from xrouter.transport.tls import client_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
HOST = "api.example.test"


@pytest.fixture(scope="module")
def ours() -> trustme.CA:
    """Who signs certificates of clients."""
    return trustme.CA()


@pytest.fixture
def files(ours: trustme.CA, tmp_path: Path) -> dict[str, Path]:
    """One client certificate in all the forms in which it may lie on a disk."""
    leaf = ours.issue_cert("gateway@example.test")
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    key = leaf.private_key_pem.bytes()
    locked = load_pem_private_key(key, None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"open sesame")
    )
    other = ours.issue_cert("other@example.test").private_key_pem.bytes()
    blobs = {"cert": chain, "key": key, "both": chain + key, "locked": locked, "other": other, "neither": b"hello"}
    found = {}
    for name, blob in blobs.items():
        found[name] = tmp_path / f"{name}.pem"
        found[name].write_bytes(blob)
    return found


@pytest.fixture
def call(serve: Any, dial: Any, names: Any, authority: trustme.CA, ours: trustme.CA, tmp_path: Path) -> Any:
    """Asks a server that takes nobody without a certificate of `ours`; gives the name in the certificate it saw."""
    seen: list[Any] = []

    async def answer(peer: Peer) -> None:
        seen.append(peer.writer.get_extra_info("ssl_object").getpeercert()["subjectAltName"])
        while await peer.request():
            await peer.send(OK)

    bundle = tmp_path / "ca.pem"
    bundle.write_bytes(authority.cert_pem.bytes())

    async def asked(client_cert: Any) -> Any:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(tls)
        tls.verify_mode = ssl.CERT_REQUIRED
        ours.configure_trust(tls)
        server = await serve(answer, tls=tls)
        transport = dial(
            lookup=names({HOST: ["127.0.0.1"]}),
            trusted_hosts=frozenset({HOST}),
            ca_bundle=bundle,
            client_cert=client_cert,
        )
        async with asyncio.timeout(10):
            async with transport.request(
                "POST", f"https://{HOST}:{server.port}/v1", headers={}, body=b"{}"
            ) as response:
                assert await response.read(100) == b"{}"
        return seen[-1]

    return asked


@pytest.mark.parametrize(
    ("cert", "key", "password"),
    [("both", None, None), ("cert", "key", None), ("cert", "locked", "open sesame"), ("cert", "key", "not needed")],
)
async def test_the_certificate_is_shown(
    call: Any, files: dict[str, Path], cert: str, key: str | None, password: str | None
) -> None:
    given = (files[cert], files[key] if key else None, Secret(password) if password else None)
    assert await call(given) == (("email", "gateway@example.test"),)


async def test_without_it_the_upstream_refuses(call: Any) -> None:
    with pytest.raises(TransportError):
        await call(None)


@pytest.mark.parametrize(
    ("cert", "key", "password"),
    [
        ("cert", None, None),
        ("cert", "other", None),
        ("cert", "locked", None),
        ("cert", "locked", "wrong password"),
        ("neither", "key", None),
    ],
)
def test_one_that_cannot_be_used_is_told_at_start(
    files: dict[str, Path], cert: str, key: str | None, password: str | None
) -> None:
    given = (files[cert], files[key] if key else None, Secret(password) if password else None)
    with pytest.raises(
        ValueError, match=r"client_cert .*: cannot be used with its key .*client_key_password"
    ) as caught:
        client_tls(None, client_cert=given)
    assert "sesame" not in str(caught.value)
    assert "wrong password" not in str(caught.value)


def test_files_that_are_not_there(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"client_cert .*nowhere\.pem: is no file"):
        client_tls(None, client_cert=(tmp_path / "nowhere.pem", None, None))
    with pytest.raises(ValueError, match=r"client_key .*nowhere\.pem: is no file"):
        client_tls(None, client_cert=(files["cert"], tmp_path / "nowhere.pem", None))


def test_a_key_without_a_certificate_is_a_mistake() -> None:
    provider = {"kind": "gigachat", "models": ["m"], "client_key": "/k.pem"}
    with pytest.raises(ConfigError, match="belong to a client_cert"):
        parse_config({"providers": {"g": provider}}, "here")
