"""What a running process takes over of a changed configuration."""

from pathlib import Path
from typing import Any

from xrouter.configuration.changes import files_of, take
from xrouter.core.secret import Secret
from xrouter.settings import Config, parse_config


def config(**more: Any) -> Config:
    provider = {"base_url": "https://a.example/v1", "api_key": "old", "models": ["m"]} | more.pop("provider", {})
    return parse_config({"providers": {"a": provider}, **more}, "x.yaml")


def test_credentials_options_and_prices_are_taken() -> None:
    price = {"input_rub_per_1m": 1, "output_rub_per_1m": 2}
    new = config(
        provider={"api_key": "new", "options": {"system_first": True}, "models": [{"name": "m", "price": price}]}
    )
    taken, left = take(config(), new)
    assert taken == new
    assert left == []


def test_what_needs_a_restart_is_named_and_left() -> None:
    new = config(
        provider={"api_key": "new", "base_url": "https://b.example/v1", "models": ["m", "n"]}, aliases={"x": ["a/m"]}
    )
    taken, left = take(config(), new)
    assert left == ["aliases", "providers.a.base_url", "providers.a.models"]
    assert taken.providers["a"].api_key == Secret("new")
    assert taken.providers["a"].base_url == "https://a.example/v1"
    assert [model.name for model in taken.providers["a"].models] == ["m"]
    assert taken.aliases == {}


def test_another_kind_is_another_provider() -> None:
    taken, left = take(config(), config(provider={"kind": "vllm", "api_key": "new"}))
    assert left == ["providers.a.kind"]
    assert taken == config()


def test_new_and_lost_providers_take_a_restart() -> None:
    both = parse_config({"providers": {name: {"base_url": "https://a.example", "models": ["m"]} for name in "ab"}}, "x")
    one = parse_config({"providers": {"a": {"base_url": "https://a.example", "models": ["m"]}}}, "x")
    assert take(one, both) == (one, ["providers.b"])
    assert take(both, one) == (both, ["providers.b"])


def test_a_file_that_an_option_names_is_known() -> None:
    found = config(provider={"options": {"token_file": "/run/secrets/token", "folder": "b1g"}})
    assert files_of(found.providers["a"]) == {Path("/run/secrets/token")}
