"""Processes that must not outlive us, even if we are killed: `tie(pid)`.

The first call starts a watcher, which gets the numbers on its standard input. The kernel closes that when we end,
however we end; then the watcher kills what it was told of, and the children of those.
"""

import subprocess
import sys
from contextlib import suppress
from functools import cache

import psutil


@cache
def _watcher() -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True
    )


def tie(pid: int) -> None:
    """The process `pid` dies when this one ends. One that ends before is forgotten."""
    told = _watcher().stdin
    assert told is not None
    told.write(f"{pid}\n")
    told.flush()


def _watch() -> None:
    tied: list[psutil.Process] = []
    for line in sys.stdin:
        with suppress(psutil.NoSuchProcess):
            tied.append(psutil.Process(int(line)))
    for process in tied:
        with suppress(psutil.NoSuchProcess):
            for one in (process, *process.children(recursive=True)):  # refused for a number that was given out anew
                with suppress(psutil.NoSuchProcess):
                    one.kill()


if __name__ == "__main__":
    _watch()
