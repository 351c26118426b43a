"""Kinds by name, and the deployments they make of an account."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from tests.providers.scripted import Reply, ScriptedTransport, wire_of

from xrouter.configuration.prices import catalogue
from xrouter.core.clock import ManualClock
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.money import Price
from xrouter.core.ports import ChatProvider
from xrouter.core.secret import Secret
from xrouter.providers import kinds, load, read_options
from xrouter.providers.openai_compatible import RowKind
from xrouter.providers.openai_compatible.rows import parse_rows
from xrouter.settings import ConfigError, ProviderSettings, parse_config


def deployments(kind: str, **settings: Any) -> tuple[Deployment, ...]:
    base_url = f"https://h.test{wire_of(kind).base_path}"
    filled = {"kind": kind, "base_url": base_url, "api_key": "a2s6a2tr", "models": ["m"]}
    filled |= {"options": wire_of(kind).options, **settings}
    return load(kind).deployments("acme", ProviderSettings.model_validate(filled))


def test_known_kinds() -> None:
    assert {"gigachat", "openai_compatible", "openai", "tbank", "vllm"} <= set(kinds())
    with pytest.raises(ValueError, match=r"unknown provider kind 'gigacat'; known kinds: .*gigachat"):
        load("gigacat")
    with pytest.raises(ValueError, match="unknown"):
        load("_http")


@pytest.mark.parametrize("kind", kinds())
def test_every_kind_keeps_the_port(kind: str) -> None:
    settings = ProviderSettings.model_validate(
        {
            "kind": kind,
            "base_url": f"https://h.test{wire_of(kind).base_path}",
            "api_key": "a2s6a2tr",
            "models": ["m"],
            "options": wire_of(kind).options,
        }
    )
    provider = load(kind).connect("acme", settings, ScriptedTransport(lambda _: Reply()), ManualClock())
    assert isinstance(provider, ChatProvider)
    (one,) = load(kind).deployments("acme", settings)
    assert (one.id, one.provider, one.kind, one.upstream_model) == ("acme/m", "acme", kind, "m")


def test_prices_come_from_the_file_else_from_the_catalogue() -> None:
    models = [
        "GigaChat-2-Pro",
        {"name": "GigaChat-2", "price": {"input_rub_per_1m": 1, "output_rub_per_1m": "2.5"}},
        "new",
    ]
    known, own, unknown = deployments("gigachat", models=models)
    assert known.price == catalogue("gigachat")["GigaChat-2-Pro"]
    assert own.price == Price(Decimal(1), Decimal("2.5"))
    assert unknown.price is None
    (pro,) = deployments("cloudru", models=["t-tech/T-pro-it-2.1"])
    assert (pro.id, pro.price) == ("acme/t-tech/T-pro-it-2.1", Price(Decimal(35), Decimal(70)))


@pytest.mark.parametrize(
    ("scope", "set_", "limit"),
    [(None, None, 1), ("GIGACHAT_API_PERS", None, 1), ("GIGACHAT_API_B2B", None, 10), ("GIGACHAT_API_CORP", None, 10),
     ("GIGACHAT_API_PERS", 3, 3), ("GIGACHAT_API_CORP", 0, 0)],
)  # fmt: skip
def test_concurrency_of_gigachat_follows_the_scope(scope: str | None, set_: int | None, limit: int) -> None:
    assert deployments("gigachat", scope=scope, max_concurrency=set_)[0].max_concurrency == limit


def test_two_accounts_with_one_key_share_its_slots_and_the_name_hides_the_key() -> None:
    one, other = deployments("gigachat", models=["a"])[0], deployments("gigachat", models=["b"])[0]
    foreign = deployments("gigachat", api_key="eno6enp6")[0]
    assert one.credential == other.credential != foreign.credential
    assert "a2tr" not in one.credential
    assert deployments("tbank", api_key=None)[0].credential == "acme"


def test_timeouts_of_a_model_win() -> None:
    one, other = deployments("vllm", timeouts={"first_s": 5}, models=["a", {"name": "b", "timeouts": {"first_s": 7}}])
    assert one.timeouts == Timeouts(first_s=5.0)
    assert other.timeouts == Timeouts(first_s=7.0)


@pytest.mark.parametrize(
    ("kind", "settings", "place"),
    [
        ("tbank", {"base_url": None}, "providers.acme.base_url"),
        ("openai", {"api_key": None}, "providers.acme.api_key"),
        ("gigachat", {"api_key": None}, "providers.acme.api_key"),
        ("gigachat", {"scope": "GIGACHAT_API_ALL"}, "providers.acme.scope"),
    ],
)
def test_a_wrong_configuration_names_its_place(kind: str, settings: dict[str, Any], place: str) -> None:
    filled = ProviderSettings.model_validate(
        {"kind": kind, "base_url": "https://h.test/v1", "api_key": "k", "models": ["m"], **settings}
    )
    with pytest.raises(ConfigError, match=place):
        load(kind).connect("acme", filled, ScriptedTransport(lambda _: Reply()), ManualClock())


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("llm.example.com/v1", "did you mean 'https://llm.example.com/v1'"),
        ("llm.example.com:8000/v1", "did you mean 'https://llm.example.com:8000/v1'"),
        ("ftp://llm.example.com", "must begin with https://"),
        ("https://", "names no host"),
        ("https:///v1", "names no host"),
        ("https://user:word@llm.example.com/v1", "user name or password"),
        ("https://llm.example.com/v1?key=word", "nothing after the path"),
        ("https://llm.example.com/v1#x", "nothing after the path"),
        ("https://llm.example.com:99999/v1", "port"),
        ("https://llm.example .com/v1", "spaces"),
        ("", "must begin with https://"),
    ],
)
@pytest.mark.parametrize("field", ["base_url", "auth_url"])
def test_a_wrong_url_is_told_when_the_file_is_read(field: str, url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"x.yaml: providers.acme.{field}: .*{says}") as caught:
        parse_config({"providers": {"acme": {field: url, "models": ["m"]}}}, "x.yaml")
    assert "word" not in str(caught.value).replace("password", "")


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://llm.example.com/v1", "in clear"),
        ("https://llm.localhost/v1", "this machine itself"),
        ("https://127.1/v1", "address in a form"),
    ],
)
def test_a_url_that_may_not_be_dialled_is_told_at_start(kind: str, url: str, says: str) -> None:
    with pytest.raises(ConfigError, match=rf"providers.acme.base_url: .*{says}"):
        deployments(kind, base_url=url)


def test_http_through_a_proxy_is_told_at_start() -> None:
    with pytest.raises(ConfigError, match=r"providers.acme.base_url: http would pass the proxy in clear"):
        deployments("vllm", base_url="http://10.0.0.7/v1", proxy="http://proxy.test:3128")


def test_a_url_that_the_operator_means_is_taken() -> None:
    for url in ("http://127.0.0.1:8000/v1", "http://localhost:8000/v1", "http://10.0.0.7/v1"):
        assert deployments("vllm", base_url=url)
    assert deployments("vllm", base_url="http://llm.example.com/v1", allow_private=["10.0.0.0/8"])


def test_a_row_that_leads_inside_is_told_at_start() -> None:
    row = parse_rows('[acme]\nbase_url = "http://127.0.0.1:8000/v1"')["acme"]
    settings = ProviderSettings.model_validate({"kind": "acme", "models": ["m"]})
    with pytest.raises(ConfigError, match=r"providers.mine.base_url: .*127.0.0.1.*`allow_private`"):
        RowKind("acme", row).deployments("mine", settings)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[acme]\nneed_key = true", r"\[acme\] need_key: is not a known key; did you mean 'needs_key'\?"),
        ("[acme]\nneeds_key = 'yes'", r"\[acme\] needs_key: expected `bool`, got `str`"),
        ("[acme]\nthink_tags = 'outline'", r"\[acme\] think_tags: invalid enum value 'outline'"),
        ("[acme.errors]\nX = { code = 'x' }", r"\[acme\] errors\S*: object missing required field `status`"),
        ("[acme.errors]\nX = { status = 1, cod = 2 }", r"\[acme\] errors\S*: object contains unknown.*cod"),
        ("[acme.prices]\nm = { input = 1 }", r"\[acme\] prices: is not a known key"),
        ("[_lists]\na = ['x']\n[acme]\ndrop = ['@b']", r"\[acme\] drop: no list is called '@b'; known lists: @a"),
        ("[acme]\nbase_url = 'llm.example.com'", r"\[acme\] base_url: must begin with https://"),
        ("[acme\n", "is not TOML"),
        ("acme = 1", r"\[acme\] must be a table"),
    ],
)
def test_a_mistake_in_a_row_names_the_file_and_the_row(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=f"openai_compatible.toml: {says}"):
        parse_rows(text)


@pytest.mark.parametrize("kind", kinds())
def test_an_unknown_option_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"providers.acme.options.no_such_option: is not a known key"):
        deployments(kind, options={"no_such_option": 1})


def test_the_options_of_a_row_are_its_quirks() -> None:
    for name, value, says in (
        ("reasoning_feild", "x", "did you mean 'reasoning_field'"),
        ("system_first", "yes", "expected `bool`"),
        ("base_url", "https://h.test", "is not a known key"),
    ):
        with pytest.raises(ConfigError, match=f"providers.acme.options.{name}: .*{says}"):
            deployments("vllm", options={name: value})
    assert deployments("vllm", options={"reasoning_field": "thinking", "system_first": True})


class Options(msgspec.Struct):
    folder: str
    signing_key: Secret = Secret("")


def test_a_kind_reads_its_options_typed_and_secrets_stay_secret() -> None:
    settings = ProviderSettings.model_validate({"models": ["m"], "options": {"folder": "b1g", "signing_key": "hush"}})
    found = read_options("acme", settings, Options)
    assert (found.folder, found.signing_key) == ("b1g", Secret("hush"))
    assert "hush" not in f"{settings!r} {found!r}"
    with pytest.raises(ConfigError, match=r"providers.acme.options: object missing required field `folder`"):
        read_options("acme", ProviderSettings.model_validate({"models": ["m"]}), Options)
