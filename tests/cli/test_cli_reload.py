"""The configuration changes under a running gateway: whole processes, simulated vendors."""

import base64
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import yaml
from campaigns.stage import Gateway, Simulators, config_for, gateway, http, simulators, wait_until

MODEL = "gigachat/GigaChat-2"


def key_of(client: str, secret: str = "right") -> str:
    """An authorization key for the simulated login, which counts under the name `client`."""
    return base64.b64encode(f"{client}:{secret}".encode()).decode()


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    with simulators(tmp_path_factory.mktemp("vendors")) as running:
        yield running


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(key_of("first"))
    return path


def configured(vendors: Simulators, key_file: Path) -> dict[str, object]:
    config = config_for(vendors.url)
    account = config["providers"]["gigachat"]
    del account["api_key"]
    account["api_key_file"] = str(key_file)
    return config


@pytest.fixture(params=[1, 2], ids=["alone", "two-workers"])
def place(request: pytest.FixtureRequest, vendors: Simulators, key_file: Path, tmp_path: Path) -> Iterator[Gateway]:
    vendors.control("reset")
    with gateway(
        tmp_path / "place",
        configured(vendors, key_file),
        workers=request.param,
        environment={"XROUTER_RELOAD_S": "0.05"},
    ) as running:
        yield running


def chat(place: Gateway) -> int:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "echo: hello"}]}
    return http("POST", f"{place.url}/v1/chat/completions", body, place.key)[0]


def served_as(place: Gateway, vendors: Simulators) -> str | None:
    """The client whose credential the next call was made with."""
    assert chat(place) == 200
    rows = [row for row in vendors.requests() if row["path"].endswith("/chat/completions")]
    found: str | None = rows[-1]["credential"]
    return found


def settled(place: Gateway, vendors: Simulators, client: str) -> bool:
    """Whichever worker answers: ten calls in a row."""
    return all(served_as(place, vendors) == client for _ in range(10))


def test_a_new_secret_is_taken_while_a_stream_runs(place: Gateway, vendors: Simulators, key_file: Path) -> None:
    assert served_as(place, vendors) == "first"
    vendors.control("settings", pace_ms=40)
    body = {"model": MODEL, "stream": True, "messages": [{"role": "user", "content": "say 60 words"}]}
    lines: list[str] = []
    begun = threading.Event()

    def stream() -> None:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {place.key}"}
        request = Request(f"{place.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        with urlopen(request, timeout=30) as answer:
            for line in answer:
                lines.append(line.decode().strip())
                begun.set()

    running = threading.Thread(target=stream)
    running.start()
    assert begun.wait(20)
    key_file.write_text(key_of("second"))
    wait_until("the second credential", lambda: settled(place, vendors, "second"), log=place.log)
    running.join(30)
    assert "data: [DONE]" in lines
    assert not any('"error"' in line for line in lines)
    assert key_of("second") not in place.log.read_text()
    assert '"took over the configuration"' in place.log.read_text()


def test_a_file_that_cannot_be_used_keeps_the_old_one_and_says_why(
    place: Gateway, vendors: Simulators, key_file: Path
) -> None:
    assert served_as(place, vendors) == "first"
    path = place.directory / "xrouter.yaml"
    good = path.read_text()
    path.write_text(good + "\nno_such_key: 1\n")
    said = "no_such_key: is not a known key"
    wait_until("the reason in the log", lambda: said in place.log.read_text(), log=place.log)
    assert "the old one stays" in place.log.read_text()
    assert served_as(place, vendors) == "first"
    key_file.write_text("")
    path.write_text(good)
    wait_until("the reason in the log", lambda: "is empty" in place.log.read_text(), log=place.log)
    assert served_as(place, vendors) == "first"
    key_file.write_text(key_of("third"))
    wait_until("the third credential", lambda: settled(place, vendors, "third"), log=place.log)


def change(place: Gateway, edit: Callable[[dict[str, Any]], None]) -> None:
    """Another file, in one step."""
    path = place.directory / "xrouter.yaml"
    config = yaml.safe_load(path.read_text())
    edit(config)
    fresh = path.with_suffix(".fresh")
    fresh.write_text(yaml.safe_dump(config))
    fresh.replace(path)


def status_of(place: Gateway, model: str) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": "echo: hi"}]}
    return http("POST", f"{place.url}/v1/chat/completions", body, place.key)[0]


def everywhere(place: Gateway, model: str, status: int) -> bool:
    """Whichever worker answers."""
    return all(status_of(place, model) == status for _ in range(10))


def metric(place: Gateway, name: str) -> dict[str, float]:
    """By labels, as they stand on the page."""
    with urlopen(f"{place.url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = (line.rpartition(" ") for line in lines if line.partition("{")[0].partition(" ")[0] == name)
    return {label.removeprefix(name): float(value) for label, _, value in found}


class Stream(threading.Thread):
    """A streamed call, read in the background."""

    def __init__(self, place: Gateway, model: str, words: int) -> None:
        super().__init__()
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": f"say {words} words"}]}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {place.key}"}
        self._request = Request(f"{place.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        self._begun = threading.Event()
        self.lines: list[str] = []
        self.start()
        assert self._begun.wait(20)

    def run(self) -> None:
        with urlopen(self._request, timeout=60) as answer:
            for line in answer:
                self.lines.append(line.decode().strip())
                self._begun.set()


def test_everything_is_switched_while_streams_run_and_a_bad_file_changes_nothing(
    place: Gateway, vendors: Simulators
) -> None:
    """Providers come and go, an alias turns round, a limit changes; in between a file that is no good."""
    vendors.control("settings", pace_ms=60)
    streams = [Stream(place, model, 60) for model in ("tbank/t-pro-it-2.1", MODEL, "both")]
    assert status_of(place, "other/t-pro-it-2.1") == 404
    before = http("GET", f"{place.url}/admin/config", key=place.key)[1]
    assert before["problems"] == []
    tbank = before["serving"]["providers"]["tbank"]

    (place.directory / "xrouter.yaml").write_text("providers:\n  tbank:\n    kynd: x\n    models: [m]\n")
    wait_until("refusals", lambda: metric(place, "xrouter_config_refused") == {"": place.workers}, log=place.log)
    config = http("GET", f"{place.url}/admin/config", key=place.key)[1]
    assert len(config["problems"]) == 1
    assert config["problems"][0].endswith(
        "xrouter.yaml:3: providers.tbank.kynd: is not a known key; did you mean 'kind'?"
    )
    assert (config["revision"], config["serving"]) == (before["revision"], before["serving"])
    assert everywhere(place, "both", 200)

    def edit(config: dict[str, Any]) -> None:
        config.update(place.config)
        providers = dict(config["providers"])
        providers["other"] = providers.pop("tbank") | {"models": ["t-pro-it-2.1"]}
        providers["gigachat"] = providers["gigachat"] | {"max_concurrency": 7, "timeouts": {"connect_s": 2.5}}
        config["providers"] = providers
        config["aliases"] = {"both": ["other/t-pro-it-2.1", MODEL], "more": ["other/t-pro-it-2.1"]}

    change(place, edit)
    wait_until("the new provider", lambda: everywhere(place, "other/t-pro-it-2.1", 200), log=place.log)
    after = http("GET", f"{place.url}/admin/config", key=place.key)[1]
    assert metric(place, "xrouter_config_refused") == {"": 0}
    assert metric(place, "xrouter_config") == {
        f'{{revision="{before["revision"]}"}}': 0,
        f'{{revision="{after["revision"]}"}}': place.workers,
    }
    assert after["problems"] == []
    assert after["problems_since"] is None
    assert after["serving"]["providers"]["other"]["base_url"] == tbank["base_url"]
    assert after["serving"]["deployments"][MODEL]["max_concurrency"] == 7
    assert everywhere(place, "tbank/t-pro-it-2.1", 404)
    assert everywhere(place, "more", 200)
    body = {"model": "both", "messages": [{"role": "user", "content": "hello"}]}
    rows = wait_until("rows", lambda: [row for row in place.attempts() if row["model"] == "both"], log=place.log)
    assert http("POST", f"{place.url}/v1/chat/completions", body, place.key)[0] == 200
    wait_until("the row", lambda: len([row for row in place.attempts() if row["model"] == "both"]) > len(rows))
    assert next(row["deployment"] for row in place.attempts() if row["model"] == "both") == "other/t-pro-it-2.1"

    for stream in streams:
        stream.join(60)
        assert "data: [DONE]" in stream.lines
        assert not any('"error"' in line for line in stream.lines)
    ended = wait_until("the streams' rows", lambda: [row for row in place.attempts() if row["streamed"]], log=place.log)
    assert {row["state"] for row in ended} <= {"succeeded", "open"}


def test_a_retry_of_a_call_from_before_goes_to_a_provider_that_is_gone(place: Gateway, vendors: Simulators) -> None:
    """A running call keeps the whole configuration that it began with."""
    vendors.control("settings", pace_ms=0)
    answers: list[int] = []
    model = "both+slow-headers"

    def ask() -> None:
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {place.key}"}
        headers["x-xrouter-timeout-ms"] = "8000"
        request = Request(f"{place.url}/v1/chat/completions", json.dumps(body).encode(), headers)
        try:
            with urlopen(request, timeout=60) as answer:
                answers.append(answer.status)
        except HTTPError as error:
            answers.append(error.code)

    running = threading.Thread(target=ask)
    running.start()
    wait_until("the first attempt", lambda: place.attempts(state="open"), log=place.log)
    change(place, lambda config: (config["providers"].pop("tbank"), config.pop("aliases")))
    wait_until("the change", lambda: everywhere(place, "both", 404), log=place.log)
    assert not answers, "it still runs"
    running.join(60)
    assert answers == [504]
    tried = [row["deployment"].partition("+")[0] for row in place.attempts() if row["model"] == model]
    assert tried == ["tbank/t-pro-it-2.1", MODEL]


@pytest.mark.parametrize("workers", [1, 2], ids=["alone", "two-workers"])
def test_sighup_looks_at_once(vendors: Simulators, key_file: Path, tmp_path: Path, workers: int) -> None:
    vendors.control("reset")
    environment = {"XROUTER_RELOAD_S": "600"}
    with gateway(tmp_path / "hup", configured(vendors, key_file), workers=workers, environment=environment) as place:
        assert served_as(place, vendors) == "first"
        key_file.write_text(key_of("second"))
        assert served_as(place, vendors) == "first"
        assert place.process is not None
        os.kill(place.process.pid, signal.SIGHUP)
        wait_until("the second credential", lambda: settled(place, vendors, "second"), log=place.log)
        assert place.stop() == 0


def test_a_price_changes_without_a_restart(vendors: Simulators, tmp_path: Path) -> None:
    vendors.control("reset")
    with gateway(tmp_path / "price", config_for(vendors.url), environment={"XROUTER_RELOAD_S": "0.05"}) as place:
        path = place.directory / "xrouter.yaml"
        config = yaml.safe_load(path.read_text())
        config["providers"]["tbank"]["models"][0]["price"] = "unpriced"
        path.write_text(yaml.safe_dump(config))
        url = f"{place.url}/v1/models/tbank/t-pro-it-2.1"
        unpriced = {"currency": "RUB", "unpriced": True}
        wait_until("the price", lambda: http("GET", url, key=place.key)[1]["pricing"] == unpriced, log=place.log)
        body = {"model": "tbank/t-pro-it-2.1", "messages": [{"role": "user", "content": "hello"}]}
        assert http("POST", f"{place.url}/v1/chat/completions", body, place.key)[0] == 200
        rows = wait_until("the row", place.attempts)
        assert (rows[0]["unpriced"], float(rows[0]["cost_rub"])) == (True, 0)
        with urlopen(f"{place.url}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
        assert 'xrouter_unpriced_attempts_total{deployment="tbank/t-pro-it-2.1"} 1.0' in metrics
