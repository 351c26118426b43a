"""What machines ask: health, metrics, and what they get for a wrong URL or method."""

import asyncio
import json
import re
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from campaigns.stage import Gateway, Simulators, config_for, gateway, http, wait_until
from prometheus_client.parser import text_string_to_metric_families
from tests.journey.calls import CHAT, at_once, chat_body, session
from tests.journey.conftest import GIGACHAT, TBANK

from xrouter.core.clock import SystemClock


def scrape(place: Gateway) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Every sample by name and labels."""
    with urlopen(f"{place.url}/metrics", timeout=10) as answer:
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def total(samples: dict[Any, float], name: str, **labels: str) -> float:
    """The sum over all samples of that name that carry these labels."""
    return sum(
        value for (found, pairs), value in samples.items() if found == name and labels.items() <= dict(pairs).items()
    )


async def test_the_sums_are_right_over_two_workers(pair: Gateway) -> None:
    before = scrape(pair)
    good = await at_once(pair, 40, chat_body(GIGACHAT, "say 5 words"))
    await at_once(pair, 20, chat_body(TBANK, "say 5 words"))
    await at_once(pair, 10, chat_body(f"{TBANK}+status-402"))
    async with session(pair, reuse=False) as client:

        async def streamed() -> None:
            async with client.post(CHAT, json=chat_body(TBANK, "say 5 words", stream=True)) as answer:
                await answer.read()

        await asyncio.gather(*(streamed() for _ in range(12)))
    await at_once(pair, 15, chat_body(GIGACHAT, temperature=9))

    clock = SystemClock()
    until = clock.monotonic() + 10
    while True:
        after = scrape(pair)
        grown = {
            "gigachat": total(after, "xrouter_requests_total", model=GIGACHAT, status="200")
            - total(before, "xrouter_requests_total", model=GIGACHAT, status="200"),
            "tbank": total(after, "xrouter_requests_total", model=TBANK, status="200")
            - total(before, "xrouter_requests_total", model=TBANK, status="200"),
            "failed": total(after, "xrouter_requests_total", status="502", code="provider_quota_exhausted")
            - total(before, "xrouter_requests_total", status="502", code="provider_quota_exhausted"),
            "refused": total(after, "xrouter_requests_total", status="400", code="invalid_value")
            - total(before, "xrouter_requests_total", status="400", code="invalid_value"),
            "ttft": total(after, "xrouter_ttft_seconds_count") - total(before, "xrouter_ttft_seconds_count"),
        }
        if grown["refused"] >= 15 or clock.monotonic() > until:
            break
        await asyncio.sleep(0.05)
    assert grown == {"gigachat": 40, "tbank": 32, "failed": 10, "refused": 15, "ttft": 12}
    usage = [body["usage"] for _, body in good]
    tokens = total(after, "xrouter_tokens_total", deployment=GIGACHAT, kind="output") - total(
        before, "xrouter_tokens_total", deployment=GIGACHAT, kind="output"
    )
    assert tokens == sum(one["completion_tokens"] for one in usage)
    cost = total(after, "xrouter_cost_rub_total", deployment=GIGACHAT) - total(
        before, "xrouter_cost_rub_total", deployment=GIGACHAT
    )
    assert cost == pytest.approx(sum(one["cost"] for one in usage))
    # An upstream's error is counted by its status, and nothing is under way any more.
    assert total(after, "xrouter_upstream_errors_total", upstream_status="402") - total(
        before, "xrouter_upstream_errors_total", upstream_status="402"
    ) == pytest.approx(10)
    assert total(after, "xrouter_in_flight") == 0
    assert total(after, "xrouter_workers") == 2


async def test_labels_are_bounded_whatever_clients_send(place: Gateway) -> None:
    await at_once(place, 1, chat_body(TBANK))
    before = scrape(place)
    async with session(place) as client:
        for number in range(120):
            async with client.post(CHAT, json=chat_body(f"nobody/model-{number}")) as answer:
                assert answer.status == 404
            async with client.post(CHAT, json=chat_body(f"{TBANK}+slow-{number % 3}-{number}")) as answer:
                await answer.read()
            async with client.get(f"/no/such/{number}") as answer:
                assert answer.status == 404
    after = scrape(place)
    new = {key for key in after.keys() - before.keys() if not key[0].endswith(("_bucket", "_created"))}
    assert len(new) < 40, sorted(new)
    text = str(sorted(after))
    assert "nobody/" not in text
    assert "/no/such" not in text


def test_health_needs_no_key(place: Gateway, pair: Gateway) -> None:
    for running in (place, pair):
        assert http("GET", f"{running.url}/health/live") == (200, {"status": "live"})
        assert http("GET", f"{running.url}/health/ready") == (200, {"status": "ready"})


def ask(place: Gateway, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
    request = Request(f"{place.url}{path}", method=method, headers={"Authorization": f"Bearer {place.key}"})
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.status, {name.lower(): value for name, value in answer.headers.items()}, answer.read()
    except HTTPError as error:
        with error:
            return error.code, {name.lower(): value for name, value in error.headers.items()}, error.read()


def is_openai_error(body: bytes) -> bool:
    return re.match(rb'\{"error":\{"message":"[^"].*"type":"[a-z_]+","param":.*"code":', body) is not None


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/", "/v1/completion", "/v2/chat/completions", "/admin/nothing", "/api/v1/x", "/favicon.ico"],
)
def test_an_unknown_url_is_404_in_openais_shape(place: Gateway, path: str) -> None:
    for method in ("GET", "POST"):
        status, headers, body = ask(place, method, path)
        assert status == 404
        assert is_openai_error(body), body
        assert headers["content-type"] == "application/json"
        assert headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PUT", f"/v1/models/{TBANK}", "GET"),
        ("PUT", "/admin/keys", "GET, POST"),
        ("POST", "/admin/attempts", "GET"),
        ("POST", "/api/v1/generation", "GET"),
        ("POST", "/metrics", "GET, HEAD"),
        ("DELETE", "/health/ready", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_405_and_says_which_is_right(place: Gateway, method: str, path: str, allowed: str) -> None:
    status, headers, body = ask(place, method, path)
    assert status == 405
    assert headers["allow"] == allowed
    assert is_openai_error(body), body


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("/health", "Did you mean /health/live or /health/ready?"),
        ("/healthz", "Did you mean /health/live or /health/ready?"),
        ("/v1/models/", "Did you mean /v1/models, without the slash at the end?"),
        ("/v1/chat/completions/", "Did you mean /v1/chat/completions, without the slash at the end?"),
        ("/models", "Did you mean /v1/models?"),
        ("/v1/v1/chat/completions", "Did you mean /v1/chat/completions?"),
    ],
)
def test_a_near_url_is_named(place: Gateway, path: str, hint: str) -> None:
    status, _, body = ask(place, "GET", path)
    assert status == 404
    assert hint in json.loads(body)["error"]["message"]


@pytest.mark.parametrize("path", ["/health/live", "/metrics", "/v1/models", "/admin/keys", "/admin/openapi.json"])
def test_every_answer_has_a_request_id(place: Gateway, path: str) -> None:
    request = Request(place.url + path, headers={"Authorization": f"Bearer {place.key}"})
    with urlopen(request, timeout=10) as answer:
        assert answer.headers["x-request-id"].startswith("req_")


def test_a_method_that_no_url_has_is_405_and_says_which_there_are(place: Gateway) -> None:
    status, headers, body = ask(place, "TRACE", "/v1/models")
    assert status == 405
    assert "POST" in headers["allow"]
    assert json.loads(body)["error"]["metadata"]["request_id"] == headers["x-request-id"]


def test_one_process_is_one_worker(place: Gateway) -> None:
    assert total(scrape(place), "xrouter_workers") == 1


async def test_the_log_names_the_client_behind_trusted_proxies(
    vendors: Simulators, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of calls, of refusals, and of what the edge refuses; only what the one trusted proxy wrote is believed."""
    environment = {"XROUTER_TRUSTED_PROXIES": "1"}
    directory = tmp_path_factory.mktemp("proxied")
    with gateway(directory, config_for(vendors.url), environment=environment) as running:
        forwarded = {"x-forwarded-for": "192.0.2.66, 198.51.100.7"}
        async with session(running) as client:
            for body in (chat_body(TBANK), {}):
                async with client.post(CHAT, json=body, headers=forwarded) as answer:
                    await answer.read()
            async with client.get("/v1/a;b%2500", headers=forwarded) as answer:
                assert answer.status == 400
                await answer.read()
        lines = await asyncio.to_thread(
            wait_until, "three lines", lambda: logged if len(logged := clients(running)) >= 3 else None, 10.0
        )
    assert lines == [("call", "198.51.100.7"), ("refused", "198.51.100.7"), ("refused", "198.51.100.7")]


def clients(running: Gateway) -> list[tuple[str, str]]:
    """Event and client of each line of the log that names one."""
    lines = [json.loads(line) for line in running.log.read_text().splitlines() if line.startswith("{")]
    return [(line["event"], line["client"]) for line in lines if "client" in line]
