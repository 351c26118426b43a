"""A configuration outlives its file: out of its picture comes the same catalogue."""

import random
from dataclasses import replace
from decimal import Decimal

import msgspec
import pytest
import yaml
from tests.gateway.fleet import asking, deployment

from xrouter.configuration.picture import revision
from xrouter.core.deployment import Deployment
from xrouter.core.money import Price
from xrouter.gateway import route
from xrouter.providers import load
from xrouter.replay import catalogue
from xrouter.settings import Config, ConfigError, parse_config

FILE = """
providers:
  a:
    kind: vllm
    base_url: https://a.example/v1
    api_key: a-secret-that-nobody-may-see
    options: {system_first: true}
    proxy: http://me:a-secret-too@proxy.example:3128
    max_concurrency: 3
    timeouts: {first_s: 7.5}
    models:
      - name: m
        context_tokens: 32000
        region: ru
        tags: [gpu, zdr]
        price:
          - {input_rub_per_1m: 1.5, output_rub_per_1m: 2, cached_rub_per_1m: 0.5, valid_to: 2099-12-31}
          - {input_rub_per_1m: 3, output_rub_per_1m: 4, valid_from: 2100-01-01}
      - {name: free, price: unpriced, inputs: [text, image]}
      - {name: e, serves: [embeddings], price: {input_rub_per_1m: 1}}
  b:
    base_url: https://b.example/v1
    models: [m]
aliases: {smart: [a/m, b/m]}
default_model: smart
default_models: {embeddings: a/e}
routing: {strategy: weighted}
routes:
  best:
    models: [a/m, b/m]
    strategy: fastest
    weights: {a/m: 3}
    regions: [ru]
    rules:
      - when: {tags: batch, prompt_tokens: {gt: 100}}
        strategy: cheapest
    fallbacks: {context_length: [a/free]}
  b/m: {models: [b/m], canary: {model: a/m, percent: 12.5}}
"""


def deployments(config: Config) -> list[Deployment]:
    return [one for name, given in config.providers.items() for one in load(given.kind).deployments(name, given)]


def test_the_same_catalogue_comes_out_of_its_picture() -> None:
    config = parse_config(yaml.safe_load(FILE), "x.yaml")
    built, shown = catalogue.of_config(config, deployments(config), "smart")
    text = msgspec.json.encode(shown)
    assert b"secret" not in text
    again = catalogue.of_picture(msgspec.json.decode(text))
    assert again == built
    assert again.revision == revision(shown) == revision(msgspec.json.decode(text))
    assert [one.key for one in again.served["smart"]] == [one.key for one in built.served["smart"]]
    for number in range(200):
        for model in ("best", "smart", "b/m", "a/m:floor", "unknown"):
            call = asking(model, number=number, tags=random.Random(number).choice([(), ("batch",)]), text="x" * 900)
            ours, theirs = (route.plan(call.request, one, call=call) for one in (built, again))
            assert [one.deployment.id for one in ours] == [one.deployment.id for one in theirs]


@pytest.mark.parametrize(
    ("place", "other"),
    [
        ("strategy: fastest", "strategy: least_busy"),
        ("percent: 12.5", "percent: 13"),
        ("output_rub_per_1m: 4", "output_rub_per_1m: 5"),
        ("first_s: 7.5", "first_s: 8"),
        ("max_concurrency: 3", "max_concurrency: 4"),
        ("https://b.example/v1", "https://c.example/v1"),
        ("api_key: a-secret-that-nobody-may-see", "api_key: another"),
        ("aliases: {smart: [a/m, b/m]}", "aliases: {smart: [b/m, a/m]}"),
    ],
)
def test_every_change_is_another_revision(place: str, other: str) -> None:
    assert place in FILE
    revisions = []
    for text in (FILE, FILE.replace(place, other), FILE):
        config = parse_config(yaml.safe_load(text), "x.yaml")
        revisions.append(catalogue.of_config(config, deployments(config), "smart")[0].revision)
    assert revisions[0] == revisions[2] != revisions[1]


def test_deployments_of_one_id_are_told_apart() -> None:
    two = [deployment("a/m", credential=name) for name in ("one", "two")]
    config = parse_config({"providers": {"a": {"base_url": "https://a.example", "models": ["m"]}}}, "x.yaml")
    built, shown = catalogue.of_config(config, two, None)
    assert [*shown["deployments"]] == ["a/m", "a/m (2)"]
    assert catalogue.of_picture(shown) == built
    assert len(built.served["a/m"]) == 2


def test_what_is_no_picture_is_refused_in_words() -> None:
    for broken in ({}, {"deployments": {}}, {"deployments": {"a/m": {"id": 7}}, "default_model": None}):
        with pytest.raises(ConfigError, match="cannot be read again"):
            catalogue.of_picture(broken)


def test_every_column_of_a_price_is_in_the_picture() -> None:
    columns = [name for name in Price.__dataclass_fields__ if name not in ("following", "_whole")]
    price = Price(
        **{name: Decimal(number) for number, name in enumerate(columns[:-2], 1)}, valid_from=1.0, valid_to=2.0
    )  # type: ignore[arg-type]
    config = parse_config({"providers": {"a": {"base_url": "https://a.example", "models": ["m"]}}}, "x.yaml")
    built, shown = catalogue.of_config(config, [replace(deployment("a/m"), price=price)], None)
    assert [*shown["deployments"]["a/m"]["prices"][0]] == columns
    assert catalogue.of_picture(shown).served["a/m"][0].price == built.served["a/m"][0].price == price
