"""Certificates: who is believed, who is not, and what the operator is told."""

import asyncio
import datetime as dt
import ssl

import pytest
import trustme

from xrouter.core.clock import ManualClock
from xrouter.transport import CannotConnect
from xrouter.transport.tls import client_tls

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def answer(peer):
    while await peer.request():
        await peer.send(OK)


@pytest.fixture
def at_home(names):
    """api.example.test is this machine."""
    return names({"api.example.test": ["127.0.0.1"]})


@pytest.fixture
def call(dial, at_home):
    async def post(server, **settings):
        transport = dial(lookup=at_home, trusted_hosts=frozenset({"api.example.test"}), **settings)
        async with asyncio.timeout(10):
            async with transport.request(
                "POST", f"https://api.example.test:{server.port}/v1", headers={}, body=b"{}"
            ) as response:
                return await response.read(100)

    return post


def pem(path, *blobs: bytes):
    path.write_bytes(b"\n".join(blobs))
    return path


async def test_a_private_authority_is_believed_when_it_was_given(serve, call, authority, server_tls, tmp_path):
    server = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test")))
    assert await call(server, ca_bundle=pem(tmp_path / "ca.pem", authority.cert_pem.bytes())) == b"{}"


async def test_and_not_otherwise_in_words_that_help(serve, call, authority, server_tls):
    server = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test")))
    with pytest.raises(CannotConnect) as caught:
        await call(server)
    assert caught.value.reason == "tls"
    words = str(caught.value)
    assert f"api.example.test:{server.port}" in words
    assert "ca_bundle" in words
    assert "certificate" in words


async def test_one_providers_bundle_is_not_anothers(serve, call, authority, server_tls, tmp_path):
    server = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test")))
    bundle = pem(tmp_path / "ca.pem", authority.cert_pem.bytes())
    assert await call(server, ca_bundle=bundle) == b"{}"
    with pytest.raises(CannotConnect):
        await call(server)


async def test_another_authority_does_not_help(serve, call, authority, server_tls, tmp_path):
    server = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test")))
    with pytest.raises(CannotConnect) as caught:
        await call(server, ca_bundle=pem(tmp_path / "ca.pem", trustme.CA().cert_pem.bytes()))
    assert caught.value.reason == "tls"


async def test_the_name_must_be_right(serve, call, authority, server_tls, tmp_path):
    server = await serve(answer, tls=server_tls(authority.issue_cert("other.example.test")))
    with pytest.raises(CannotConnect) as caught:
        await call(server, ca_bundle=pem(tmp_path / "ca.pem", authority.cert_pem.bytes()))
    assert caught.value.reason == "tls"
    assert "api.example.test" in str(caught.value)
    assert "base_url" in str(caught.value)


async def test_an_expired_certificate_is_refused(serve, call, authority, server_tls, tmp_path):
    yesterday = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    server = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test", not_after=yesterday)))
    with pytest.raises(CannotConnect) as caught:
        await call(server, ca_bundle=pem(tmp_path / "ca.pem", authority.cert_pem.bytes()))
    assert caught.value.reason == "tls"
    assert "expired" in str(caught.value)
    assert "cannot be turned off" in str(caught.value)


async def test_a_bundle_of_several_roots(serve, call, server_tls, tmp_path):
    """Each of them counts, with comments in any language between them."""
    roots = [trustme.CA() for _ in range(3)]
    bundle = pem(tmp_path / "ca.pem", *["# Корневой\n".encode() + root.cert_pem.bytes() for root in roots])
    for root in roots:
        server = await serve(answer, tls=server_tls(root.issue_cert("api.example.test")))
        assert await call(server, ca_bundle=bundle) == b"{}"


async def test_a_server_that_leaves_out_its_intermediate(serve, call, tmp_path):
    """Root and intermediate in the bundle make up for it; so does the intermediate alone."""
    root = trustme.CA()
    middle = root.create_child_ca()
    leaf = middle.issue_cert("api.example.test")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    chain = pem(tmp_path / "leaf.pem", leaf.private_key_pem.bytes(), leaf.cert_chain_pems[0].bytes())
    context.load_cert_chain(chain)
    server = await serve(answer, tls=context)
    with pytest.raises(CannotConnect):
        await call(server, ca_bundle=pem(tmp_path / "root.pem", root.cert_pem.bytes()))
    for blobs in ([root.cert_pem.bytes(), middle.cert_pem.bytes()], [middle.cert_pem.bytes()]):
        assert await call(server, ca_bundle=pem(tmp_path / "ca.pem", *blobs)) == b"{}"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_tls_versions_that_are_spoken(serve, call, authority, server_tls, tmp_path, version):
    context = server_tls(authority.issue_cert("api.example.test"))
    context.minimum_version = context.maximum_version = version
    server = await serve(answer, tls=context)
    assert await call(server, ca_bundle=pem(tmp_path / "ca.pem", authority.cert_pem.bytes())) == b"{}"


def test_older_versions_are_not_offered():
    context = client_tls(None)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 50, "the usual roots are there"


async def test_leaving_early_cuts_a_tls_connection_at_once(serve, dial, at_home, authority, server_tls, tmp_path):
    """A polite TLS goodbye would wait for a peer that goes on sending."""
    noticed = asyncio.Event()

    async def script(peer):
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        try:
            while True:
                await peer.send(b"1\r\nx\r\n")
                await asyncio.sleep(0.001)
        except (ConnectionError, ssl.SSLError):
            noticed.set()

    server = await serve(script, tls=server_tls(authority.issue_cert("api.example.test")))
    transport = dial(
        lookup=at_home,
        trusted_hosts=frozenset({"api.example.test"}),
        ca_bundle=pem(tmp_path / "ca.pem", authority.cert_pem.bytes()),
    )
    url = f"https://api.example.test:{server.port}/v1"
    async with transport.request("POST", url, headers={}, body=b"{}") as response:
        await anext(response.chunks())
    async with asyncio.timeout(5):
        await noticed.wait()


async def test_tls_connections_are_kept_and_marked_exactly(serve, dial, at_home, authority, server_tls, tmp_path):
    server = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test")))
    transport = dial(
        lookup=at_home,
        trusted_hosts=frozenset({"api.example.test"}),
        ca_bundle=pem(tmp_path / "ca.pem", authority.cert_pem.bytes()),
    )
    url = f"https://api.example.test:{server.port}/v1"
    marks: list[int] = []
    for number in range(5):
        async with transport.request(
            "POST", url, headers={}, body=b"{}", on_sending=lambda number=number: marks.append(number)
        ) as response:
            assert await response.read(10) == b"{}"
    assert marks == [0, 1, 2, 3, 4]
    assert server.connections == 1


# ── the bundle itself ────────────────────────────────────────────────────────────────────────────────────


def test_a_bundle_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match=r"ca_bundle .*nowhere\.pem: cannot be read: No such file"):
        client_tls(tmp_path / "nowhere.pem")


def test_a_bundle_that_is_a_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot be read"):
        client_tls(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a certificate", b"\x30\x82\x05\x00\xff\xfe"])
def test_a_bundle_without_certificates(tmp_path, content):
    with pytest.raises(ValueError, match="holds no PEM certificate"):
        client_tls(pem(tmp_path / "ca.pem", content))


def test_a_bundle_with_a_damaged_certificate(tmp_path, authority):
    good = authority.cert_pem.bytes()
    lines = good.splitlines()
    damaged = b"\n".join([*lines[:3], *lines[5:]])
    with pytest.raises(ValueError, match="certificate 2 is damaged"):
        client_tls(pem(tmp_path / "ca.pem", good, damaged))


def test_a_bundle_that_is_a_private_key(tmp_path, authority):
    with pytest.raises(ValueError, match="holds no PEM certificate"):
        client_tls(pem(tmp_path / "ca.pem", authority.private_key_pem.bytes()))


def test_a_bundle_that_is_far_too_large(tmp_path):
    with pytest.raises(ValueError, match="larger than"):
        client_tls(pem(tmp_path / "ca.pem", b"#" * 2_000_000))


def test_a_bundle_that_has_expired(tmp_path, authority):
    """trustme's roots end in the year 3000: the clock goes there instead."""
    bundle = pem(tmp_path / "ca.pem", authority.cert_pem.bytes())
    with pytest.raises(ValueError, match="every certificate in it has expired, the last one on 3000-01-01"):
        client_tls(bundle, ManualClock(now=33_000_000_000.0))
    assert client_tls(bundle, ManualClock(now=1_800_000_000.0)).verify_mode == ssl.CERT_REQUIRED
