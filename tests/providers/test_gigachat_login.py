"""GigaChat's tokens: one login for everybody, a second one where the vendor refuses the first."""

import asyncio
import base64
from typing import Any
from urllib.parse import parse_qs
from uuid import UUID

import pytest
from tests.providers.scripted import Reply, ScriptedTransport, Sent, attempt_for, chat_request, collect, connect

from xrouter.core.call import Phase
from xrouter.core.clock import ManualClock
from xrouter.core.errors import ProviderAuthFailed, ProviderRateLimited, ProviderUnavailable, UpstreamError
from xrouter.core.ports import ChatProvider
from xrouter.providers.gigachat.login import read_token
from xrouter.transport import CannotConnect, TransportError

ANSWER = b'{"choices":[{"message":{"content":"ok","role":"assistant"},"index":0,"finish_reason":"stop"}]}'
KEY = base64.b64encode(b"client:secret").decode()


class Vendor:
    """Counts logins and calls; takes the newest token only. `logins` are answers to logins, then good ones."""

    def __init__(self, *logins: Reply | TransportError, life_s: float = 1800.0, milliseconds: bool = True) -> None:
        self.clock = ManualClock()
        self.logins: list[Sent] = []
        self.calls: list[Sent] = []
        self._answers = list(logins)
        self._life_s = life_s
        self._unit = 1000 if milliseconds else 1
        self.good = ""

    def __call__(self, sent: Sent) -> Reply | TransportError:
        if not sent.url.endswith("/oauth"):
            self.calls.append(sent)
            if sent.headers["Authorization"] != f"Bearer {self.good}":
                return Reply(401, {}, [b'{"status":401,"message":"Token has expired"}'])
            return Reply(chunks=[ANSWER])
        self.logins.append(sent)
        if self._answers:
            return self._answers.pop(0)
        self.good = f"token-{len(self.logins)}"
        end = int((self.clock.now() + self._life_s) * self._unit)
        return Reply(chunks=[b'{"access_token":"%s","expires_at":%d}' % (self.good.encode(), end)])

    def provider(self, **settings: Any) -> tuple[ChatProvider, ScriptedTransport]:
        return connect("gigachat", self, clock=self.clock, api_key=KEY, **settings)


async def ask(provider: ChatProvider) -> None:
    await collect(provider, chat_request(stream=False))


async def test_the_login_as_the_vendor_wants_it() -> None:
    vendor = Vendor()
    provider, _ = vendor.provider(scope="GIGACHAT_API_CORP", auth_url="https://login.test/api/v2/oauth")
    await ask(provider)
    (login,) = vendor.logins
    assert login.url == "https://login.test/api/v2/oauth"
    assert login.headers["Authorization"] == f"Basic {KEY}"
    assert login.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert UUID(login.headers["RqUID"]).version == 4
    assert parse_qs(login.body.decode()) == {"scope": ["GIGACHAT_API_CORP"]}
    assert "X-Request-ID" not in login.headers


async def test_a_clock_ahead_of_the_vendors_makes_no_login_of_every_call() -> None:
    vendor = Vendor(life_s=-1800.0)  # over when it is born, by our clock
    provider, _ = vendor.provider()
    for _ in range(20):
        await ask(provider)
    assert len(vendor.logins) == 1
    vendor.clock.advance(11)
    await ask(provider)
    assert len(vendor.logins) == 2


async def test_a_hundred_calls_at_once_log_in_once() -> None:
    vendor = Vendor()
    provider, _ = vendor.provider()
    await asyncio.gather(*(ask(provider) for _ in range(100)))
    assert (len(vendor.logins), len(vendor.calls)) == (1, 100)
    vendor.clock.advance(1800)
    await asyncio.gather(*(ask(provider) for _ in range(100)))
    assert (len(vendor.logins), len(vendor.calls)) == (2, 200)


@pytest.mark.parametrize("milliseconds", [True, False])
async def test_a_token_is_used_until_a_minute_before_its_end(milliseconds: bool) -> None:
    vendor = Vendor(milliseconds=milliseconds)
    provider, _ = vendor.provider()
    await ask(provider)
    vendor.clock.advance(1738)
    await ask(provider)
    assert len(vendor.logins) == 1
    vendor.clock.advance(3)
    await ask(provider)
    assert len(vendor.logins) == 2
    assert len(vendor.calls) == 3


async def test_a_hundred_refused_calls_log_in_once_more() -> None:
    vendor = Vendor()
    provider, _ = vendor.provider()
    await ask(provider)
    vendor.good = "revoked elsewhere"
    await asyncio.gather(*(ask(provider) for _ in range(100)))
    assert len(vendor.logins) == 2
    assert len(vendor.calls) == 1 + 200


async def test_a_refused_call_is_repeated_once_under_the_same_attempt() -> None:
    vendor = Vendor()
    provider, transport = vendor.provider()
    await ask(provider)
    vendor.good = "another"
    request, marks = chat_request(stream=False), list[str]()
    attempt = attempt_for(request, marks)
    await collect(provider, request, attempt)
    assert marks == ["intent"]
    assert attempt.upstream_status == 200
    assert [sent.headers["X-Request-ID"] for sent in vendor.calls[1:]] == [attempt.id] * 2
    assert all(sent.closed for sent in transport.sent)


async def test_a_call_refused_twice_fails() -> None:
    logins = 0

    def always_401(sent: Sent) -> Reply:
        nonlocal logins
        if sent.url.endswith("/oauth"):
            logins += 1
            return Reply(chunks=[b'{"access_token":"t%d","expires_at":99999999999999}' % logins])
        return Reply(401, {}, [b'{"status":401,"message":"Unauthorized"}'])

    provider, transport = connect("gigachat", always_401)
    with pytest.raises(ProviderAuthFailed) as caught:
        await ask(provider)
    assert caught.value.upstream_status == 401
    assert (logins, len(transport.sent)) == (2, 4)


@pytest.mark.parametrize(
    ("login", "expected"),
    [
        (Reply(401, {}, [b'{"code":6,"message":"credentials doesn\'t match db data"}']), ProviderAuthFailed),
        (
            Reply(400, {}, [b'{"code":7,"message":"scope from db not fully includes consumed scope"}']),
            ProviderAuthFailed,
        ),
        (Reply(429, {}, [b"{}"]), ProviderRateLimited),
        (Reply(500, {}, [b"{}"]), ProviderUnavailable),
        (Reply(200, {}, [b'{"hello":1}']), ProviderUnavailable),
        (Reply(200, {}, [b"[[["]), ProviderUnavailable),
        (Reply(200, {}, [b'{"access_token":"a\\r\\nb","expires_at":1}']), ProviderUnavailable),
        (CannotConnect("dns", "no such host"), ProviderUnavailable),
    ],
)
async def test_a_failed_login_fails_all_who_wait_and_the_next_call_tries_again(login: Any, expected: type) -> None:
    vendor = Vendor(login)
    provider, _ = vendor.provider()
    request = chat_request(stream=False)
    attempts = [attempt_for(request) for _ in range(20)]
    ends = await asyncio.gather(*(collect(provider, request, one) for one in attempts), return_exceptions=True)
    assert {type(end) for end in ends} == {expected}
    assert all("acme login" in str(end) and KEY not in str(end) for end in ends)
    assert {one.phase for one in attempts} == {Phase.CONNECTING}  # no call was made: nothing is billed
    assert (len(vendor.logins), len(vendor.calls)) == (1, 0)
    await ask(provider)
    assert (len(vendor.logins), len(vendor.calls)) == (2, 1)


async def test_a_caller_who_leaves_does_not_take_the_login_with_him() -> None:
    vendor = Vendor()
    provider, _ = vendor.provider()
    first = asyncio.create_task(ask(provider))
    others = [asyncio.create_task(ask(provider)) for _ in range(5)]
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await asyncio.gather(*others)
    assert (len(vendor.logins), len(vendor.calls)) == (1, 5)


async def test_a_login_that_nobody_waits_for_any_more_fails_silently() -> None:
    vendor = Vendor(Reply(500, {}, [b"{}"]))
    provider, _ = vendor.provider()
    alone = asyncio.create_task(ask(provider))
    await asyncio.sleep(0)
    alone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await alone
    while not vendor.logins:
        await asyncio.sleep(0)
    for _ in range(20):
        await asyncio.sleep(0)
    await ask(provider)
    assert len(vendor.logins) == 2


async def test_errors_hide_the_token() -> None:
    def leaky(sent: Sent) -> Reply:
        if sent.url.endswith("/oauth"):
            return Reply(chunks=[b'{"tok":"short-tok","exp":99999999999}'])
        return Reply(422, {}, [b'{"status":422,"message":"Invalid params: short-tok"}'])

    provider, _ = connect("gigachat", leaky)
    with pytest.raises(UpstreamError, match=r"acme answered 422: Invalid params: \*\*\*"):
        await ask(provider)


@pytest.mark.parametrize(
    ("body", "end"),
    [
        (b'{"access_token":"t","expires_at":1800000000000}', 1_800_000_000.0),
        (b'{"access_token":"t","expires_at":1800000000}', 1_800_000_000.0),
        (b'{"tok":"t","exp":1800000000000}', 1_800_000_000.0),
        (b'{"access_token":"t"}', 1500.0),
        (b'{"access_token":"t","expires_at":"soon"}', 1500.0),
    ],
)
def test_tokens(body: bytes, end: float) -> None:
    token = read_token(body, 0.0)
    assert (token.text.reveal(), token.expires_at) == ("t", end)
    assert "'t'" not in repr(token)
