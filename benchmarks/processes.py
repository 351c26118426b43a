"""Gateways as processes: start one on a core, wait for its first answer, read its CPU and memory from /proc."""

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
PYTHON = str(VENV_PYTHON) if VENV_PYTHON.exists() else sys.executable
KEY = "bench-" + "0123456789abcdef" * 4

_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_PAGE_KB = os.sysconf("SC_PAGE_SIZE") / 1024


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for each in Path("/proc").glob("[0-9]*"):
        fields = _stat(int(each.name))
        if fields:
            children.setdefault(int(fields[1]), []).append(int(each.name))
    found = [pid]
    for parent in found:
        found += children.get(parent, [])
    return found


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds so far, reaped children included."""
    return sum(sum(map(int, _stat(pid)[11:15])) for pid in pids) * _TICK_S


def rss_mb(pids: Iterable[int]) -> float:
    """Resident memory; pages that processes share count once for each."""
    return sum(int(fields[21]) for fields in map(_stat, pids) if fields) * _PAGE_KB / 1024


def _stat(pid: int) -> list[str]:
    """/proc/PID/stat from its third field on; empty when the process has gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def free_port() -> int:
    with socket.socket() as door:
        door.bind(("127.0.0.1", 0))
        return int(door.getsockname()[1])


def ask(port: int, path: str, body: bytes | None = None) -> int:
    """Status of a GET, or of a POST of `body`; 0 where nobody answers."""
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEY}"}
        link.request("GET" if body is None else "POST", path, body, headers)
        reply = link.getresponse()
        reply.read()
    except (OSError, http.client.HTTPException):
        return 0
    else:
        return reply.status
    finally:
        link.close()


class NoStart(Exception):
    """A gateway did not come up. The message holds the end of its log."""


@dataclass
class Target:
    """One gateway. `prefix` stands before the upstream's model names; {port} in argv and env is its port."""

    name: str
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    path: str = "/v1/chat/completions"
    stream_path: str = "/v1/chat/completions"
    ready_path: str | None = None
    log: Path = Path(os.devnull)
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def tree(self) -> list[int]:
        return tree(self.process.pid) if self.process else []

    def start(self, core: int, first_chat: bytes, patience_s: float = 90) -> tuple[float, float]:
        """Seconds from exec to ready and to the first chat reply."""
        env = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ} | self.env
        begin = time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [part.replace("{port}", str(self.port)) for part in self.argv],
                env={name: value.replace("{port}", str(self.port)) for name, value in env.items()},
                stdout=log, stderr=log, cwd=ROOT, start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, {core}),
            )  # fmt: skip
        marks = []
        for path, body in ((self.ready_path, None), (self.path, first_chat)):
            while path and ask(self.port, path, body) != 200:
                if self.process.poll() is not None or time.perf_counter() - begin > patience_s:
                    raise NoStart(f"{self.name}: no 200 on {path}: {self.log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.005)
            marks.append(time.perf_counter() - begin)
        return marks[0], marks[1]

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)  # the session that we made for it, and nothing else
            self.process.wait()
            self.process = None
