"""`xrouter config check` and `explain`."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from xrouter.cli.commands import app

Run = Callable[..., Any]
SECRET = "very-secret-credential"
FILE = f"""\
providers:
  gigachat:
    kind: gigachat
    api_key: {SECRET}
    scope: GIGACHAT_API_CORP
    proxy: http://user:{SECRET}@proxy.example:3128
    models: [GigaChat-2-Pro]
  own:
    kind: vllm
    base_url: https://llm.example.com/v1
    options: {{system_first: true}}
    max_concurrency: 4
    models:
      - name: m
        price:
          - {{input_rub_per_1m: 1, output_rub_per_1m: 2, valid_to: 2099-12-31}}
          - {{input_rub_per_1m: 3, output_rub_per_1m: 4, valid_from: 2100-01-01}}
      - free
aliases: {{smart: [own/m]}}
default_model: smart
default_models: {{chat: gigachat/GigaChat-2-Pro}}
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("XROUTER_DATA_DIR", str(tmp_path / "data"))

    def run(text: str, *command: str) -> Any:
        path = tmp_path / "xrouter.yaml"
        path.write_text(text)
        return CliRunner().invoke(app, ["config", *command, str(path)])

    return run


def test_a_good_file_is_good(run: Run) -> None:
    result = run(FILE, "check")
    assert (result.exit_code, result.stdout) == (0, "good: 2 providers, 3 models, 2 aliases\n")


def test_everything_that_the_start_would_refuse_is_said_at_once(run: Run, tmp_path: Path) -> None:
    result = run(
        """\
providers:
  a: {kind: gigachat, models: [GigaChat-2], options: {nope: 1}}
  b: {kind: gigacat, base_url: 'https://x.example', models: [m]}
  c: {kind: vllm, base_url: 'https://x.example', models: [m], ca_bundle: /nowhere.pem}
  d: {kind: vllm, base_url: 'http://127.0.0.1:1/v1', models: [m], options: {system_frist: true}}
  e: {kind: openai, models: [m]}
""",
        "check",
    )
    path = tmp_path / "xrouter.yaml"
    assert result.exit_code == 1
    said = str(result.exception)
    for words in (
        f"{path}: providers.a.options.nope: is not a known key",
        f"{path}: providers.b: unknown provider kind 'gigacat'",
        "did you mean 'gigachat'?",
        f"{path}: providers.c: ca_bundle /nowhere.pem: cannot be read: No such file or directory",
        f"{path}: providers.d.options.system_frist: is not a known key; did you mean 'system_first'?",
        f"{path}: providers.e.api_key: openai needs a key",
    ):
        assert words in said


def test_checking_reaches_out_to_nobody(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a check must not use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert run(FILE, "check").exit_code == 0


def test_what_is_in_force_is_explained_with_its_owner(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XROUTER_PORT", "9999")
    monkeypatch.setenv("XROUTER_PEPPER", "p" * 40)
    monkeypatch.setenv("DEEPSEEK_API_KEY", "")
    result = run(FILE, "explain")
    assert result.exit_code == 0, result.exception
    found = yaml.safe_load(result.stdout)
    source = f"file {tmp_path / 'xrouter.yaml'}"
    assert found["settings"]["port"] == {"value": 9999, "source": "environment (XROUTER_PORT)"}
    assert found["settings"]["host"] == {"value": "127.0.0.1", "source": "built-in"}
    assert found["settings"]["pepper"]["value"] == "***"
    giga, own = found["providers"]["gigachat"], found["providers"]["own"]
    assert (giga["owner"], giga["source"], giga["slots"]["at_once"]) == ("the file", source, 10)
    assert giga["settings"]["api_key"] == "***"
    assert giga["settings"]["proxy"] == "http://***@proxy.example:3128"
    assert giga["models"]["gigachat/GigaChat-2-Pro"]["price"]["input_per_1m"] == "500"
    assert own["slots"]["at_once"] == 4
    assert own["models"]["own/m"]["price"]["input_per_1m"] == "1"
    assert own["models"]["own/m"]["later"][0]["valid_from"] == "2100-01-01"
    assert own["models"]["own/m"]["later"][0]["input_per_1m"] == "3"
    assert own["models"]["own/free"]["price"] == {"currency": "RUB", "unpriced": True}
    assert found["aliases"]["smart"] == {"owner": "the file", "source": source, "models": ["own/m"]}
    assert found["aliases"]["gigachat-pro"]["owner"] == "xrouter"
    assert found["defaults"] == {"model": "smart", "chat": "gigachat/GigaChat-2-Pro"}
    assert SECRET not in result.stdout
