"""Why a call went where it went: in its answer, afterwards, and after the configuration has changed."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
import yaml
from campaigns.stage import Gateway, Simulators, config_for, gateway, http, simulators, wait_until
from openai import OpenAI
from typer.testing import CliRunner

from xrouter.cli.commands import app

GIGACHAT, TBANK = "gigachat/GigaChat-2", "tbank/t-pro-it-2.1"


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    with simulators(tmp_path_factory.mktemp("vendors")) as running:
        yield running


def routed(vendors: Simulators) -> dict[str, Any]:
    config = config_for(vendors.url)
    config["providers"]["tbank"]["models"][0]["price"] = {"input_rub_per_1m": 10, "output_rub_per_1m": 20}
    config["routes"] = {"cheap": {"models": [GIGACHAT, TBANK], "strategy": "cheapest"}}
    return config


@pytest.fixture(scope="module")
def place(vendors: Simulators, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    environment = {"XROUTER_RELOAD_S": "600"}
    with gateway(tmp_path_factory.mktemp("explain"), routed(vendors), environment=environment) as running:
        yield running


def ask(place: Gateway, key: str = "", explain: str = "1", **body: Any) -> tuple[dict[str, str], Any]:
    data = {"model": "cheap", "messages": [{"role": "user", "content": "hello"}]} | body
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key or place.key}"}
    headers |= {"x-xrouter-explain": explain} if explain else {}
    with urlopen(Request(f"{place.url}/v1/chat/completions", json.dumps(data).encode(), headers), timeout=30) as answer:
        return dict(answer.headers), json.load(answer)


def route_of(place: Gateway, call_id: str, key: str = "", path: str = "/api/v1/generation") -> tuple[int, Any]:
    url = f"{place.url}{path}/{call_id}/route"

    def told() -> Any:
        status, body = http("GET", url, key=key or place.key)
        pending = status == 404 and body["error"]["metadata"].get("code") == "generation_pending"
        booked = status == 200 or not place.attempts(call_id=call_id)
        return None if pending or not booked else (status, body)

    wait_until("the books", lambda: place.attempts(call_id=call_id), log=place.log)
    found: tuple[int, Any] = wait_until("the route", told, log=place.log)
    return found


def test_the_answer_tells_every_candidate_with_its_terms(place: Gateway) -> None:
    headers, answer = ask(place)
    route = answer["xrouter"]["route"]
    decision = route["decision"]
    assert route["id"] == answer["id"]
    assert decision["strategies"] == {"cheap": "cheapest"}
    first, second = decision["candidates"]
    assert [(one["deployment"], one["place"]) for one in (first, second)] == [(TBANK, 1), (GIGACHAT, 2)]
    assert first["score"]["price"] < second["score"]["price"]
    assert first["vitals"]["in_flight"] == 0
    assert [(one["deployment"], one["state"], one["status"]) for one in route["attempts"]] == [
        (TBANK, "succeeded", 200)
    ]
    assert f"seed={decision['seed']}" in headers["x-xrouter-route"]
    assert answer["choices"][0]["message"]["content"]
    status, stored = route_of(place, answer["id"])
    assert status == 200
    assert stored["data"]["decision"] == decision, "what is repeated from the books is what was told"
    assert [one["deployment"] for one in stored["data"]["attempts"]] == [TBANK]


def test_what_a_filter_removed_and_what_an_attempt_met(place: Gateway) -> None:
    wishes = {"ignore": ["gigachat"]}
    _, answer = ask(place, model="both", models=[f"{TBANK}+status-503"], provider=wishes)
    route = answer["xrouter"]["route"]
    by_id = {one["deployment"]: one for one in route["decision"]["candidates"]}
    assert by_id[GIGACHAT]["removed"] == {"filter": "ignore", "reason": "is named by provider.ignore: gigachat"}
    assert by_id[TBANK]["place"] == 1
    _, failing = ask(place, model=f"{TBANK}+status-503", models=[GIGACHAT])
    attempts = failing["xrouter"]["route"]["attempts"]
    assert attempts[0]["status"] == 503
    assert attempts[0]["state"] == "failed"
    assert (attempts[-1]["deployment"], attempts[-1]["state"]) == (GIGACHAT, "succeeded")


def test_a_stream_tells_it_in_its_last_chunk(place: Gateway) -> None:
    client = OpenAI(api_key=place.key, base_url=f"{place.url}/v1", max_retries=0)
    for usage in (True, False):
        stream = client.chat.completions.create(
            model="cheap",
            messages=[{"role": "user", "content": "hello"}],
            stream=True,
            stream_options={"include_usage": usage},
            extra_headers={"x-xrouter-explain": "true"},
        )
        chunks = list(stream)
        told = [chunk for chunk in chunks if chunk.model_extra and "xrouter" in chunk.model_extra]
        assert told == chunks[-1:]
        assert (told[0].usage is not None) == usage
        route = told[0].model_extra["xrouter"]["route"]  # type: ignore[index]
        assert route["attempts"][0]["state"] == "succeeded"
        assert route["decision"]["candidates"][0]["deployment"] == TBANK


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/embeddings", {"model": "gigachat/Embeddings", "input": "hello"}),
        ("/v1/completions", {"model": "cheap", "prompt": "hello"}),
        ("/api/v1/chat/completions", {"model": "cheap", "messages": [{"role": "user", "content": "hello"}]}),
    ],
)
def test_every_kind_of_answer_tells_it(vendors: Simulators, tmp_path: Path, path: str, body: Any) -> None:
    config = routed(vendors)
    config["providers"]["gigachat"]["models"].append("Embeddings")
    with gateway(tmp_path / "each", config) as place:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {place.key}", "x-xrouter-explain": "1"}
        with urlopen(Request(place.url + path, json.dumps(body).encode(), headers), timeout=30) as answer:
            route = json.load(answer)["xrouter"]["route"]
        assert route["decision"]["candidates"][0]["place"] == 1


def test_nobody_is_told_who_did_not_ask(place: Gateway) -> None:
    headers, answer = ask(place, explain="0")
    assert "xrouter" not in answer
    assert "x-xrouter-route" not in headers
    _, stored = route_of(place, answer["id"])
    assert [one["deployment"] for one in stored["data"]["decision"]["candidates"]] == [TBANK, GIGACHAT]
    _, single = ask(place, explain="", model=TBANK)
    _, stored = route_of(place, single["id"])
    assert stored["data"]["decision"] is None, "one deployment: nothing was decided"
    assert stored["data"]["attempts"][0]["status"] == 200


def test_a_word_that_is_neither_yes_nor_no_is_refused(place: Gateway) -> None:
    body = {"model": "cheap", "messages": [{"role": "user", "content": "hello"}]}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {place.key}", "x-xrouter-explain": "maybe"}
    request = Request(f"{place.url}/v1/chat/completions", json.dumps(body).encode(), headers)
    with pytest.raises(Exception, match="400"):
        urlopen(request, timeout=30)


def test_another_key_sees_neither_the_route_nor_what_it_may_not_use(place: Gateway) -> None:
    made = [
        http("POST", f"{place.url}/admin/keys", {"name": name, "models": ["tbank/*", "none/*"]}, place.key)[1]["key"]
        for name in ("ours", "theirs")
    ]
    _, answer = ask(place, key=made[0])
    decision = answer["xrouter"]["route"]["decision"]
    assert [one["deployment"] for one in decision["candidates"]] == [TBANK]
    assert decision["hidden"] == 1
    status, own = route_of(place, answer["id"], made[0])
    assert status == 200
    assert own["data"]["decision"] == decision
    assert http("GET", f"{place.url}/api/v1/generation/{answer['id']}/route", key=made[1])[0] == 404
    assert http("GET", f"{place.url}/admin/generations/{answer['id']}/route", key=made[0])[0] == 403
    _, all_of_it = route_of(place, answer["id"], path="/admin/generations")
    removed = [one["removed"]["filter"] for one in all_of_it["data"]["decision"]["candidates"] if "removed" in one]
    assert removed == ["key"]


def test_an_old_decision_is_explained_by_the_configuration_of_its_time(
    vendors: Simulators, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(tmp_path / "old", routed(vendors), environment={"XROUTER_RELOAD_S": "600"}) as place:
        _, answer = ask(place)
        before = route_of(place, answer["id"])
        path = place.directory / "xrouter.yaml"
        config = yaml.safe_load(path.read_text())
        config["routes"] = {}
        del config["providers"]["tbank"]
        config["aliases"] = {"cheap": [GIGACHAT]}
        path.write_text(yaml.safe_dump(config))
        assert place.process is not None
        os.kill(place.process.pid, signal.SIGHUP)
        wait_until("the change", lambda: http("GET", f"{place.url}/v1/models/{TBANK}", key=place.key)[0] == 404)
        assert route_of(place, answer["id"]) == before
        monkeypatch.setenv("XROUTER_DATA_DIR", str(place.directory / "data"))
        monkeypatch.setenv("XROUTER_CONFIG", str(path))
        result = CliRunner().invoke(app, ["route", "replay"])
        assert result.exit_code == 1
        assert f"{answer['id']}: {TBANK}, {GIGACHAT} -> {GIGACHAT}" in result.output
        monkeypatch.setenv("XROUTER_KEY", place.key)
        body = tmp_path / "request.json"
        body.write_text(json.dumps({"model": "cheap", "messages": [{"role": "user", "content": "hello"}]}))
        explained = CliRunner().invoke(app, ["route", "explain", str(body), "--from", place.url])
        assert explained.exit_code == 0, explained.output
        assert GIGACHAT in explained.output
        planned = CliRunner().invoke(app, ["config", "plan", "--from", place.url])
        assert (planned.exit_code, planned.output.splitlines()[1]) == (0, "nothing changes")


def test_how_the_deployments_do(place: Gateway) -> None:
    for _ in range(3):
        ask(place, stream=False)
    wait_until("the books", lambda: len(place.attempts(deployment=TBANK)) >= 3, log=place.log)
    status, told = http("GET", f"{place.url}/v1/providers/status", key=place.key)
    assert status == 200
    by_provider = {one["provider"]: one for one in told["data"]}
    assert by_provider["tbank"]["status"] == "up"
    (one,) = by_provider["tbank"]["deployments"]
    assert one["id"] == TBANK
    assert set(one["uptime"]) == {"last_5m", "last_30m", "last_1d"}
    assert one["vitals"]["ejected"] is None
    assert http("GET", f"{place.url}/v1/providers/status")[0] == 401
    status, listed = http("GET", f"{place.url}/api/v1/models/{TBANK}/endpoints", key=place.key)
    assert (status, [end["tag"] for end in listed["data"]["endpoints"]]) == (200, [TBANK])
    status, listed = http("GET", f"{place.url}/api/v1/models/both/endpoints", key=place.key)
    assert [end["provider_name"] for end in listed["data"]["endpoints"]] == ["gigachat", "tbank"]
    assert http("GET", f"{place.url}/api/v1/models/nobody/endpoints", key=place.key)[0] == 404
