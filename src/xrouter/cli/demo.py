"""`xrouter demo`: the gateway on SQLite with the built-in simulators; needs no network and no keys."""

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
from urllib.request import urlopen

import typer
import yaml

from xrouter.cli import serve
from xrouter.core.api_key import mint
from xrouter.settings import SecretText, load_config, load_settings


def demo() -> None:
    """Serve simulated GigaChat and T-Bank models and print a curl line that works.

    Vendor keys in the environment are ignored. Honours XROUTER_HOST, _PORT, _DATA_DIR, _CONFIG and
    _BOOTSTRAP_KEY; without the last, a fresh key is printed at each start.
    """
    settings = load_settings()
    if settings.bootstrap_key is None:
        settings = settings.model_copy(update={"bootstrap_key": SecretText(mint()[1].reveal())})
    with simulators(settings.data_dir) as url:
        if settings.config is None:
            settings = settings.model_copy(update={"config": _write_config(settings.data_dir, url)})
        assert settings.config is not None
        config = load_config(settings.config)

        def announce(listening_on: str) -> None:
            assert settings.bootstrap_key is not None
            typer.echo(_welcome(listening_on, settings.bootstrap_key.reveal(), url))

        code = serve.run(settings, config, announce)
    raise typer.Exit(code)


@contextmanager
def simulators(data_dir: Path) -> Iterator[str]:
    """The simulators' base URL. They run in a session of their own, so that they outlive a killed gateway and
    their counters stay the truth: the next start finds them again; an orderly end stops them."""
    data_dir.mkdir(parents=True, exist_ok=True)
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
                "models": ["GigaChat-2", "GigaChat-2-Pro", "GigaChat-2-Max"],
            },
            "tbank": {
                "kind": "tbank",
                "base_url": f"{url}/openai/v1",
                "models": [
                    _priced("t-pro-it-2.1", 35, 70),
                    _priced("t-lite-it-2.1", 10, 20),
                ],
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


def _welcome(url: str, key: str, simulators_url: str) -> str:
    body = '{"model": "gigachat/GigaChat-2", "messages": [{"role": "user", "content": "Привет!"}]}'
    return f"""
XRouter is running on {url}  (OpenAI base URL: {url}/v1)

  key     {key}
  models  gigachat/GigaChat-2, tbank/t-pro-it-2.1, smart, ... (GET {url}/v1/models)

Try it:

  curl {url}/v1/chat/completions -H "Authorization: Bearer {key}" -H "Content-Type: application/json" -d '{body}'

Upstreams are simulators ({simulators_url}); append e.g. `+status-503` to a model id for a fault. Ctrl-C stops.
"""
