"""A server of our own for tests: a process on a free loopback port that a test may stop, freeze and start again."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from time import monotonic, sleep  # noqa: TID251 - a deadline for polling

import psutil
from campaigns.stage import free_port

_START_S = 30.0
_STOP_S = 10.0
_TRIES = 5


class OwnServer:
    """What PostgreSQL and Redis have in common. `port` stays the same over restarts."""

    stop_signal = signal.SIGTERM

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.pid: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    def command(self) -> list[str]:
        """The server in the foreground on `port`."""
        raise NotImplementedError

    def user(self) -> int | None:
        """The user id to run as; None for our own."""
        return None

    def is_up(self) -> bool:
        """Does it answer? May raise OSError for no."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it, and return when it answers. Only the first start takes another port when somebody has this one."""
        for _ in range(_TRIES if self.pid is None else 1):
            if self._try_to_start():
                return
            self.port = free_port() if self.pid is None else self.port
        raise AssertionError(f"{self.command()[0]} did not start:\n{self.tail()}")

    def _try_to_start(self) -> bool:
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                user=self.user(),
                cwd=self.directory,
            )
        until = monotonic() + _START_S
        while monotonic() < until and process.poll() is None:
            with suppress(OSError):
                if self.is_up():
                    self._process, self.pid = process, process.pid
                    return True
            sleep(0.005)
        process.kill()
        process.wait()
        return False

    def stop(self, how: signal.Signals | None = None) -> None:
        """End it, gracefully unless `how` says otherwise. The data stays; `start` brings it back."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            self._process.send_signal(how or self.stop_signal)
        self.thaw()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Gone and back on the same port, with its data; connections are cut."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """It keeps its connections and lets the kernel accept new ones, but does not answer any more."""
        for process in self._family():
            process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on where `freeze` stopped it."""
        for process in self._family():
            process.send_signal(signal.SIGCONT)

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:] if self.log.exists() else ""

    def _family(self) -> Iterator[psutil.Process]:
        """The server before its children: a frozen parent makes no more of them."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.pid)
            yield parent
            for child in parent.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    yield child


def end(pid: int, how: signal.Signals) -> None:
    """End a server that another process of this test run has started."""
    with suppress(ProcessLookupError):
        os.kill(pid, how)
        until = monotonic() + _STOP_S
        while monotonic() < until:
            if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
                return
            sleep(0.01)
        os.kill(pid, signal.SIGKILL)


def answers(port: int, said: bytes, expected: bytes) -> bool:
    """Say a few bytes to a loopback port and compare the beginning of what comes back."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=1.0)) as connection:
        connection.sendall(said)
        heard = b""
        while len(heard) < len(expected) and (more := connection.recv(64)):
            heard += more
        return heard.startswith(expected)
