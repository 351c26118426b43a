"""Keys from the command line and the admin API, in force on running workers; and secrets stay secret."""

import asyncio
import base64
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from campaigns.stage import Gateway, Simulators, config_for, http, wait_until
from tests.journey.calls import CHAT, at_once, chat_body, session
from tests.journey.conftest import GIGACHAT, TBANK
from tests.journey.relays import parrot

IN_FORCE_S = 2.0
ALLOWED_S = 4.0
"""A shared machine may stall."""


def xrouter(place: Gateway, *command: str) -> "subprocess.CompletedProcess[str]":
    """A command on the running gateway's data directory."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XROUTER_")}  # noqa: TID251
    environment["XROUTER_DATA_DIR"] = str(place.directory / "data")
    return subprocess.run(
        [sys.executable, "-m", "xrouter", *command],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def status_with(place: Gateway, key: str) -> int:
    return http("POST", f"{place.url}{CHAT}", chat_body(TBANK), key)[0]


def test_keys_by_the_command_line(pair: Gateway) -> None:
    made = xrouter(pair, "keys", "create", "from the shell")
    assert made.returncode == 0, made.stderr
    key = made.stdout.strip()
    key_id = key.split("-")[3]
    assert key.startswith("sk-xr-v1-")
    assert key not in made.stderr
    assert [status_with(pair, key) for _ in range(8)] == [200] * 8, "a new key works at once on every worker"
    assert http("GET", f"{pair.url}/admin/attempts", key=key)[0] == 403

    listed = xrouter(pair, "keys", "list")
    (line,) = [line for line in listed.stdout.splitlines() if key_id in line]
    assert "active" in line
    assert "from the shell" in line
    assert key not in listed.stdout

    assert xrouter(pair, "keys", "disable", key_id).returncode == 0
    wait_until("401 on every worker", lambda: [status_with(pair, key) for _ in range(8)] == [401] * 8, ALLOWED_S)
    assert http("GET", f"{pair.url}/admin/keys/{key_id}", key=pair.key)[1]["disabled"] is True
    unknown = xrouter(pair, "keys", "disable", "nobody")
    assert unknown.returncode == 1
    assert "nobody" in unknown.stderr


def test_keys_by_the_admin_api_are_shown_once(pair: Gateway) -> None:
    status, made = http("POST", f"{pair.url}/admin/keys", {"name": "by the API", "expires_in_days": 1}, pair.key)
    assert status == 201
    key = made.pop("key")
    assert [status_with(pair, key) for _ in range(8)] == [200] * 8

    assert http("GET", f"{pair.url}/admin/keys/{made['id']}", key=pair.key) == (200, made)
    _, page = http("GET", f"{pair.url}/admin/keys?limit=200", key=pair.key)
    assert made in page["data"]
    assert key not in str(page)

    assert http("DELETE", f"{pair.url}/admin/keys/{made['id']}", key=pair.key)[1]["disabled"] is True
    wait_until("401 on every worker", lambda: [status_with(pair, key) for _ in range(8)] == [401] * 8, ALLOWED_S)


CANARIES = {
    "bootstrap key": "canary-bootstrap-key-0123456789abcdef",
    "gigachat key": base64.b64encode(b"canaryclient:canary-gigachat-secret").decode(),
    "gigachat secret": "canary-gigachat-secret",
    "tbank key": "canary-tbank-key-6f1d0c4b2a",
    "parrot key": "canary-parrot-key-77aa33",
    "prompt": "canary-prompt-tell-nobody",
    "wrong key": "sk-canary-wrong-key-0123456789",
}


async def test_secrets_and_prompts_are_found_nowhere(vendors: Simulators, tmp_path: Path) -> None:
    said: list[str] = []
    async with parrot() as port:
        config = config_for(vendors.url)
        config["providers"]["gigachat"]["api_key"] = CANARIES["gigachat key"]
        config["providers"]["tbank"]["api_key"] = "${CANARY_TBANK}"
        config["providers"]["parrot"] = {
            "kind": "openai_compatible",
            "base_url": f"http://127.0.0.1:{port}/v1",
            "api_key": CANARIES["parrot key"],
            "models": ["any"],
        }
        environment = {"CANARY_TBANK": CANARIES["tbank key"], "XROUTER_LOG_LEVEL": "debug"}
        place = Gateway(tmp_path, config, key=CANARIES["bootstrap key"], environment=environment)
        await asyncio.to_thread(place.start)
        try:
            vendors.control("settings", api_key=CANARIES["tbank key"])
            minted = await _use(place, vendors, said)
        finally:
            assert await asyncio.to_thread(place.stop) == 0
    said.append(place.log.read_text())
    files = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert any(path.suffix == ".db" for path in files)
    secrets = {**CANARIES, "minted key": minted, "its secret part": minted.split("-")[4]}
    for name, secret in secrets.items():
        assert not [text[:200] for text in said if secret in text], f"the {name} was said"
        assert not [path.name for path in files if secret.encode() in path.read_bytes()], f"the {name} was written down"


async def _use(place: Gateway, vendors: Simulators, said: list[str]) -> str:
    """Everything that could make somebody talk; what was said is collected. Returns a freshly minted key."""
    secret = CANARIES["prompt"]
    _, made = await asyncio.to_thread(http, "POST", f"{place.url}/admin/keys", {"name": "canary"}, place.key)
    minted: str = made["key"]
    models = [
        GIGACHAT, TBANK, "parrot/any", f"{GIGACHAT}+status-500", f"{TBANK}+error-2", f"{TBANK}+broken-json-1",
        f"{GIGACHAT}+reset-2", f"{TBANK}+status-401", f"unknown/{secret[:0]}model",
    ]  # fmt: skip
    async with session(place, key=minted) as client:
        for model in models:
            for stream in (False, True):
                async with client.post(CHAT, json=chat_body(model, f"echo: {secret}", stream=stream)) as answer:
                    data = await answer.text()
                    if answer.status != 200:
                        said.append(data)
                    assert (answer.status == 200) or "error" in data
        for body in (f'{{"model": "{TBANK}", "messages": "{secret}"}}', f'{{"messages": [{{"role": "{secret}', secret):
            async with client.post(CHAT, data=body, headers={"Content-Type": "application/json"}) as answer:
                assert answer.status == 400
        vendors.control("settings", api_key="another")
        async with client.post(CHAT, json=chat_body(TBANK, secret)) as answer:
            assert answer.status == 502
            said.append(await answer.text())
        vendors.control("faults", model="oauth", fault="status-401")
        vendors.control("expire-tokens")
        async with client.post(CHAT, json=chat_body(GIGACHAT, secret)) as answer:
            assert answer.status == 502
            said.append(await answer.text())
    async with session(place, key=CANARIES["wrong key"]) as client:
        async with client.post(CHAT, json=chat_body(TBANK, secret)) as answer:
            assert answer.status == 401
            said.append(await answer.text())
        # A key in the wrong place: the URL is not looked at, and must not be repeated either.
        async with client.get("/v1/models", params={"api_key": minted}) as answer:
            assert answer.status == 401
            said.append(await answer.text())
    said.append(await asyncio.to_thread(_metrics, place))
    said.append(str(await asyncio.to_thread(place.attempts)))
    return minted


def _metrics(place: Gateway) -> str:
    with urlopen(f"{place.url}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
        return text


async def test_the_parrots_reason_reaches_the_client_without_the_key(tmp_path: Path) -> None:
    """The vendor's words are shown, so that the operator understands; its echo of our key is not."""
    async with parrot() as port:
        config: dict[str, Any] = {
            "providers": {
                "parrot": {
                    "kind": "openai_compatible",
                    "base_url": f"http://127.0.0.1:{port}/v1",
                    "api_key": CANARIES["parrot key"],
                    "models": ["any"],
                }
            }
        }
        place = Gateway(tmp_path, config)
        await asyncio.to_thread(place.start)
        try:
            ((status, body),) = await at_once(place, 1, chat_body("parrot/any"))
        finally:
            await asyncio.to_thread(place.stop)
    assert status == 502
    assert "Incorrect API key provided" in body["error"]["message"]
    assert CANARIES["parrot key"] not in str(body)
