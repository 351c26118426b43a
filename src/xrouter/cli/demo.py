"""`xrouter demo`: the gateway on SQLite with the built-in simulators; needs no network and no keys."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

import typer
import yaml

from xrouter.cli import serve
from xrouter.configuration.effective import load
from xrouter.core.api_key import mint
from xrouter.settings import Config, ConfigError, SecretText, load_settings


def demo() -> None:
    """Serve simulated GigaChat, T-Bank, Yandex, MTS and Anthropic models and print a curl line that works.

    Honours XROUTER_HOST, _PORT, _DATA_DIR, _CONFIG and _BOOTSTRAP_KEY; without the last, a fresh key is printed at
    each start. Never leaves this machine: a file in XROUTER_CONFIG may name loopback upstreams only, and vendor
    keys in the environment have nobody to go to.
    """
    settings = load_settings().model_copy(update={"vendor_environment": False})
    if settings.bootstrap_key is None:
        settings = settings.model_copy(update={"bootstrap_key": SecretText(mint()[1].reveal())})
    with _alone(settings.data_dir), simulators(settings.data_dir) as url:
        if settings.config is None:
            settings = settings.model_copy(update={"config": _write_config(settings.data_dir, url)})
        assert settings.config is not None
        config = load(settings, vendors=False).config
        _check_loopback(config, settings.config)

        def announce(listening_on: str) -> None:
            assert settings.bootstrap_key is not None
            typer.echo(_welcome(listening_on, settings.bootstrap_key.reveal(), url, config))

        code = serve.run(settings, config, announce)
    raise typer.Exit(code)


@contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    """One demo for each data directory: a second one would take the key and the simulators from the first."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / "demo.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(
                f"a demo already runs on the data directory {data_dir}; stop it, or set XROUTER_DATA_DIR and "
                "XROUTER_PORT for a second one"
            ) from None
        yield


def _check_loopback(config: Config, path: Path) -> None:
    for name, provider in config.providers.items():
        urls = [provider.base_url, *([provider.auth_url] if provider.kind == "gigachat" else [])]
        for url in urls:
            host = urlsplit(url).hostname if url else "its vendor"
            if host not in ("localhost", "127.0.0.1", "::1"):
                raise ConfigError(
                    f"{path}: providers.{name}: leads to {host}, but the demo never leaves this machine; "
                    "`xrouter serve` is for real vendors"
                )


@contextmanager
def simulators(data_dir: Path) -> Iterator[str]:
    """The simulators' base URL. They run in a session of their own, so that they outlive a killed gateway and
    their counters stay the truth: the next start finds them again; an orderly end stops them."""
    state = data_dir / "simulators.json"
    found = _running(state) or _start(state, data_dir / "simulators.log")
    try:
        yield found["url"]
    finally:
        state.unlink(missing_ok=True)
        with suppress(ProcessLookupError):
            os.kill(found["pid"], signal.SIGTERM)


def _running(state: Path) -> dict[str, Any] | None:
    """The simulators that an earlier, killed start left behind."""
    with suppress(OSError, ValueError, KeyError, URLError):
        found: dict[str, Any] = json.loads(state.read_text())
        with urlopen(f"{found['url']}/control/state", timeout=1.0) as answer:  # noqa: S310 - our own loopback URL
            if answer.status == 200:
                return found
    return None


def _start(state: Path, log: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "xrouter", "simulate", "--port", "0"]
    with log.open("w") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own command, nothing of a user's in it
            command, stdout=subprocess.PIPE, stderr=errors, text=True, start_new_session=True
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise typer.Exit(_explain(log))
    found = {"url": line.split()[-1], "pid": process.pid}
    state.write_text(json.dumps(found))
    return found


def _explain(log: Path) -> int:
    typer.echo(f"xrouter: the simulators did not start; see {log}", err=True)
    return 1


def _write_config(data_dir: Path, url: str) -> Path:
    """What an operator's xrouter.yaml would say, with the simulators at `url` in the vendors' places."""
    path = data_dir / "demo.yaml"
    path.write_text(yaml.safe_dump(_config(url), sort_keys=False))
    return path


def _config(url: str) -> dict[str, Any]:
    return {
        "providers": {
            "gigachat": {
                "kind": "gigachat",
                "base_url": f"{url}/gigachat/v1",
                "auth_url": f"{url}/gigachat/api/v2/oauth",
                "api_key": "ZGVtbzpkZW1v",  # base64 of demo:demo, for the simulator only
                "scope": "GIGACHAT_API_CORP",
                "models": ["GigaChat-2", "GigaChat-2-Pro", "GigaChat-2-Max", "Embeddings"],
            },
            "tbank": {
                "kind": "tbank",
                "base_url": f"{url}/openai/v1",
                "models": [
                    _priced("t-pro-it-2.1", 35, 70),
                    _priced("t-lite-it-2.1", 10, 20),
                ],
            },
            "yandex": {
                "kind": "yandexgpt",
                "base_url": f"{url}/yandex/v1",
                "api_key": "AQVNdemo",  # for the simulator only
                "options": {"folder": "b1gsimulatedfolder00"},
                "models": ["yandexgpt", "yandexgpt-lite:rc", "qwen3-235b-a22b-fp8", "text-search-doc", "yandex-art"],
            },
            "mts": {
                "kind": "mts",
                "base_url": f"{url}/mts/projects/demo/openai/v1",
                "api_key": "demo",  # any, for the simulator only
                "models": [
                    _priced("t-pro-it-2.1", 35, 70),
                    _priced("bge-m3", 5, 0),
                    _priced("bge-reranker-v2-m3", 5, 0),
                ],
            },
            "anthropic": {
                "kind": "anthropic",
                "base_url": f"{url}/anthropic",
                "api_key": "demo",  # any, for the simulator only
                "models": [_priced("claude-sonnet-5-5", 300, 1500)],
            },
        },
        "aliases": {
            "smart": ["gigachat/GigaChat-2-Max", "tbank/t-pro-it-2.1"],
            "fast": ["tbank/t-lite-it-2.1", "gigachat/GigaChat-2"],
        },
        "simulated": True,
    }


def _priced(name: str, input_rub: int, output_rub: int) -> dict[str, Any]:
    """Invented prices: the weights are open, whoever hosts them sets the price."""
    return {"name": name, "price": {"input_rub_per_1m": input_rub, "output_rub_per_1m": output_rub}}


def _welcome(url: str, key: str, simulators_url: str, config: Config) -> str:
    models = [f"{name}/{model.name}" for name, provider in config.providers.items() for model in provider.models]
    body = '{"model": "' + models[0] + '", "messages": [{"role": "user", "content": "Привет!"}]}'
    return f"""
XRouter is running on {url}  (OpenAI base URL: {url}/v1)

  key     {key}
          (fresh at each start; XROUTER_BOOTSTRAP_KEY keeps one)
  models  {", ".join([*models, *config.aliases])}

Try it:

  curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '{body}'

The vendors are simulators ({simulators_url}). For a fault append its name to a model id: {models[0]}+status-503
(all names: docs/cli.md). Ctrl-C stops.
"""
