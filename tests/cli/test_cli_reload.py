"""Credentials change under a running gateway: whole processes, simulated vendors."""

import base64
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
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
    assert "took over new credentials" in place.log.read_text()


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


def test_what_takes_a_restart_is_named(place: Gateway, vendors: Simulators) -> None:
    path = place.directory / "xrouter.yaml"
    config = yaml.safe_load(path.read_text())
    config["aliases"]["more"] = [MODEL]
    path.write_text(yaml.safe_dump(config))
    wait_until("the warning", lambda: "take a restart" in place.log.read_text(), log=place.log)
    assert '"changes":["aliases"]' in place.log.read_text()
    assert chat(place) == 200


def test_sighup_looks_at_once(vendors: Simulators, key_file: Path, tmp_path: Path) -> None:
    vendors.control("reset")
    environment = {"XROUTER_RELOAD_S": "600"}
    with gateway(tmp_path / "hup", configured(vendors, key_file), environment=environment) as place:
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
