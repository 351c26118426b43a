"""What is learned of a deployment from its attempts."""

from math import exp

import pytest
from tests.gateway.script import Script, World, call, world

from xrouter.core.chat import Delta, Finish, Usage
from xrouter.core.closing import closing
from xrouter.core.deployment import Deployment
from xrouter.core.errors import ProviderRefused, ProviderUnavailable
from xrouter.core.vitals import Samples, Vitals
from xrouter.gateway import pipeline


def test_a_slower_sample_counts_at_once_and_a_faster_one_by_and_by() -> None:
    vitals = Vitals("a")
    vitals.took(0.5, 100.0)
    vitals.took(2.0, 101.0)
    assert vitals.ttft_s == 2.0
    vitals.took(1.0, 111.0)
    assert vitals.ttft_s == pytest.approx(2.0 * exp(-1) + 1.0 * (1 - exp(-1)))


def test_percentiles_are_those_of_the_last_samples() -> None:
    samples = Samples()
    assert samples.percentile(0.5) is None
    for number in range(1_000):
        samples.add(float(number))
    assert samples.percentile(0) == 1_000 - 128
    assert samples.percentile(1) == 999.0
    assert samples.percentile(0.5) == 1_000 - 64


def test_percentiles_are_not_reckoned_anew_for_every_sample() -> None:
    samples = Samples()
    samples.add(1.0)
    assert samples.percentile(0.5) == 1.0
    for _ in range(15):
        samples.add(3.0)
    assert samples.percentile(0.5) == 1.0
    samples.add(3.0)
    assert samples.percentile(0.5) == 3.0


def test_the_key_tells_accounts_models_addresses_and_credentials_apart() -> None:
    def key(**other: str) -> str:
        usual = {"id": "a/m", "provider": "a", "kind": "vllm", "upstream_model": "m", "credential": "vllm-1"}
        return Deployment(**(usual | other)).key  # type: ignore[arg-type]

    others = [key(provider="b"), key(upstream_model="n"), key(credential="vllm-2"), key(base_url="https://b.test")]
    assert len({key(), *others}) == 5
    assert key() == key()


async def _ask(place: World, model: str = "any") -> None:
    async with closing(events := pipeline.converse(call(model), place.gateway)):
        async for _ in events:
            pass


async def test_attempts_are_counted_where_they_run() -> None:
    answer = [Delta("hello"), Finish("stop"), Usage(3, 5)]
    place = world(a=Script([ProviderUnavailable("down", provider="a")]), b=Script(answer))
    a, b = (place.gateway.health.of(one) for one in place.gateway.catalog.served["any"])
    await _ask(place)
    assert (a.in_flight, a.succeeded, a.ttft_s) == (0, 0, None)
    assert a.failures == a.failed > 0
    assert (b.in_flight, b.succeeded, b.failed) == (0, 1, 0)
    assert b.ttft_s is not None
    assert b.ttft_samples.count == 1


async def test_a_request_that_the_vendor_found_wrong_says_nothing_about_it() -> None:
    place = world(a=Script([ProviderRefused("no", provider="a", upstream_status=400)]))
    with pytest.raises(ProviderRefused):
        await _ask(place)
    vitals = place.gateway.health.of(place.gateway.catalog.served["a/m"][0])
    assert (vitals.in_flight, vitals.succeeded, vitals.failed) == (0, 0, 0)
    assert vitals.success_share is None
