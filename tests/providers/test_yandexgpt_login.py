"""YandexGPT's logins: one at a time for everybody, a second one where the vendor refuses the first."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from tests.providers.scripted import FIXTURES, Reply, Sent, chat_request, collect, connect

from xrouter.core.clock import ManualClock
from xrouter.core.errors import ProviderAuthFailed, ProviderRateLimited, ProviderUnavailable
from xrouter.core.ports import ChatProvider
from xrouter.providers.yandexgpt.key_file import read_iam_token
from xrouter.settings import ConfigError
from xrouter.transport import CannotConnect, TransportError

FOLDER = "b1gfolderoftests00000"
ANSWER = (FIXTURES / "yandexgpt" / "text.json").read_bytes()
IAM = "https://iam.api.cloud.yandex.net/iam/v1/tokens"
METADATA = "http://169.254.169.254/computeMetadata/v1/instance/service-accounts/default/token"
PRIVATE = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def key_file(private: Any = PRIVATE, **changes: Any) -> str:
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    found = {
        "id": "ajekey",
        "service_account_id": "ajeaccount",
        "created_at": "2026-01-01T00:00:00Z",
        "key_algorithm": "RSA_2048",
        "public_key": "",
        "private_key": f"PLEASE DO NOT REMOVE THIS LINE! Yandex.Cloud SA Key ID <ajekey>\n{pem}",
    }
    return json.dumps(found | changes)


class Vendor:
    """Counts logins and calls; takes the newest token only. `logins` are answers to logins, then good ones."""

    def __init__(self, *logins: Reply | TransportError, life_s: float = 43_200.0) -> None:
        self.clock = ManualClock()
        self.logins: list[Sent] = []
        self.calls: list[Sent] = []
        self.good = ""
        self._answers = list(logins)
        self._life_s = life_s

    def __call__(self, sent: Sent) -> Reply | TransportError:
        if sent.url not in (IAM, METADATA, "https://login.test/tokens"):
            self.calls.append(sent)
            if sent.headers["Authorization"] != f"Bearer {self.good}":
                return Reply(401, {}, [b'{"error":{"grpcCode":16,"httpCode":401,"message":"The token has expired"}}'])
            return Reply(chunks=[ANSWER])
        self.logins.append(sent)
        if self._answers:
            return self._answers.pop(0)
        self.good = f"t1.token-{len(self.logins)}"
        if sent.url == METADATA:
            return Reply(chunks=[json.dumps({"access_token": self.good, "expires_in": 40000}).encode()])
        return Reply(
            chunks=[json.dumps({"iamToken": self.good, "expiresAt": "2099-11-20T22:00:00.123456789Z"}).encode()]
        )

    def provider(self, **more: Any) -> ChatProvider:
        options = {"folder": FOLDER, **more.pop("options", {"service_account_key": key_file()})}
        return connect("yandexgpt", self, clock=self.clock, api_key=None, options=options, **more)[0]


async def ask(provider: ChatProvider) -> None:
    await collect(provider, chat_request(stream=False))


def unbase64(text: bytes) -> bytes:
    return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))


async def test_the_assertion_is_signed_as_the_vendor_wants_it(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    path.write_text(key_file())
    vendor = Vendor()
    await ask(vendor.provider(options={"service_account_key_file": str(path)}))
    (login,), (call,) = vendor.logins, vendor.calls
    assert login.url == IAM
    head, claims, signature = login.json()["jwt"].encode().split(b".")
    assert json.loads(unbase64(head)) == {"typ": "JWT", "alg": "PS256", "kid": "ajekey"}
    said = json.loads(unbase64(claims))
    assert said == {"iss": "ajeaccount", "aud": IAM, "iat": 1_800_000_000, "exp": said["exp"]}
    assert 0 < said["exp"] - said["iat"] <= 3600
    PRIVATE.public_key().verify(
        unbase64(signature), head + b"." + claims, padding.PSS(padding.MGF1(SHA256()), 32), SHA256()
    )
    assert call.headers["Authorization"] == "Bearer t1.token-1"
    assert "X-Request-ID" not in login.headers


async def test_the_audience_stays_where_the_login_moves() -> None:
    vendor = Vendor()
    await ask(vendor.provider(auth_url="https://login.test/tokens"))
    (login,) = vendor.logins
    assert json.loads(unbase64(login.json()["jwt"].encode().split(b".")[1]))["aud"] == IAM


async def test_a_hundred_calls_at_once_log_in_once_and_every_hour_again() -> None:
    vendor = Vendor()
    provider = vendor.provider()
    await asyncio.gather(*(ask(provider) for _ in range(100)))
    assert (len(vendor.logins), len(vendor.calls)) == (1, 100)
    vendor.clock.advance(3500)
    await ask(provider)
    assert len(vendor.logins) == 1
    vendor.clock.advance(50)
    await asyncio.gather(*(ask(provider) for _ in range(100)))
    assert (len(vendor.logins), len(vendor.calls)) == (2, 201)


async def test_a_token_that_is_no_longer_taken_is_replaced_once() -> None:
    vendor = Vendor()
    provider = vendor.provider()
    await ask(provider)
    vendor.good = "another"
    await asyncio.gather(*(ask(provider) for _ in range(20)))
    assert len(vendor.logins) == 2
    stubborn = Vendor()

    def never(sent: Sent) -> Reply | TransportError:
        reply = stubborn(sent)
        stubborn.good = "never"
        return reply

    refusing, _ = connect(
        "yandexgpt", never, clock=stubborn.clock, api_key=None,
        options={"folder": FOLDER, "service_account_key": key_file()},
    )  # fmt: skip
    with pytest.raises(ProviderAuthFailed, match="The token has expired") as caught:
        await ask(refusing)
    assert (len(stubborn.logins), len(stubborn.calls), caught.value.http_status) == (2, 2, 502)


async def test_an_api_key_that_is_refused_is_not_tried_again() -> None:
    provider, transport = connect("yandexgpt", Reply(401, {}, [b'{"code":16,"message":"Unknown api key"}']))
    with pytest.raises(ProviderAuthFailed):
        await ask(provider)
    assert len(transport.sent) == 1


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (Reply(400, {}, [b'{"code":3,"message":"JWT is malformed","details":[]}']), ProviderAuthFailed),
        (Reply(401, {}, [b'{"code":16,"message":"JWT is wrong","details":[]}']), ProviderAuthFailed),
        (Reply(429, {}, [b'{"code":8,"message":"slow down"}']), ProviderRateLimited),
        (Reply(503, {}, [b"<html>"]), ProviderUnavailable),
        (Reply(chunks=[b'{"iamToken":5}']), ProviderUnavailable),
        (Reply(chunks=[b"[]"]), ProviderUnavailable),
        (Reply(chunks=[b'{"iamToken":"t1.x","expiresAt":"tomorrow"}']), ProviderUnavailable),
        (CannotConnect("dns", "no such host"), ProviderUnavailable),
    ],
)
async def test_a_login_that_fails_is_our_fault_or_the_vendors_and_the_next_call_tries_again(
    answer: Reply | TransportError, expected: type
) -> None:
    vendor = Vendor(answer)
    provider = vendor.provider()
    with pytest.raises(expected) as caught:
        await ask(provider)
    assert caught.value.provider == "acme"
    assert "acme login" in caught.value.message
    await ask(provider)
    assert len(vendor.calls) == 1


async def test_a_vendor_that_repeats_the_assertion_does_not_publish_it() -> None:
    def echoing(sent: Sent) -> Reply:
        return Reply(400, {}, [json.dumps({"code": 3, "message": f"bad {sent.body.decode()}"}).encode()])

    provider, _ = connect(
        "yandexgpt", echoing, api_key=None, options={"folder": FOLDER, "service_account_key": key_file()}
    )
    with pytest.raises(ProviderAuthFailed) as caught:
        await ask(provider)
    assert "eyJ" not in caught.value.message


async def test_the_virtual_machines_own_token_only_from_an_address_that_is_written_down() -> None:
    vendor = Vendor()
    await ask(vendor.provider(options={"metadata": True}, auth_url=METADATA))
    (login,) = vendor.logins
    assert (login.url, login.body, login.headers["Metadata-Flavor"]) == (METADATA, b"", "Google")
    with pytest.raises(ConfigError, match=r"providers.acme.auth_url: .*169\.254\.169\.254"):
        Vendor().provider(options={"metadata": True})


async def test_a_ready_token() -> None:
    vendor = Vendor()
    vendor.good = "t1.ready"
    await ask(vendor.provider(options={"iam_token": "t1.ready"}))
    assert vendor.logins == []


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"options": {}}, "exactly one of .*; none is set"),
        ({"options": {"iam_token": "t", "metadata": True}}, "iam_token and metadata is set"),
        ({"options": {"service_account_key": "{"}}, "options.service_account_key: is not JSON"),
        ({"options": {"service_account_key": "{}"}}, "options.service_account_key: is not the JSON of a service"),
        ({"options": {"service_account_key": key_file(private_key="x")}}, "private_key is not an unencrypted key"),
        (
            {"options": {"service_account_key": key_file(ec.generate_private_key(ec.SECP256R1()))}},
            "private_key is not an RSA key",
        ),
        ({"options": {"service_account_key_file": "/none/key.json"}}, "_file: /none/key.json cannot be read: No such"),
    ],
)
def test_mistakes_are_told_at_start(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        Vendor().provider(**settings)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "end"),
    [
        (b'{"iamToken":"t","expiresAt":"2026-11-20T22:00:00.123456789Z"}', 3600.0),
        (b'{"iamToken":"t","expiresAt":"1970-01-01T00:30:00Z"}', 1800.0),
        (b'{"access_token":"t","expires_in":1200,"token_type":"Bearer"}', 1200.0),
        (b'{"iamToken":"t"}', 600.0),
    ],
)
def test_tokens(body: bytes, end: float) -> None:
    token, expires_at = read_iam_token(body, 0.0)
    assert (token.reveal(), expires_at) == ("t", end)
