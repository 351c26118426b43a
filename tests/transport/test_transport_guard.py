"""The address guard: what may be dialled, what may not, and that refusing means not one packet."""

import asyncio
import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xrouter.transport import CannotConnect
from xrouter.transport.guard import ForbiddenAddress, check_url, is_inside, why_forbidden

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

# {p} is the canary's port. Whatever one of these means to a resolver, a parser or the kernel: no connection.
FORBIDDEN_AS_WRITTEN = [
    # this machine, in every spelling
    "https://127.0.0.1:{p}/",
    "http://127.0.0.1:{p}/",
    "https://localhost:{p}/",
    "http://localhost:{p}/",
    "https://LOCALHOST:{p}/",
    "https://localhost.:{p}/",
    "https://a.localhost:{p}/",
    "https://127.0.0.1.:{p}/",
    "https://127.1:{p}/",
    "https://127.0.1:{p}/",
    "https://127.255.255.254:{p}/",
    "https://2130706433:{p}/",
    "https://0x7f000001:{p}/",
    "https://0x7f.0.0.1:{p}/",
    "https://0X7F.1:{p}/",
    "https://0177.0.0.1:{p}/",
    "https://017700000001:{p}/",
    "https://127.000.000.001:{p}/",
    "https://127.0.0.0x1:{p}/",
    "https://0:{p}/",
    "https://0.0.0.0:{p}/",
    "https://[::1]:{p}/",
    "https://[0:0:0:0:0:0:0:1]:{p}/",
    "https://[::]:{p}/",
    "https://[::ffff:127.0.0.1]:{p}/",
    "https://[::ffff:7f00:1]:{p}/",
    "https://[::127.0.0.1]:{p}/",
    "https://[::ffff:0:127.0.0.1]:{p}/",
    "https://[64:ff9b::127.0.0.1]:{p}/",
    "https://[64:ff9b:1::7f00:1]:{p}/",
    "https://[2002:7f00:1::]:{p}/",
    "https://[::1%25lo]:{p}/",
    "https://[fe80::1%25lo]:{p}/",
    "https://①②⑦.⓪.⓪.①:{p}/",
    "https://127。0。0。1:{p}/",
    "https://%31%32%37.0.0.1:{p}/",
    "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ:{p}/",
    # networks behind us
    "https://10.0.0.1:{p}/",
    "https://172.16.0.1:{p}/",
    "https://172.31.255.255:{p}/",
    "https://192.168.1.1:{p}/",
    "https://100.64.0.1:{p}/",
    "https://169.254.169.254/latest/meta-data/",
    "https://[fd00:ec2::254]/latest/meta-data/",
    "https://100.100.100.200/latest/meta-data/",
    "https://168.63.129.16/",
    "https://192.0.0.192/",
    "https://[fc00::1]/",
    "https://[fe80::1]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://224.0.0.1/",
    "https://255.255.255.255/",
    "https://240.0.0.1/",
    "https://198.18.0.1/",
    "https://[2001:db8::1]/",
    "https://[2001:0:7f00:1::]/",
    "https://8.8.8.8/",
    # users, parsers and schemes
    "https://api.public.test@127.0.0.1:{p}/",
    "https://api.public.test:x@127.0.0.1:{p}/",
    "https://127.0.0.1:{p}@api.public.test/",
    "https://@127.0.0.1:{p}/",
    "https://api.public.test#@127.0.0.1:{p}/",
    "https://127.0.0.1:{p}\\@api.public.test/",
    "https:\\\\127.0.0.1:{p}/",
    "https:/127.0.0.1:{p}/",
    "https:127.0.0.1:{p}/",
    "//127.0.0.1:{p}/",
    "127.0.0.1:{p}",
    "https://127.0.0.1:{p}\r\nHost: api.public.test/",
    "https://127.0.0.1 :{p}/",
    " https://127.0.0.1:{p}/",
    "https://127.0.0.1\t:{p}/",
    "https://127.0.0.1%00.api.public.test:{p}/",
    "file:///etc/passwd",
    "ftp://127.0.0.1:{p}/",
    "gopher://127.0.0.1:{p}/_GET",
    "unix:///run/docker.sock",
    "ws://127.0.0.1:{p}/",
    "https://",
    "https:///v1",
    "https://:{p}/",
    "https://api.public.test:0/",
    "https://api.public.test:65536/",
    "https://api.public.test:-1/",
    "https://api.public.test:x/",
    "https://[::1:{p}/",
    "http://api.public.test/",
    "https://api.public.test/" + "a" * 2048,
]

# Names whose addresses are forbidden (see the table below).
FORBIDDEN_BY_MEANING = [
    "https://home.test:{p}/",
    "http://home.test:{p}/",
    "https://half.test:{p}/",
    "https://six.test:{p}/",
    "https://mapped.test:{p}/",
    "https://nat64.test:{p}/",
    "https://6to4.test:{p}/",
    "https://metadata.test/computeMetadata/v1/",
]


@pytest.fixture
def lookup(names):
    return names(
        {
            "home.test": ["127.0.0.1"],
            "half.test": ["93.184.216.34", "127.0.0.1"],
            "six.test": ["::1"],
            "mapped.test": ["::ffff:127.0.0.1"],
            "nat64.test": ["64:ff9b::7f00:1"],
            "6to4.test": ["2002:7f00:1::"],
            "metadata.test": ["169.254.169.254"],
            "api.public.test": ["93.184.216.34"],
        }
    )


@pytest.fixture
async def canary(serve):
    """A server that nobody may reach; it listens on IPv4 loopback (IPv6 spellings must fail as well)."""

    async def script(peer):
        await peer.reader.read(1)

    return await serve(script)


class Fallback:
    """The table first, then the system, as a resolver that understands strange spellings would."""

    def __init__(self, table):
        self.table = table

    async def __call__(self, host):
        if host in self.table.table:
            return await self.table(host)
        infos = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        return [info[4][0] for info in infos]


def test_the_corpus_is_large_enough():
    assert len({*FORBIDDEN_AS_WRITTEN, *FORBIDDEN_BY_MEANING}) >= 90


async def try_all(transport, templates, port):
    marks: list[str] = []
    for template in templates:
        url = template.replace("{p}", str(port))
        with pytest.raises(CannotConnect) as caught:
            async with transport.request("POST", url, headers={}, body=b"{}", on_sending=lambda: marks.append("sent")):
                pass
        assert caught.value.reason == "forbidden_address", url
    assert marks == []


async def test_the_whole_corpus_reaches_nobody(dial, lookup, canary):
    transport = dial(trusted_hosts=frozenset(), lookup=Fallback(lookup))
    await try_all(transport, FORBIDDEN_AS_WRITTEN + FORBIDDEN_BY_MEANING, canary.port)
    assert canary.connections == 0


async def test_nor_through_a_proxy(serve, dial, lookup, canary):
    """Names are the proxy's business then; what is written is still ours, and the proxy never hears of it."""
    proxy = await serve(answer)
    transport = dial(trusted_hosts=frozenset(), lookup=Fallback(lookup), proxy=f"http://127.0.0.1:{proxy.port}")
    await try_all(transport, FORBIDDEN_AS_WRITTEN, canary.port)
    assert canary.connections == proxy.connections == 0


async def test_the_system_resolver_is_guarded_too(dial, canary):
    with pytest.raises(CannotConnect) as caught:
        async with dial(trusted_hosts=frozenset(), allow_private=[ip_network("10.0.0.0/8")]).request(
            "POST", f"http://localhost.localdomain:{canary.port}/", headers={}, body=b"{}"
        ):
            pass
    assert caught.value.reason in ("forbidden_address", "dns")
    assert canary.connections == 0


async def test_rebinding_a_name_between_check_and_connect(dial, names, canary):
    """The first answer is public, every later one is loopback: what was checked is what is dialled."""

    class Rebinding(names):
        async def __call__(self, host):
            self.table = {host: ["93.184.216.34"] if not self.asked else ["127.0.0.1"]}
            return await super().__call__(host)

    lookup = Rebinding({})
    transport = dial(trusted_hosts=frozenset(), lookup=lookup)
    reasons = []
    for _ in range(3):
        with pytest.raises((CannotConnect, RuntimeError)) as caught:  # the test's own network block is a RuntimeError
            async with transport.request("POST", f"https://evil.test:{canary.port}/", headers={}, body=b"{}"):
                pass
        reasons.append(getattr(caught.value, "reason", "dialled the public address"))
        transport._pool._dialler._lookup._asked.clear()
    assert reasons == ["dialled the public address", "forbidden_address", "forbidden_address"]
    assert canary.connections == 0


# ── what the operator may open ───────────────────────────────────────────────────────────────────────────


async def answer(peer):
    while await peer.request():
        await peer.send(OK)


@pytest.mark.parametrize(
    ("host", "settings"),
    [
        ("127.0.0.1", {"trusted_hosts": frozenset({"127.0.0.1"})}),
        ("localhost", {"trusted_hosts": frozenset({"localhost"})}),
        ("LocalHost", {"trusted_hosts": frozenset({"localhost"})}),
        ("127.0.0.1", {"trusted_hosts": frozenset(), "allow_private": [ip_network("127.0.0.0/8")]}),
        ("home.test", {"trusted_hosts": frozenset(), "allow_private": [ip_network("127.0.0.1/32")]}),
        ("home.test", {"trusted_hosts": frozenset({"home.test"})}),
    ],
)
async def test_what_the_operator_wrote_down_is_dialled(serve, dial, lookup, host, settings):
    server = await serve(answer)
    transport = dial(lookup=Fallback(lookup), **settings)
    async with transport.request("POST", f"http://{host}:{server.port}/v1", headers={}, body=b"{}") as response:
        assert await response.read(10) == b"{}"


async def test_http_to_a_name_must_stay_inside(serve, dial, names, monkeypatch):
    """`allow_private` permits http to a name, but not in clear to the outside. The outside is 127.0.0.1 here."""
    server = await serve(answer)
    transport = dial(
        trusted_hosts=frozenset(),
        allow_private=[ip_network("10.0.0.0/8")],
        lookup=names({"vllm.test": ["127.0.0.1"]}),
    )
    monkeypatch.setattr("xrouter.transport.guard.why_forbidden", lambda address, allowed: None)
    marks = []
    with pytest.raises(CannotConnect, match="leaves the networks") as caught:
        async with transport.request(
            "POST", f"http://vllm.test:{server.port}/", headers={}, body=b"{}", on_sending=lambda: marks.append("sent")
        ):
            pass
    assert caught.value.reason == "forbidden_address"
    assert marks == []


async def test_the_words_name_the_mend(dial, lookup):
    transport = dial(trusted_hosts=frozenset(), lookup=lookup)
    with pytest.raises(CannotConnect, match=r"home.test leads to 127.0.0.1, which is loopback.*`allow_private`"):
        async with transport.request("POST", "https://home.test/", headers={}, body=b"{}"):
            pass


def test_urls_that_are_fine():
    for url in (
        "https://api.example.com",
        "https://api.example.com:8443/v1/chat/completions?x=1",
        "HTTPS://API.example.com/v1",
        "https://xn--e1afmkfd.xn--p1ai/v1",
        "https://пример.рф/v1",
        "https://3com.example.com/v1",
        "https://a.example.com/user@domain",
    ):
        assert check_url(url).host
    assert check_url("https://пример.рф/v1").raw_host == "xn--e1afmkfd.xn--p1ai"


def test_the_limit_of_length_is_in_bytes():
    assert check_url("https://a.example.com/" + "a" * (2048 - 22))
    with pytest.raises(ForbiddenAddress, match="2048 bytes"):
        check_url("https://a.example.com/" + "a" * (2049 - 22))
    with pytest.raises(ForbiddenAddress, match="2048 bytes"):
        check_url("https://a.example.com/" + "я" * 1014)


# ── addresses ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "93.184.216.34",
        "100.63.255.255",
        "100.128.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "192.167.0.1",
        "11.0.0.0",
        "128.0.0.1",
        "126.255.255.255",
        "169.253.0.1",
        "223.255.255.255",
        "198.17.0.1",
        "198.20.0.1",
        "2a00:1450::1",
        "2606:4700::1111",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2001:4860::1",
    ],
)
def test_public_addresses(address):
    assert why_forbidden(ip_address(address)) is None


PRIVATE = [ip_network(text) for text in ("10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "192.168.0.0/16")]


@given(st.sampled_from(PRIVATE).flatmap(lambda net: st.integers(int(net[0]), int(net[-1]))))
def test_every_form_that_carries_a_private_address_is_private(number):
    assert why_forbidden(IPv6Address(number)) is not None
    assert why_forbidden(IPv6Address(0xFFFF << 48 | number)) is not None
    for carrier in (
        IPv4Address(number),
        IPv6Address(0xFFFF << 32 | number),
        IPv6Address(0x64FF9B << 96 | number),
        IPv6Address(0x2002 << 112 | number << 80),
        IPv6Address(0x2002 << 112 | number << 80 | 0xDEADBEEF),
    ):
        assert why_forbidden(carrier) is not None
        assert why_forbidden(carrier, [IPv4Network((number, 32))]) is None
        assert is_inside(str(carrier), [IPv4Network((number, 32))])
        assert why_forbidden(carrier, [IPv4Network("203.0.113.0/24"), IPv6Network("2001:db8::/32")]) is not None


@given(st.integers(0, 2**32 - 1))
def test_agrees_with_python_on_what_is_public_v4(number):
    """Whatever Python's own table calls not global is forbidden here (ours may forbid more)."""
    address = IPv4Address(number)
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert why_forbidden(address) is not None


CARRIERS = [IPv6Network(text) for text in ("::ffff:0:0/96", "64:ff9b::/96", "2002::/16")]


@given(st.integers(0, 2**128 - 1) | st.integers(0x2000 << 112, (0x2003 << 112) - 1) | st.integers(0, 2**64))
def test_agrees_with_python_on_what_is_public_v6(number):
    address = IPv6Address(number)
    if any(address in network for network in CARRIERS):
        return
    if not address.is_global or address.is_multicast or address.is_reserved:
        assert why_forbidden(address) is not None


@given(st.text(max_size=60), st.sampled_from(["", "https://", "http://", "https://127.0.0.1", "https://[::1]"]))
def test_no_text_gets_past_with_a_bare_address(text, start):
    try:
        url = check_url(start + text)
    except ForbiddenAddress:
        return
    assert url.scheme == "https"
    host = url.raw_host
    assert host
    assert not url.raw_user
    with pytest.raises(ValueError):
        ip_address(host.strip("[]"))
    with pytest.raises(OSError):
        socket.inet_aton(host)
