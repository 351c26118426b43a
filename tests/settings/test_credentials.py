"""Several credentials of one provider, from the file to the deployments."""

from pathlib import Path
from typing import Any

import pytest

from xrouter.core.clock import SystemClock
from xrouter.core.secret import Secret
from xrouter.settings import Config, ConfigError, parse_config
from xrouter.telemetry.redaction import secrets_in
from xrouter.upstreams.accounts import Account, accounts
from xrouter.upstreams.opened import differing, let_go, open_accounts, transport_for

KEYS = ("b25lOm9uZQ==", "dHdvOnR3bw==", "dGhyZWU6dGhyZWU=")


def config(*credentials: dict[str, Any], **more: Any) -> Config:
    provider = {"kind": "gigachat", "models": ["GigaChat-2", "Embeddings"], "credentials": [*credentials]} | more
    return parse_config({"providers": {"giga": provider}}, "x.yaml")


def found(settings: Config) -> tuple[Account, ...]:
    return accounts("giga", settings.providers["giga"])


def test_each_credential_and_model_is_a_deployment_of_its_own() -> None:
    made = found(
        config(
            {"api_key": KEYS[0], "scope": "GIGACHAT_API_CORP", "weight": 2},
            {"name": "spare", "api_key": KEYS[1]},
            {"options": {"access_token": "t"}, "max_concurrency": 7},
            max_waiting=5,
        )
    )
    assert [one.name for one in made] == ["giga#1", "giga#spare", "giga#3"]
    deployments = [one for account in made for one in account.deployments()]
    assert [one.id for one in deployments] == ["giga/GigaChat-2", "giga/Embeddings"] * 3
    assert {one.provider for one in deployments} == {"giga"}
    assert [(one.account, one.max_concurrency, one.weight, one.max_waiting) for one in deployments[::2]] == [
        ("giga#1", 10, 2.0, 5),
        ("giga#spare", 1, 1.0, 5),
        ("giga#3", 7, 1.0, 5),
    ]
    assert len({one.credential for one in deployments}) == 3, "slots of their own, shared by the models"
    assert len({one.key for one in deployments}) == 6, "health of their own"
    assert not [one for one in deployments if any(key in repr(one) for key in KEYS)]


def test_one_credential_is_what_it_was() -> None:
    (only,) = found(
        parse_config({"providers": {"giga": {"kind": "gigachat", "api_key": KEYS[0], "models": ["m"]}}}, "")
    )
    assert only.name == "giga"
    assert [one.account for one in only.deployments()] == [""]


def test_every_secret_is_known_and_none_is_shown() -> None:
    made = config({"api_key": KEYS[0]}, {"api_key": KEYS[1]})
    assert {secret.reveal() for secret in secrets_in(made)} == set(KEYS[:2])
    assert not [key for key in KEYS if key in repr(made)]


def test_a_secret_may_stand_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(KEYS[2] + "\n")
    made = config({"api_key_file": str(tmp_path / "key")})
    assert made.providers["giga"].credentials[0].api_key == Secret(KEYS[2])


@pytest.mark.parametrize(
    ("credentials", "more", "words"),
    [
        ([{"api_key": KEYS[0]}], {"api_key": KEYS[1]}, "api_key and credentials are given; keep one of them"),
        ([{"name": "a"}, {"name": "a"}], {}, "two credentials are called a"),
        ([{"name": "2"}, {}], {}, "two credentials are called 2"),
        ([{"apikey": "x"}], {}, r"credentials\.0\.apikey: is not a known key; did you mean 'api_key'"),
        ([{"name": "A b"}], {}, r"credentials\.0\.name: .*lower case"),
        ([{"client_key": "k.pem"}], {}, "credential 1: client_key belongs to a client_cert"),
        ([{"weight": 0}], {}, r"credentials\.0\.weight"),
    ],
)
def test_what_is_wrong_is_said_where_it_stands(credentials: list[dict[str, Any]], more: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        config(*credentials, **more)


@pytest.mark.parametrize(
    ("credential", "words"),
    [
        ({"api_key": "not base64"}, r"^providers\.giga\.credentials\.1\.api_key: must be the authorization key"),
        ({"scope": "X"}, r"^providers\.giga\.credentials\.1\.scope: 'X' is none of"),
        ({"options": {"contract": "v9"}}, r"^providers\.giga\.credentials\.1\.options\.contract"),
    ],
)
def test_what_the_kind_finds_wrong_stands_with_its_credential(credential: dict[str, Any], words: str) -> None:
    account = found(config({"api_key": KEYS[0]}, {"api_key": KEYS[1]} | credential))[1]
    with pytest.raises(ConfigError, match=words):
        account.deployments()


async def test_a_credential_without_any_key_is_no_way_in() -> None:
    account = found(config({"api_key": KEYS[0]}, {}))[1]
    transport = transport_for("giga", account.settings, 1)
    with pytest.raises(ConfigError, match=r"^providers\.giga\.credentials\.1\.api_key: gigachat needs"):
        account.connect(transport, SystemClock())
    await transport.close()


async def test_credentials_come_and_go_while_it_runs() -> None:
    first = open_accounts(config({"api_key": KEYS[0]}), 1)
    second = open_accounts(config({"api_key": KEYS[0]}, {"api_key": KEYS[1]}), 1, first)
    third = open_accounts(config({"api_key": KEYS[2]}, {"api_key": KEYS[1]}), 1, second)
    assert differing(first, second) == ["giga#2"]
    assert differing(second, third) == ["giga#1"]
    assert second["giga#1"] is first["giga#1"]
    await let_go([*second.values(), third["giga#1"]])
