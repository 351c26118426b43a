"""The directory in which the processes of one `xrouter serve --workers N` keep their metrics together.

prometheus_client's multiprocess mode lets each process write its values into files there, named by a process
identifier, and adds them up at each scrape. The identifier here is a slot: the first number whose lock file
nobody holds. The kernel frees the lock when its holder dies, however it dies, and the next process takes the
slot over with its counter files. So counters go on after a restart, and a worker that crashes every second
leaves no trail of files. Gauges of a dead process are removed: it has no calls in flight.
"""

import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from prometheus_client.multiprocess import mark_process_dead

VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's own variable; the supervisor sets it for its workers."""

_MOST_PROCESSES: Final = 1024
_PREFIX: Final = "metrics-"


def shared_dir() -> Path | None:
    """The directory that the supervisor named for this process; None in a single process."""
    named = os.environ.get(VARIABLE)  # noqa: TID251 - the library's variable, not a setting of ours
    return Path(named) if named else None


class SharedDir:
    """A fresh directory, kept while the supervisor lives. Directories of killed supervisors are removed."""

    def __init__(self, parent: Path) -> None:
        parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        gate = os.open(parent / "metrics.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(gate, fcntl.LOCK_EX)
            for left in parent.glob(f"{_PREFIX}*"):
                if (lock := _try_lock(left / "supervisor.lock")) is not None:
                    shutil.rmtree(left, ignore_errors=True)
                    os.close(lock)
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent)).absolute()
            self._lock = _try_lock(self.path / "supervisor.lock")
        finally:
            os.close(gate)

    def remove(self) -> None:
        """The end: every process that wrote here is gone."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


class Slot:
    """This process's place in a shared directory, held until the process ends."""

    def __init__(self, directory: Path) -> None:
        """Raises OSError where the directory cannot be written or all 1,024 slots are taken."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(_MOST_PROCESSES):
            lock = _try_lock(directory / f"{number}.lock")
            if lock is not None:
                self.name = str(number)
                self._lock = lock
                _forget_gauges(number, directory)
                return
        raise OSError(f"{directory}: all {_MOST_PROCESSES} places for processes are taken")


def forget_the_dead(directory: Path) -> None:
    """Remove the gauges of processes that have ended."""
    for path in directory.glob("*.lock"):
        if path.stem.isdigit() and (lock := _try_lock(path)) is not None:
            _forget_gauges(int(path.stem), directory)
            os.close(lock)


def _try_lock(path: Path) -> int | None:
    """A file descriptor that holds the lock, or None when another process (or slot) does."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError:  # removed meanwhile
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _forget_gauges(number: int, directory: Path) -> None:
    try:
        mark_process_dead(number, str(directory))  # type: ignore[no-untyped-call]
    except FileNotFoundError:  # another scrape was faster
        return
