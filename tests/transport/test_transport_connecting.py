"""Why there is no connection: a reason for the program, words for people, and never a credential."""

import asyncio
import socket
from ipaddress import ip_network

import pytest

from xrouter.transport import CannotConnect
from xrouter.transport.route import Proxy

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


async def answer(peer):
    while await peer.request():
        await peer.send(OK)


async def post(transport, url):
    async with transport.request("POST", url, headers={}, body=b"{}") as response:
        return await response.read(100)


async def refusal(transport, url) -> CannotConnect:
    async with asyncio.timeout(10):
        with pytest.raises(CannotConnect) as caught:
            await post(transport, url)
    assert str(caught.value).startswith("acme: ")
    return caught.value


async def test_refused(dial):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = await refusal(dial(), f"http://127.0.0.1:{port}/")
    assert error.reason == "refused"
    assert f"127.0.0.1:{port}" in str(error)


async def test_a_name_that_does_not_exist(dial, names):
    lookup = names({"api.example.test": socket.gaierror(socket.EAI_NONAME, "Name or service not known")})
    error = await refusal(dial(lookup=lookup), "https://api.example.test/v1")
    assert error.reason == "dns"
    assert "api.example.test:443" in str(error)
    assert "Name or service not known" in str(error)


async def test_a_name_without_addresses(dial, names):
    error = await refusal(dial(lookup=names({"api.example.test": []})), "https://api.example.test/v1")
    assert error.reason == "dns"


async def test_a_name_server_that_never_answers(dial, names):
    class Silent(names):
        async def __call__(self, host):
            await asyncio.Event().wait()

    error = await refusal(dial(lookup=Silent({}), connect_timeout_s=0.1), "https://api.example.test/v1")
    assert error.reason == "timeout"
    assert "0.1 s" in str(error)


async def test_a_handshake_that_never_ends(serve, dial):
    async def silent(peer):
        await peer.reader.read(1)
        await asyncio.Event().wait()

    server = await serve(silent)
    error = await refusal(dial(connect_timeout_s=0.2), f"https://127.0.0.1:{server.port}/")
    assert error.reason == "timeout"


async def test_a_host_that_swallows_everything(dial):
    """A listener whose queue is full answers no SYN, as a firewall that drops packets does."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        fillers = []
        try:
            for _ in range(64):
                filler = socket.socket()
                fillers.append(filler)
                filler.settimeout(0.05)
                try:
                    filler.connect(address)
                except TimeoutError:
                    break
            else:
                pytest.skip("this kernel's listen queue cannot be filled")
            error = await refusal(dial(connect_timeout_s=0.2), f"http://127.0.0.1:{address[1]}/")
        finally:
            for filler in fillers:
                filler.close()
    assert error.reason == "timeout"


async def test_several_addresses_are_tried(serve, dial, names):
    """127.0.0.2 listens to nobody, 127.0.0.1 serves."""
    server = await serve(answer)
    transport = dial(lookup=names({"vllm.test": ["127.0.0.2", "127.0.0.1"]}), allow_private=[ip_network("127.0.0.0/8")])
    assert await post(transport, f"http://vllm.test:{server.port}/v1") == b"{}"


async def test_hanging_up_during_the_handshake(serve, dial):
    async def rude(peer):
        await peer.reader.read(1)

    server = await serve(rude)
    error = await refusal(dial(), f"https://127.0.0.1:{server.port}/")
    assert error.reason == "tls"


async def test_a_plain_server_behind_https(serve, dial):
    async def plain(peer):
        await peer.reader.read(1)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.reader.read()

    server = await serve(plain)
    error = await refusal(dial(), f"https://127.0.0.1:{server.port}/")
    assert error.reason == "tls"


# ── through a proxy ──────────────────────────────────────────────────────────────────────────────────────


def tunnelling(to_port: int, seen: list[bytes], status: bytes = b"200 Connection established"):
    """A CONNECT proxy of a few lines. Every tunnel leads to `to_port` on this machine."""

    async def script(peer):
        seen.append(await peer.reader.readuntil(b"\r\n\r\n"))
        await peer.send(b"HTTP/1.1 %b\r\n\r\n" % status)
        if not status.startswith(b"200"):
            return
        reader, writer = await asyncio.open_connection("127.0.0.1", to_port)

        async def pump(source, sink):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
            sink.close()

        try:
            await asyncio.gather(pump(peer.reader, writer), pump(reader, peer.writer))
        finally:
            writer.close()

    return script


@pytest.fixture
def bundle(authority, tmp_path):
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.cert_pem.bytes())
    return path


async def test_through_a_proxy(serve, dial, names, authority, server_tls, bundle):
    upstream = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test")))
    seen: list[bytes] = []
    proxy = await serve(tunnelling(upstream.port, seen))
    lookup = names({"proxy.test": ["127.0.0.1"]})
    transport = dial(
        proxy=f"http://ann:s%3Acret@proxy.test:{proxy.port}",
        ca_bundle=bundle,
        lookup=lookup,
        trusted_hosts=frozenset(),
    )
    for _ in range(3):
        assert await post(transport, "https://api.example.test/v1") == b"{}"
    assert proxy.connections == 1, "the tunnel is kept"
    assert seen[0].startswith(b"CONNECT api.example.test:443 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic YW5uOnM6Y3JldA==\r\n" in seen[0]
    assert lookup.asked == ["proxy.test"], "the target's name is the proxy's business"


async def test_proxy_credentials_stay_with_the_proxy(serve, dial, authority, server_tls, bundle):
    requests: list[bytes] = []

    async def script(peer):
        requests.append(await peer.request())
        await peer.send(OK)

    upstream = await serve(script, tls=server_tls(authority.issue_cert("api.example.test")))
    proxy = await serve(tunnelling(upstream.port, []))
    transport = dial(proxy=f"http://ann:secret@127.0.0.1:{proxy.port}", ca_bundle=bundle)
    assert await post(transport, "https://api.example.test/v1") == b"{}"
    assert b"proxy-authorization" not in requests[0].lower()


@pytest.mark.parametrize("status", [b"407 Proxy Authentication Required", b"403 Forbidden", b"502 Bad Gateway"])
async def test_a_proxy_that_says_no(serve, dial, status):
    proxy = await serve(tunnelling(0, [], status))
    error = await refusal(dial(proxy=f"http://ann:s3cret@127.0.0.1:{proxy.port}"), "https://api.example.test/v1")
    assert error.reason == "proxy"
    assert status[:3].decode() in str(error)
    assert "s3cret" not in str(error)
    assert "ann" not in str(error)
    assert ("password" in str(error)) == status.startswith(b"407")


@pytest.mark.parametrize("behaviour", ["closed port", "unknown name", "hangs up", "babbles", "is silent"])
async def test_a_proxy_that_does_not_work(serve, dial, names, behaviour):
    async def hangs_up(peer):
        await peer.reader.readuntil(b"\r\n\r\n")

    async def babbles(peer):
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(b"SSH-2.0-OpenSSH\r\n\r\n")
        await peer.reader.read()

    async def silent(peer):
        await asyncio.Event().wait()

    if behaviour == "closed port":
        where = "127.0.0.1:1"
    elif behaviour == "unknown name":
        where = "proxy.test:3128"
    else:
        script = {"hangs up": hangs_up, "babbles": babbles, "is silent": silent}[behaviour]
        where = f"127.0.0.1:{(await serve(script)).port}"
    transport = dial(
        proxy=f"http://ann:s3cret@{where}",
        connect_timeout_s=0.3 if behaviour == "is silent" else 5,
        lookup=names({"proxy.test": socket.gaierror(socket.EAI_NONAME, "Name or service not known")}),
    )
    error = await refusal(transport, "https://api.example.test/v1")
    assert error.reason == ("timeout" if behaviour == "is silent" else "proxy")
    assert where in str(error)
    assert "s3cret" not in str(error)
    assert error.__cause__ is None
    assert error.__suppress_context__, "a cause would show the proxy's words in a traceback"


async def test_certificates_are_verified_through_a_proxy_too(serve, dial, authority, server_tls):
    upstream = await serve(answer, tls=server_tls(authority.issue_cert("api.example.test")))
    proxy = await serve(tunnelling(upstream.port, []))
    error = await refusal(dial(proxy=f"http://127.0.0.1:{proxy.port}"), "https://api.example.test/v1")
    assert error.reason == "tls"
    assert "ca_bundle" in str(error)


async def test_http_does_not_go_through_a_proxy(serve, dial):
    proxy = await serve(tunnelling(0, []))
    error = await refusal(dial(proxy=f"http://127.0.0.1:{proxy.port}"), "http://127.0.0.1/v1")
    assert error.reason == "forbidden_address"
    assert proxy.connections == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "proxy:3128",
        "socks5://p:1",
        "https://p:1",
        "http://p",
        "http://p:1/x",
        "http://:1",
        "http://u:s3cret@p:99999",
    ],
)
def test_a_proxy_setting_that_cannot_be_used(text):
    with pytest.raises(ValueError, match=r"http://\[user:password@\]host:port") as caught:
        Proxy(text)
    assert "s3cret" not in str(caught.value)


async def test_the_environment_has_no_say(serve, dial, monkeypatch):
    proxy = await serve(tunnelling(0, []))
    server = await serve(answer)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert await post(dial(), server.url) == b"{}"
    assert proxy.connections == 0
