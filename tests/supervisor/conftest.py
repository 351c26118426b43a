"""Starts real serving processes and looks at them from outside."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import aiohttp
import psutil
import pytest

HERE = Path(__file__).parent
SOURCES = HERE.parents[1] / "src"


class Server:
    """A started process; `url` is what it announced."""

    def __init__(self, script: str, data_dir: Path, environment: dict[str, str]) -> None:
        self.data_dir = data_dir
        self.errors = data_dir / "stderr"
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(HERE / script)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env={"PYTHONPATH": str(SOURCES), **environment},
            )
        self.url = ""

    async def announced(self) -> None:
        assert self.process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), 30)
        assert line, self.errors.read_text()
        self.url = line.decode().strip()

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self, limit_s: float = 30) -> int:
        return await asyncio.wait_for(asyncio.to_thread(self.process.wait), limit_s)

    def workers(self) -> list[int]:
        return [child.pid for child in psutil.Process(self.process.pid).children()]

    def life_of(self, pid: int) -> list[str]:
        try:
            return (self.data_dir / f"life-{pid}").read_text().split()
        except FileNotFoundError:
            return []

    def log(self) -> str:
        return self.errors.read_text()


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Server] = []

    async def start_one(script: str, **settings: object) -> Server:
        config = tmp_path / "xrouter.yaml"
        config.write_text("providers: {p: {base_url: 'https://example.com/v1', models: [m]}}\n")
        environment = {
            "XROUTER_PORT": "0",
            "XROUTER_DATA_DIR": str(tmp_path),
            "XROUTER_CONFIG": str(config),
            "XROUTER_DRAIN_DELAY_S": "0.3",
            "XROUTER_DRAIN_MAX_S": "0.3",
        } | {f"XROUTER_{name.upper()}": str(value) for name, value in settings.items()}
        server = Server(script, tmp_path, environment)
        started.append(server)
        await server.announced()
        return server

    yield start_one
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
        for left in tmp_path.glob("settings-*"):  # every worker leaves one; those of a killed supervisor are nobody's
            _kill_worker(int(left.name.removeprefix("settings-")))
        server.process.wait()
        assert server.process.stdout is not None
        server.process.stdout.close()


def _kill_worker(pid: int) -> None:
    try:
        process = psutil.Process(pid)
        if any("fake_worker" in part for part in process.cmdline()):
            process.kill()
    except psutil.Error:
        return


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Each request on a connection of its own."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(force_close=True), timeout=aiohttp.ClientTimeout(total=30)
    ) as session:
        yield session


async def until(true: Callable[[], object], limit_s: float = 20) -> None:
    """Wait for something to become true."""
    deadline = asyncio.get_running_loop().time() + limit_s
    while not true():
        assert asyncio.get_running_loop().time() < deadline, "it never became true"
        await asyncio.sleep(0.01)


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., Awaitable[None]]:
    return until
