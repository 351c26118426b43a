"""An installation grows: from SQLite to PostgreSQL, with all its keys and calls, those in the journal included."""

import os
import subprocess
import sys
from pathlib import Path

from campaigns.stage import Gateway, Simulators, config_for, gateway, http, wait_until
from tests.journey.calls import CHAT, chat_body
from tests.journey.conftest import TBANK


def _migrate(place: Gateway, *words: str, **more: str) -> "subprocess.CompletedProcess[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("XROUTER_")}  # noqa: TID251
    environment |= {"XROUTER_DATA_DIR": str(place.directory / "data"), **more}
    return subprocess.run(
        [sys.executable, "-m", "xrouter", "migrate", *words],
        env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def _chat(place: Gateway, key: str) -> str:
    status, body = http("POST", f"{place.url}{CHAT}", chat_body(TBANK), key)
    assert status == 200, body
    call_id: str = body["id"]
    return call_id


def test_the_same_keys_and_all_calls_before_and_after(vendors: Simulators, postgres_url: str, tmp_path: Path) -> None:
    with gateway(tmp_path / "place", config_for(vendors.url)) as place:
        key = http("POST", f"{place.url}/admin/keys", {"name": "app"}, place.key)[1]["key"]
        calls = {_chat(place, key) for _ in range(20)}
        wait_until("the books", lambda: len(place.attempts()) == 20)
        old = f"sqlite:///{place.directory / 'data' / 'xrouter.db'}"
        refused = _migrate(place, "--from", old, XROUTER_DATABASE_URL=postgres_url)
        assert refused.returncode == 2
        assert "stop it first" in refused.stderr

        place.stop()
        place.environment = {"XROUTER_FLUSH_INTERVAL_S": "60"}
        place.start()
        calls |= {_chat(place, key) for _ in range(5)}
        place.kill()  # these five are in the journal alone

        moved = _migrate(place, "--from", old, XROUTER_DATABASE_URL=postgres_url)
        assert moved.returncode == 0, moved.stderr
        assert "attempts: 25 rows" in moved.stdout
        assert "xrouter:" not in moved.stdout, "no password"
        again = _migrate(place, "--from", old, XROUTER_DATABASE_URL=postgres_url)
        assert again.returncode == 2
        assert "not empty" in again.stderr
        assert "Traceback" not in again.stderr

        place.environment = {"XROUTER_DATABASE_URL": postgres_url}
        place.start()
        calls.add(_chat(place, key))
        wait_until("all calls", lambda: {row["call_id"] for row in place.attempts()} == calls, log=place.log)
