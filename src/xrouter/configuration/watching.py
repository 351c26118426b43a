"""Notices that the configuration has changed: by the stamps of its files, or because somebody says so (SIGHUP)."""

import asyncio
from collections.abc import Callable, Iterable
from itertools import zip_longest
from pathlib import Path

import structlog

from xrouter.configuration.effective import Effective
from xrouter.settings import Config, ConfigError

_log = structlog.get_logger()

Take = Callable[[Config, frozenset[Path]], None]
Stamps = tuple[tuple[int, int, int] | None, ...]


class Watching:
    """Loads the configuration again when a file of it has another stamp, and hands it to `take` with the files that
    have changed.

    `load` and `take` raise `ConfigError` for one that cannot be used: then the old one stays, and the log says why,
    once for each change. Looks every `every_s` seconds, in a thread: the files may be on a slow disk.
    """

    def __init__(self, first: Effective, load: Callable[[], Effective], take: Take, every_s: float) -> None:
        self._load = load
        self._take = take
        self._every_s = every_s
        self._first = first.config
        self._files = first.files
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
            if asked or found != self._seen:
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
        try:
            found = await asyncio.to_thread(self._load)
            if changed or found.config != self._first:
                self._take(found.config, changed)
        except ConfigError as error:
            _log.error("the configuration cannot be used; the old one stays", reason=str(error))
            return
        if found.files != self._files:
            self._files = found.files
            self._seen = ()  # stamped from now on, and loaded once more for what changed before that


def stamps(files: Iterable[Path]) -> Stamps:
    """What changes with a file: when it was written, its size, and which one it is (Kubernetes swaps a link)."""
    return tuple(_stamp(path) for path in files)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
