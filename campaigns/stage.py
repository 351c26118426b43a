"""Starts the real processes that a campaign needs: simulators and a gateway, each with its own log."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil
import yaml

from campaigns.leash import tie

KEY = "sk-campaign-0123456789-abcdefghijklmnop"
START_DEADLINE_S = 30.0


def wait_until(
    what: str, condition: Callable[[], Any], deadline_s: float = START_DEADLINE_S, log: Path | None = None
) -> Any:
    """The first truthy value of `condition`, polled; AssertionError with the log's end after the deadline."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    tail = f"\n{log.read_text(errors='replace')[-3000:]}" if log and log.exists() else ""
    raise AssertionError(f"{what} did not happen within {deadline_s:g} s{tail}")


def free_port() -> int:
    """A port that was free a moment ago, below the range from which kernels take those of outgoing connections: a
    gateway that is killed finds it free again."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port


def http(method: str, url: str, body: Any = None, key: str | None = None) -> tuple[int, Any]:
    """One JSON exchange: status and decoded body (None when empty)."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = None if body is None else json.dumps(body).encode()
    try:
        with urlopen(Request(url, data, headers, method=method), timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else None
    except HTTPError as error:
        text = error.read()
        with suppress(ValueError):
            return error.code, json.loads(text)
        return error.code, None


@dataclass
class Simulators:
    """A running `xrouter simulate`."""

    url: str
    process: "subprocess.Popen[str]"

    def state(self) -> dict[str, Any]:
        found: dict[str, Any] = http("GET", f"{self.url}/control/state")[1]
        return found

    def control(self, what: str, **settings: Any) -> Any:
        status, found = http("POST", f"{self.url}/control/{what}", settings)
        assert status == 200, (what, settings, status, found)
        return found

    def requests(self) -> list[dict[str, Any]]:
        """Every request the vendors saw, in order."""
        rows: list[dict[str, Any]] = []
        after = 0
        while True:
            page = http("GET", f"{self.url}/control/requests?after={after}")[1]
            rows += page["data"]
            if not page["data"]:
                return rows
            after = page["next"]


@contextmanager
def simulators(directory: Path, pace_ms: float = 0.0, seed: int = 1) -> Iterator[Simulators]:
    """Simulators on a free port until the context ends."""
    log = directory / "simulators.log"
    command = [
        sys.executable,
        "-m",
        "xrouter",
        "simulate",
        "--port",
        "0",
        "--pace-ms",
        str(pace_ms),
        "--seed",
        str(seed),
    ]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        tie(process.pid)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, f"the simulators did not start:\n{log.read_text()}"
            yield Simulators(line.split()[-1], process)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                raise


def config_for(simulators_url: str, **more: Any) -> dict[str, Any]:
    """Both vendors on the simulators, and the aliases `both` (GigaChat first) and `both-reversed`."""
    timeouts = more.pop("timeouts", {})
    base: dict[str, Any] = {
        "providers": {
            "gigachat": {
                "kind": "gigachat",
                "base_url": f"{simulators_url}/gigachat/v1",
                "auth_url": f"{simulators_url}/gigachat/api/v2/oauth",
                "api_key": "ZGVtbzpkZW1v",
                "scope": "GIGACHAT_API_CORP",
                "timeouts": timeouts,
                "models": ["GigaChat-2", "GigaChat-2-Max"],
            },
            "tbank": {
                "kind": "tbank",
                "base_url": f"{simulators_url}/openai/v1",
                "timeouts": timeouts,
                "models": [
                    {"name": "t-pro-it-2.1", "price": {"input_rub_per_1m": 35, "output_rub_per_1m": 70}},
                ],
            },
        },
        "aliases": {
            "both": ["gigachat/GigaChat-2", "tbank/t-pro-it-2.1"],
            "both-reversed": ["tbank/t-pro-it-2.1", "gigachat/GigaChat-2"],
        },
        "simulated": True,
    }
    return base | more


@dataclass
class Gateway:
    """A gateway process that can be killed and started again on the same port and data."""

    directory: Path
    config: Mapping[str, Any]
    port: int = field(default_factory=free_port)
    key: str = KEY
    workers: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)
    program: Sequence[str] = (sys.executable, "-m", "xrouter", "serve")
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> Path:
        return self.directory / "gateway.log"

    def start(self) -> None:
        """Start and wait until it is ready."""
        self.launch()
        wait_until("the gateway's readiness", self.is_ready, log=self.log)

    def launch(self) -> None:
        """Start, and do not wait."""
        path = self.directory / "xrouter.yaml"
        path.write_text(yaml.safe_dump(dict(self.config)))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("XROUTER_")}
        environment |= {
            "XROUTER_PORT": str(self.port),
            "XROUTER_DATA_DIR": str(self.directory / "data"),
            "XROUTER_CONFIG": str(path),
            "XROUTER_BOOTSTRAP_KEY": self.key,
            "XROUTER_WORKERS": str(self.workers),
            "XROUTER_DRAIN_DELAY_S": "0.1",
            "XROUTER_VENDOR_ENVIRONMENT": "false",
            **self.environment,
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.program,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        tie(self.process.pid)

    def is_ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the gateway ended with {self.process.returncode}:\n{self.tail()}"
        with suppress(URLError, OSError):
            return http("GET", f"{self.url}/health/ready")[0] == 200
        return False

    def kill(self) -> None:
        """kill -9 of the gateway with its workers: nothing gets a chance to clean up."""
        assert self.process is not None
        family = psutil.Process(self.process.pid)
        for process in (family, *family.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(10)

    def stop(self, deadline_s: float = 30.0) -> int:
        """SIGTERM; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(deadline_s)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def attempts(self, **wanted: str) -> list[dict[str, Any]]:
        """All rows of the books, newest first."""
        rows: list[dict[str, Any]] = []
        query = "&".join(["limit=200", *(f"{name}={value}" for name, value in wanted.items())])
        cursor = ""
        while True:
            status, page = http("GET", f"{self.url}/admin/attempts?{query}{cursor}", key=self.key)
            assert status == 200, (status, page)
            rows += page["data"]
            if not page["has_more"]:
                return rows
            cursor = f"&cursor={page['next_cursor']}"


@contextmanager
def gateway(directory: Path, config: Mapping[str, Any], **more: Any) -> Iterator[Gateway]:
    """A started gateway that is stopped at the end."""
    directory.mkdir(parents=True, exist_ok=True)
    found = Gateway(directory, config, **more)
    try:
        found.start()  # inside: one that never gets ready must not outlive us either
        yield found
    finally:
        if found.process is not None and found.process.poll() is None:
            found.process.terminate()
            try:
                found.process.wait(20)
            except subprocess.TimeoutExpired:
                found.kill()
