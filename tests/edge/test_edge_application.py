"""`Edge` as an ASGI application: what reaches the application inside, and what leaves."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.edge.echo_server import refuse

from xrouter.core.errors import Forbidden, TooLarge
from xrouter.edge.headers import secured
from xrouter.edge.validator import Edge


class World:
    """Runs one request through an `Edge` around `app` and keeps what was sent."""

    def __init__(self, app: Any, **settings: Any) -> None:
        self.sent: list[dict[str, Any]] = []
        defaults: dict[str, Any] = {"allowed_hosts": [], "max_header_bytes": 1_000, "max_body_bytes": 10}
        self.edge = Edge(app, **{**defaults, "body_timeout_s": 1.0, "refuse": refuse, "linger_s": 0.01, **settings})

    async def request(self, *pieces: bytes, **scope: Any) -> int:
        messages = [
            {"type": "http.request", "body": piece, "more_body": index < len(pieces) - 1}
            for index, piece in enumerate(pieces)
        ]

        async def receive() -> dict[str, Any]:
            return messages.pop(0) if messages else {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.sent.append(message)

        whole = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST",
            "path": "/v1/x",
            "raw_path": b"/v1/x",
            "query_string": b"",
            "scheme": "http",
            "headers": [(b"host", b"gw.test"), (b"transfer-encoding", b"chunked")],
            **scope,
        }
        await self.edge(whole, receive, send)
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


async def _ok(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"cache-control", b"no-cache")]})
    await send({"type": "http.response.body", "body": b"ok"})


async def test_headers_that_the_application_sets_itself_stay() -> None:
    world = World(_ok)
    assert await world.request(b"{}") == 200
    assert world.headers[b"cache-control"] == b"no-cache"
    assert world.headers[b"x-content-type-options"] == b"nosniff"
    assert b"connection" not in world.headers


def test_transport_security_is_asked_for_over_tls_only() -> None:
    assert b"strict-transport-security" in dict(secured([], "https"))
    assert b"strict-transport-security" not in dict(secured([], "http"))


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ([], b"anything.test:1", 200),
        (["gw.test"], b"GW.test:8080", 200),
        (["GW.test"], b"gw.test", 200),
        (["gw.test"], b"other.test", 400),
        (["*.gw.test"], b"a.gw.test", 200),
        (["*.gw.test"], b"gw.test", 400),
        (["::1"], b"[::1]:8080", 200),
        (["[::1]"], b"[::1]", 200),
        (["::1"], b"[::2]", 400),
    ],
)
async def test_hosts_are_compared_by_name(allowed: list[str], host: bytes, status: int) -> None:
    assert await World(_ok, allowed_hosts=allowed).request(headers=[(b"host", host)]) == status


async def test_the_hosts_that_are_remembered_are_bounded() -> None:
    world = World(_ok)
    for number in range(1_000):
        await world.request(headers=[(b"host", b"h%d.test" % number)])
    assert len(world.edge._good_hosts) <= 64


async def test_an_application_that_reads_for_itself_cannot_pass_the_limit() -> None:
    with_body = World(_ok)
    assert await with_body.request(b"a" * 6, b"b" * 6) == 413
    assert with_body.headers[b"connection"] == b"close"


async def test_an_error_that_the_application_lets_through_is_answered() -> None:
    async def forbids(scope: Any, receive: Any, send: Any) -> None:
        raise Forbidden("no")

    world = World(forbids)
    assert await world.request(b"{}") == 403


async def test_an_error_after_the_answer_began_is_not_answered_twice() -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise TooLarge("later")

    world = World(breaks)
    with pytest.raises(TooLarge):
        await world.request(b"{}")
    assert [message["type"] for message in world.sent] == ["http.response.start"]


async def test_other_protocols_are_passed_or_closed() -> None:
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    world = World(app)

    async def send(message: Any) -> None:
        world.sent.append(message)

    await world.edge({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
    await world.edge({"type": "websocket"}, None, send)  # type: ignore[arg-type]
    assert seen == ["lifespan"]
    assert world.sent == [{"type": "websocket.close", "code": 1002}]


_TOKEN = st.text(string.ascii_lowercase + string.digits + "-_", min_size=1, max_size=16).map(str.encode)
_HEADERS = st.lists(
    st.tuples(
        _TOKEN | st.sampled_from([b"host", b"content-length", b"transfer-encoding", b"connection", b"authorization"]),
        st.binary(max_size=12) | st.sampled_from([b"gw.test", b"2", b"chunked", b"close", b"keep-alive"]),
    ),
    max_size=8,
)


@given(
    headers=_HEADERS,
    path=st.binary(max_size=16).map(lambda path: b"/" + path) | st.binary(max_size=4),
    query=st.binary(max_size=8),
    method=st.sampled_from(["GET", "POST", "BREW", ""]),
)
async def test_whatever_comes_is_served_or_refused_with_a_4xx(
    headers: list[tuple[bytes, bytes]], path: bytes, query: bytes, method: str
) -> None:
    world = World(_ok)
    status = await world.request(
        b"{}", headers=headers, raw_path=path, path=path.decode("latin-1"), query_string=query, method=method
    )
    assert status == 200 or 400 <= status < 500
    if status == 200:
        names = [name for name, _ in headers]
        assert names.count(b"host") == 1
        assert not (b"content-length" in names and b"transfer-encoding" in names)
        assert b".." not in path
        assert path.isascii()
