"""Notices that the configuration has changed: by the stamps of its files, or because somebody says so (SIGHUP)."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path
from typing import Protocol

import structlog

from xrouter.configuration.effective import Effective
from xrouter.settings import ConfigError

_log = structlog.get_logger()

Stamps = tuple[tuple[int, int, int] | None, ...]


class Reader(Protocol):
    """Who serves by the configuration."""

    def take(self, effective: Effective, changed: frozenset[Path]) -> None:
        """Serve by it from now on; `changed` are files with another content. Raises `ConfigError` for one that cannot
        be used, and then nothing has changed."""
        ...

    def refuse(self, problems: tuple[str, ...]) -> None:
        """The newest configuration cannot be used, for these reasons; the old one stays. No reasons: it is in use."""
        ...


class Watching:
    """Loads the configuration again when a file of it has another stamp, and hands it to `reader` with the files that
    have changed.

    `load` raises `ConfigError` for one that cannot be used: then the old one stays, the log says why, once for each
    reason, and it is tried again at every look: what was missing may come without any file of ours changing.
    Looks every `every_s` seconds, in a thread: the files may be on a slow disk.
    """

    def __init__(self, first: Effective, load: Callable[[], Effective], reader: Reader, every_s: float) -> None:
        self._load = load
        self._reader = reader
        self._every_s = every_s
        self._taken = first.config
        self._files = first.files
        self._changed: frozenset[Path] = frozenset()  # since what is in use was read
        self._problems: tuple[str, ...] = ()
        self._wanted = asyncio.Event()
        self._seen = stamps(first.files)

    def hurry(self) -> None:
        """Look now, and load whether or not a stamp has changed."""
        self._wanted.set()

    async def run(self) -> None:
        """Until cancelled. Begins with one look more: a file may have changed between its reading at the start and
        its first stamp, and that change would never be seen."""
        await self._reload(frozenset())
        while True:
            asked = await self._asked()
            found = await asyncio.to_thread(stamps, self._files)
            if asked or self._problems or found != self._seen:
                pairs = zip_longest(self._files, found, self._seen)
                changed = frozenset(path for path, now, before in pairs if asked or now != before)
                self._seen = found
                await self._reload(changed)

    async def _asked(self) -> bool:
        try:
            async with asyncio.timeout(self._every_s):
                await self._wanted.wait()
        except TimeoutError:
            return False
        self._wanted.clear()
        return True

    async def _reload(self, changed: frozenset[Path]) -> None:
        self._changed |= changed
        try:
            found = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self._refuse(str(error).splitlines())
            return
        if self._changed or found.config != self._taken:
            try:
                self._reader.take(found, self._changed)
            except ConfigError as error:
                self._refuse([found.located(line) for line in str(error).splitlines()])
                return
        self._taken, self._changed = found.config, frozenset()
        if self._problems:
            self._problems = ()
            self._reader.refuse(())
        if found.files != self._files:
            known = dict(zip(self._files, self._seen, strict=False))
            self._files = found.files
            # What is new is loaded once more, for what changed before its first stamp.
            self._seen = tuple(known.get(path) for path in found.files)

    def _refuse(self, problems: list[str]) -> None:
        if self._problems != tuple(problems):
            self._problems = tuple(problems)
            _log.error("the configuration cannot be used; the old one stays", reason="\n".join(problems))
            self._reader.refuse(self._problems)


def stamps(files: Iterable[Path]) -> Stamps:
    """What changes with a file: when it was written, its size, and which one it is (Kubernetes swaps a link)."""
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
