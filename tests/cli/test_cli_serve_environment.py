"""`xrouter serve` without a file: the vendors' own variables are enough. Whole processes."""

import base64
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from campaigns.stage import KEY, Simulators, free_port, http, simulators, wait_until


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulators]:
    with simulators(tmp_path_factory.mktemp("vendors")) as running:
        yield running


def environment(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "XROUTER_DATA_DIR": str(tmp_path / "data")} | more  # noqa: TID251 - for a child


def run(*command: str, environment: dict[str, str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "xrouter", *command], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_vendors_variables_are_enough(vendors: Simulators, tmp_path: Path, workers: str) -> None:
    port = free_port()
    variables = environment(
        tmp_path,
        XROUTER_PORT=str(port),
        XROUTER_BOOTSTRAP_KEY=KEY,
        XROUTER_WORKERS=workers,
        XROUTER_DRAIN_DELAY_S="0",
        GIGACHAT_CREDENTIALS=base64.b64encode(b"corp-env:right").decode(),
        GIGACHAT_SCOPE="GIGACHAT_API_CORP",
        GIGACHAT_BASE_URL=f"{vendors.url}/gigachat/v1",
        GIGACHAT_AUTH_URL=f"{vendors.url}/gigachat/api/v2/oauth",
        YC_API_KEY="alone",
    )
    log = tmp_path / "log"
    url = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with suppress(OSError):
            return http("GET", f"{url}/health/ready")[0] == 200
        return False

    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "xrouter", "serve"], env=variables, stdout=out, stderr=out)
    try:
        wait_until("readiness", ready, log=log)
        body = {"model": "gigachat-pro", "messages": [{"role": "user", "content": "echo: hello"}]}
        status, answer = http("POST", f"{url}/v1/chat/completions", body, KEY)
        assert (status, answer["choices"][0]["message"]["content"]) == (200, "hello")
        assert "providers.gigachat comes from the environment (GIGACHAT_CREDENTIALS, " in log.read_text()
        assert "it takes YC_FOLDER_ID or YANDEX_FOLDER_ID, too" in log.read_text()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_without_anything_it_says_what_to_do(tmp_path: Path) -> None:
    ended = run("serve", environment=environment(tmp_path))
    assert ended.returncode == 2
    assert "no providers: set XROUTER_CONFIG to your xrouter.yaml" in ended.stderr
    assert "GIGACHAT_CREDENTIALS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_other_commands_do_not_look_at_vendors_keys(tmp_path: Path) -> None:
    config = tmp_path / "x.yaml"
    config.write_text("providers: {a: {base_url: 'https://llm.example.com/v1', models: [m]}}")
    variables = environment(tmp_path, XROUTER_CONFIG=str(config), OPENAI_API_KEY="never")
    refused = run("demo", environment=variables)
    assert refused.returncode == 2
    assert "providers.a: leads to llm.example.com" in refused.stderr
    assert "openai" not in refused.stderr
