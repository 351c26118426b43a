"""Each provider's own CA bundle and egress proxy, through the whole gateway."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import trustme
from campaigns.stage import Gateway, Simulators, config_for, http
from tests.journey.calls import chat_body
from tests.journey.relays import egress_proxy, tls_front


@dataclass
class Egress:
    place: Gateway
    port: int
    proxied: list[str]

    async def chat(self, provider: str) -> tuple[int, Any]:
        body = chat_body(f"{provider}/t-pro-it-2.1", "echo: over TLS")
        return await asyncio.to_thread(http, "POST", f"{self.place.url}/v1/chat/completions", body, self.place.key)


@pytest.fixture
async def egress(vendors: Simulators, tmp_path: Path) -> AsyncIterator[Egress]:
    """`strange` has no bundle, `private` has it, `proxied` also goes through a proxy, `named` is a host that only
    the proxy can find; `refused` has a proxy where nobody listens."""
    authority = trustme.CA()
    bundle = tmp_path / "private.pem"
    authority.cert_pem.write_to_path(bundle)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost", "vendor.example").configure_cert(tls)
    port = urlsplit(vendors.url).port
    assert port is not None
    heads: list[str] = []
    async with tls_front(tls, port) as secure, egress_proxy(heads) as proxy:
        base = {"kind": "tbank", "models": ["t-pro-it-2.1"], "base_url": f"https://localhost:{secure}/openai/v1"}
        trusting = base | {"ca_bundle": str(bundle)}
        through = trusting | {"proxy": f"http://agent:s3cret-of-the-proxy@127.0.0.1:{proxy}"}
        config = config_for(vendors.url, aliases={}) | {
            "providers": {
                "strange": base,
                "private": trusting,
                "proxied": through,
                "named": through | {"base_url": f"https://vendor.example:{secure}/openai/v1"},
                "refused": trusting | {"proxy": "http://127.0.0.1:1"},
            }
        }
        place = await asyncio.to_thread(_start, tmp_path / "gateway", config)
        try:
            yield Egress(place, secure, heads)
        finally:
            assert await asyncio.to_thread(place.stop) == 0


def _start(directory: Path, config: dict[str, Any]) -> Gateway:
    directory.mkdir()
    place = Gateway(directory, config)
    place.start()
    return place


async def test_a_private_authority_and_an_egress_proxy(egress: Egress) -> None:
    status, body = await egress.chat("strange")
    assert status == 502
    assert "strange was not reached (tls)" in body["error"]["message"]
    assert "certificate" in body["error"]["message"]

    status, body = await egress.chat("private")
    assert status == 200
    assert body["choices"][0]["message"]["content"] == "over TLS"
    assert egress.proxied == []

    status, body = await egress.chat("proxied")
    assert status == 200
    (head,) = egress.proxied
    assert head.startswith(f"CONNECT localhost:{egress.port} HTTP/1.1\r\n")
    assert "Proxy-Authorization: Basic " in head

    status, body = await egress.chat("named")
    assert status == 200, "names are the proxy's business"
    assert egress.proxied[-1].startswith(f"CONNECT vendor.example:{egress.port} ")

    status, body = await egress.chat("refused")
    assert status == 502
    assert "refused was not reached (proxy)" in body["error"]["message"]
    assert "s3cret-of-the-proxy" not in egress.place.log.read_text()
