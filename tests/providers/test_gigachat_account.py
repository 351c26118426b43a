"""Ways into an account of GigaChat, and what the account tells about itself, against the simulator."""

import ssl
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import trustme
from tests.providers.gigachat_stand import MODEL, V2, Stand, answer, asked, attempt, stand

from xrouter.core.chat import Raw
from xrouter.core.embeddings import EmbeddingsRequest
from xrouter.core.errors import Invalid, ProviderAuthFailed, ProviderQuotaExhausted, ProviderUnavailable, UpstreamError
from xrouter.core.operation import Operation
from xrouter.core.ports import BalanceReader, Closing, EmbeddingsProvider, ImagesProvider, ModelLister, TokenCounter
from xrouter.providers import load
from xrouter.settings import ConfigError, ProviderSettings

EMBEDDINGS = "Embeddings"


@pytest_asyncio.fixture
async def place() -> AsyncIterator[Stand]:
    async with stand() as running:
        yield running


def vectors_of(*inputs: str, dimensions: int | None = None, **fields: Any) -> EmbeddingsRequest:
    raw = {name: Raw(str(value).encode()) for name, value in fields.items()}
    return EmbeddingsRequest(f"acme/{EMBEDDINGS}", inputs, raw, dimensions)


# ── ways in ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("scope", ["GIGACHAT_API_PERS", "GIGACHAT_API_B2B", "GIGACHAT_API_CORP"])
async def test_three_scopes(place: Stand, scope: str) -> None:
    client = scope.rpartition("_")[2].lower() + "-one"
    assert (await answer(place.connect(client, scope=scope), asked())).choices[0].message.content == "ok"
    other = "GIGACHAT_API_B2B" if client.startswith("pers") else "GIGACHAT_API_PERS"
    with pytest.raises(ProviderAuthFailed, match="scope from db"):
        await answer(place.connect(client, scope=other), asked())


async def test_a_user_with_a_password(place: Stand) -> None:
    options = {"user": "ivan", "password": "secret"}
    provider = place.connect(api_key=None, scope=None, options=options)
    await answer(provider, asked())
    await place.control("expire-tokens")
    await answer(provider, asked())
    paths = [(row["path"].removeprefix("/gigachat/v1"), row["status"]) for row in await place.rows()]
    chat = "/chat/completions"
    assert paths == [("/token", 200), (chat, 200), (chat, 401), ("/token", 200), (chat, 200)]
    wrong = place.connect(api_key=None, options={**options, "password": "wrong"})
    with pytest.raises(ProviderAuthFailed, match="acme login answered 401") as caught:
        await answer(wrong, asked())
    assert caught.value.upstream_status == 401


async def test_a_ready_token_and_what_replaces_it(place: Stand) -> None:
    async with place.session.post(
        f"{place.url}/gigachat/v1/token", headers={"Authorization": "Basic aXZhbjpzZWNyZXQ="}
    ) as login:
        token = (await login.json())["tok"]
    ready = {"access_token": token}
    alone = place.connect(api_key=None, options=ready)
    both = place.connect(options=ready)
    assert await answer(alone, asked())
    assert await answer(both, asked())
    assert len(await place.rows("/oauth")) == 0
    await place.control("expire-tokens")
    for _ in range(2):
        with pytest.raises(ProviderAuthFailed, match="Token has expired"):
            await answer(alone, asked())
    assert await answer(both, asked())
    assert len(await place.rows("/oauth")) == 1


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({}, "api_key: gigachat needs the authorization key"),
        ({"options": {"user": "ivan"}}, "user and password belong together"),
        ({"options": {"password": "x"}}, "user and password belong together"),
        ({"api_key": "aTpz", "options": {"user": "i", "password": "x"}}, "one account has one login"),
        ({"api_key": "aTpz", "options": {"contract": "v3"}}, r"options\.contract: invalid enum value 'v3'"),
        ({"api_key": "aTpz", "scope": "GIGACHAT"}, "is none of GIGACHAT_API_PERS"),
    ],
)
def test_an_account_without_one_way_in_is_refused_at_start(settings: Any, says: str) -> None:
    filled = ProviderSettings.model_validate({"kind": "gigachat", "models": ["m"], **settings})
    with pytest.raises(ConfigError, match=says):
        load("gigachat").connect("acme", filled, None, None)  # type: ignore[arg-type]  # refused before either is used


def test_a_model_has_options_of_its_own() -> None:
    wrong = {"name": "m", "options": {"contrakt": "v2"}}
    filled = ProviderSettings.model_validate({"kind": "gigachat", "api_key": "aTpz", "models": [wrong]})
    with pytest.raises(ConfigError, match=r"providers.acme.models.m.options.contrakt: .*did you mean 'contract'"):
        load("gigachat").deployments("acme", filled)
    other = filled.model_copy(update={"kind": "vllm", "base_url": "https://h.test/v1"})
    with pytest.raises(ConfigError, match=r"models.m.options.contrakt: is not a known key"):
        load("vllm").deployments("acme", other)


async def test_one_account_speaks_both_contracts(place: Stand) -> None:
    models = [MODEL, {"name": "GigaChat-3-Ultra", "options": V2}]
    provider = place.connect(models=models)
    for model in (MODEL, "GigaChat-3-Ultra", "GigaChat-3-Ultra+slow-1"):
        assert (await answer(provider, asked(), model)).choices[0].message.content == "ok"
    paths = [row["path"] for row in await place.rows("/chat/completions")]
    assert paths == [f"/gigachat/{contract}/chat/completions" for contract in ("v1", "v2", "v2")]


# ── deployments ──────────────────────────────────────────────────────────────────────────────────────────


def test_what_models_serve_and_cost() -> None:
    models = ["GigaChat-2-Max", "Embeddings", "GigaEmbeddings-3B-2025-09", "GigaChat-3-Ultra", "glm-5.2"]
    filled = ProviderSettings.model_validate({"kind": "gigachat", "api_key": "aTpz", "models": models})
    found = {made.upstream_model: made for made in load("gigachat").deployments("acme", filled)}
    draws = {Operation.CHAT, Operation.IMAGES}
    assert {name: made.serves for name, made in found.items()} == {
        "GigaChat-2-Max": draws,
        "Embeddings": {Operation.EMBEDDINGS},
        "GigaEmbeddings-3B-2025-09": {Operation.EMBEDDINGS},
        "GigaChat-3-Ultra": draws,
        "glm-5.2": {Operation.CHAT},
    }
    assert all(made.one_choice and not made.one_input for made in found.values())
    prices = {name: made.price and made.price.input_rub_per_1m for name, made in found.items()}
    assert prices["Embeddings"] == Decimal(14)
    assert prices["GigaChat-3-Ultra"] is prices["GigaEmbeddings-3B-2025-09"] is None


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"api_key": "aTpz"}, 1),
        ({"api_key": "aTpz", "scope": "GIGACHAT_API_B2B"}, 10),
        ({"options": {"access_token": "t"}}, 1),
        ({"options": {"user": "u", "password": "p"}}, 10),
        ({"client_cert": "/c.pem"}, 10),
        ({"client_cert": "/c.pem", "max_concurrency": 3}, 3),
    ],
)
def test_how_many_calls_at_once(settings: Any, limit: int) -> None:
    filled = ProviderSettings.model_validate({"kind": "gigachat", "models": ["m"], **settings})
    (made,) = load("gigachat").deployments("acme", filled)
    assert made.max_concurrency == limit


# ── questions about the account ──────────────────────────────────────────────────────────────────────────


async def test_it_has_the_ports(place: Stand) -> None:
    for port in (EmbeddingsProvider, ImagesProvider, TokenCounter, ModelLister, BalanceReader, Closing):
        assert isinstance(place.connect(), port)


async def test_tokens_are_counted_text_by_text(place: Stand) -> None:
    provider = place.connect()
    assert await provider.count_tokens(MODEL, ["а", "Привет, мир"]) == [1, 3]
    assert await provider.count_tokens(MODEL, []) == []
    with pytest.raises(UpstreamError, match="No such model"):
        await provider.count_tokens("no-such", ["a"])


async def test_models_are_discovered(place: Stand) -> None:
    found = await place.connect().list_models()
    assert {MODEL, EMBEDDINGS, "GigaFilter"} <= set(found)


async def test_the_balance(place: Stand) -> None:
    prepaid = await place.connect("b2b-one", scope="GIGACHAT_API_B2B").balance()
    assert prepaid == {"GigaChat-2": 50_000, "GigaChat-2-Pro": 50_000, "GigaChat-2-Max": 50_000}
    assert await place.connect("corp-one").balance() is None


async def test_questions_survive_an_expired_token_and_name_a_wrong_key(place: Stand) -> None:
    provider = place.connect()
    await provider.list_models()
    await place.control("expire-tokens")
    assert await provider.list_models()
    assert await provider.count_tokens(MODEL, ["a"])
    stranger = place.connect(api_key="ZGVtbzp3cm9uZw==")
    for question in (stranger.list_models(), stranger.balance(), stranger.count_tokens(MODEL, ["a"])):
        with pytest.raises(ProviderAuthFailed, match="credentials doesn't match"):
            await question


# ── embeddings ───────────────────────────────────────────────────────────────────────────────────────────


async def test_vectors_and_the_sum_of_their_tokens(place: Stand) -> None:
    provider = place.connect()
    made = await provider.embed(request := vectors_of("а", "Привет, мир", "а"), attempt(request, EMBEDDINGS))
    assert [len(vector) for vector in made.vectors] == [1024] * 3
    assert made.vectors[0] == made.vectors[2] != made.vectors[1]
    assert made.usage is not None
    assert (made.usage.input_tokens, made.usage.output_tokens) == (5, 0)
    own = vectors_of("а", dimensions=1024, encoding_format='"base64"', user='"u"')
    told = attempt(own, EMBEDDINGS)
    assert (await provider.embed(own, told)).vectors == (made.vectors[0],)
    assert told.dropped == ("user",)
    assert told.upstream_status == 200


async def test_another_length_is_refused_before_anything_is_sent(place: Stand) -> None:
    request = vectors_of("а", dimensions=256)
    with pytest.raises(Invalid, match="own are 1024") as caught:
        await place.connect().embed(request, attempt(request, EMBEDDINGS))
    assert caught.value.param == "dimensions"
    assert await place.rows() == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("status-402", ProviderQuotaExhausted),
        ("error-0", ProviderUnavailable),
        ("broken-json-0", ProviderUnavailable),
        ("empty", ProviderUnavailable),
        ("eof-0", ProviderUnavailable),
    ],
)
async def test_failures_of_embeddings(place: Stand, fault: str, error: type) -> None:
    request = vectors_of("а")
    with pytest.raises(error):
        await place.connect().embed(request, attempt(request, f"{EMBEDDINGS}+{fault}"))


@pytest.mark.parametrize("fault", ["no-usage", "wrong-usage"])
async def test_a_vector_without_a_sane_count_has_none(place: Stand, fault: str) -> None:
    request = vectors_of("а", "б")
    assert (await place.connect().embed(request, attempt(request, f"{EMBEDDINGS}+{fault}"))).usage is None


# ── TLS ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def tls_of(authority: trustme.CA) -> ssl.SSLContext:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    return tls


async def test_a_private_authority_for_login_and_calls(authority: trustme.CA, tmp_path: Path) -> None:
    bundle = tmp_path / "root.pem"
    authority.cert_pem.write_to_path(str(bundle))
    async with stand(tls_of(authority)) as place:
        assert (await answer(place.connect(ca_bundle=bundle), asked())).choices[0].message.content == "ok"
        with pytest.raises(ProviderUnavailable, match=r"certificate was refused.*`ca_bundle`"):
            await answer(place.connect(), asked())


async def test_a_client_certificate_alone_is_a_way_in(authority: trustme.CA, tmp_path: Path) -> None:
    """No token is asked for, none is sent: the simulator, which knows tokens only, says so."""
    bundle, identity = tmp_path / "root.pem", tmp_path / "me.pem"
    authority.cert_pem.write_to_path(str(bundle))
    authority.issue_cert("gateway@example.test").private_key_and_cert_chain_pem.write_to_path(str(identity))
    tls = tls_of(authority)
    tls.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(tls)
    async with stand(tls) as place:
        provider = place.connect(api_key=None, ca_bundle=bundle, client_cert=identity)
        with pytest.raises(ProviderAuthFailed, match="acme answered 401: Unauthorized"):
            await answer(provider, asked())
        stranger = place.connect(api_key=None, ca_bundle=bundle, options={"access_token": "t"})
        with pytest.raises(ProviderUnavailable):
            await answer(stranger, asked())
        with_key = place.connect(ca_bundle=bundle, client_cert=identity)
        assert (await answer(with_key, asked())).choices[0].message.content == "ok"
