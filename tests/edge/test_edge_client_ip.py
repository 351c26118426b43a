"""The client's address: only what trusted proxies wrote counts."""

import pytest

from xrouter.edge.client_ip import client_ip

PEER = "10.0.0.1"


@pytest.mark.parametrize(
    ("forwarded", "proxies", "wanted"),
    [
        ([], 0, PEER),
        (["1.1.1.1"], 0, PEER),  # no proxy is trusted: whatever the header says
        (["1.1.1.1"], 1, "1.1.1.1"),
        (["6.6.6.6, 1.1.1.1"], 1, "1.1.1.1"),  # the left one was written by the client
        (["6.6.6.6", "1.1.1.1"], 1, "1.1.1.1"),  # the same in two lines
        (["6.6.6.6, 1.1.1.1, 2.2.2.2"], 2, "1.1.1.1"),
        (["1.1.1.1"], 2, PEER),  # fewer hops than proxies: somebody went around one
        (["nonsense"], 1, PEER),
        ([""], 1, PEER),
        (["1.1.1.1:4711"], 1, "1.1.1.1"),
        (["[2001:db8::1]:4711"], 1, "2001:db8::1"),
        (["2001:DB8:0::1"], 1, "2001:db8::1"),
        (["::ffff:1.1.1.1"], 1, "1.1.1.1"),
        (["1.1.1.1\xff"], 1, PEER),
    ],
)
def test_the_address_is_counted_from_the_right(forwarded: list[str], proxies: int, wanted: str) -> None:
    headers = [(b"host", b"gw.test"), *((b"x-forwarded-for", line.encode("latin-1")) for line in forwarded)]
    assert client_ip(headers, PEER, proxies) == wanted
