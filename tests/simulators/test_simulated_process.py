"""The simulators as a process of their own: they announce their port, serve, and leave when told."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest

SCRIPT = (
    "from xrouter.simulators import server; "
    "server.run('127.0.0.1', 0, 7, 0.0, lambda port: print('port', port, flush=True))"
)


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        yield running
        running.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_run(process: subprocess.Popen[str], number: signal.Signals) -> None:
    assert process.stdout is not None
    announced = re.fullmatch(r"port (\d+)\n", process.stdout.readline())
    assert announced is not None
    url = f"http://127.0.0.1:{announced[1]}"
    body = {"model": "t-lite-it-2.1", "messages": [{"role": "user", "content": "echo: да"}]}
    request = urllib.request.Request(f"{url}/openai/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=10) as response:
        assert json.load(response)["choices"][0]["message"]["content"] == "да"

    stalled = {**body, "model": "t-lite-it-2.1+stall-0", "stream": True}
    request = urllib.request.Request(f"{url}/openai/v1/chat/completions", json.dumps(stalled).encode())
    with urllib.request.urlopen(request, timeout=10):
        process.send_signal(number)
        assert process.wait(timeout=10) == 0
    assert process.stdout.read() == ""
    assert process.stderr is not None
    assert process.stderr.read() == ""


def test_no_request_of_a_killed_client_is_missed(process: subprocess.Popen[str]) -> None:
    """The event loop of the real process may learn of the request and of its client's end in one breath."""
    assert process.stdout is not None
    port = int(process.stdout.readline().split()[1])
    raw = b'{"model": "t-lite-it-2.1", "messages": [{"role": "user", "content": "hi"}], "stream": true}'
    kills = 300
    for number in range(kills):
        head = f"POST /openai/v1/chat/completions HTTP/1.1\r\nHost: sim\r\nx-request-id: a{number}\r\n"
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
    deadline = time.perf_counter() + 20
    ended: dict[str, bool] = {}
    while sum(ended.values()) < kills and time.perf_counter() < deadline:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/control/requests", timeout=10) as response:
            rows = json.load(response)["data"]
        seen = [row["attempt_id"] for row in rows]
        ended = {row["attempt_id"]: row["end_ms"] is not None for row in rows}
    assert sum(ended.values()) == kills, "a request whose client has left is still under way"
    assert sorted(seen) == sorted(f"a{number}" for number in range(kills))
