"""What the stores ask of the file system: locks that end with their process, names that outlive a loss of power."""

import fcntl
import os
from pathlib import Path


def try_lock(fd: int) -> bool:
    """Take an flock for us alone, without waiting. The kernel frees it when the last copy of `fd` is closed."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def sync_directory(directory: Path) -> None:
    """Names made, changed or removed in `directory` are on the disk when this returns."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
