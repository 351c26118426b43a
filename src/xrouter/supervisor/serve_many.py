"""Several serving processes behind one listening socket.

The supervisor binds the socket, keeps the books (migrations, bootstrap key, flusher) and the workers: it starts
them, restarts one that ends or hangs, and passes signals on. It serves nothing itself, so nothing that a
request does can stop it. The socket stays open while workers come and go: connections wait in the kernel's
queue, none is refused.

    SIGTERM, SIGINT  passed on; workers drain; stragglers are killed; the journals are flushed; exit code 0
    SIGHUP           every worker looks at the configuration, and takes it over while it serves
    SIGUSR2          each worker in turn: a new one serves, then the old one retires
"""

import asyncio
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

import structlog

from xrouter.configuration.effective import load
from xrouter.core.errors import GatewayError
from xrouter.settings import ConfigError, Settings
from xrouter.supervisor.environment import environment_for
from xrouter.supervisor.lifeline import READY, RELOAD, RETIRE, Lifeline
from xrouter.supervisor.listening import BACKLOG, bind, url_of
from xrouter.supervisor.serve_as_worker import Arguments
from xrouter.supervisor.serve_one import CLOSE_S, LAST_WORDS_S, Announce
from xrouter.telemetry.metrics import Metrics
from xrouter.telemetry.shared_dir import SharedDir

WORKER: Final = (sys.executable, "-m", "xrouter.supervisor.worker")

HANG_S: Final = 30.0
"""A worker whose event loop gives no heartbeat for so long is killed."""

MARGIN_S: Final = 2 * LAST_WORDS_S + CLOSE_S + 5.0
"""What a worker may take beyond the drain's own times before it is killed."""

_BEATS_PER_HANG: Final = 6
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 10.0
_SETTLED_S: Final = 10.0
_HOPELESS: Final = 5

_log = structlog.get_logger()

KeepBooks = Callable[[Settings, Metrics], AbstractAsyncContextManager[None]]


async def serve_many(
    settings: Settings,
    keep_books: KeepBooks,
    announce: Announce,
    *,
    command: Sequence[str] = WORKER,
    hang_s: float = HANG_S,
    margin_s: float = MARGIN_S,
) -> int:
    """Run `settings.workers` workers until a signal; the process's exit code.

    `keep_books` is entered before the first worker starts and left after the last has ended. Exit code 1 when
    no worker ever came to serve, or when the last flush failed (the journals keep everything). Raises
    `ConfigError` where nothing can be started.
    """
    listener = await bind(settings.host, settings.port)
    listener.listen(BACKLOG)
    shared = SharedDir(settings.data_dir)
    try:
        metrics = Metrics(shared.path)
        crew = _Crew(settings, listener, metrics, command, environment_for(settings, shared.path), hang_s, margin_s)
        async with keep_books(settings, metrics):
            code = await crew.run(announce)
    except GatewayError as error:
        _log.error("the journals keep what is not in the database", reason=error.message)
        return 1
    else:
        return code
    finally:
        listener.close()
        shared.remove()


class _Worker:
    """One worker process. `ended` is the task that waits for it and gives its exit code."""

    def __init__(
        self,
        place: int,
        process: asyncio.subprocess.Process,
        end: socket.socket,
        on_ready: Callable[[], None],
        on_message: Callable[["_Worker", bytes], None],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.place = place
        self.pid = process.pid
        self.ready = asyncio.Event()
        self.hung = False
        self._on_ready = on_ready
        self.started = self._last_sign = self._loop.time()
        self._process = process
        self._lifeline = Lifeline(
            end,
            on_bytes=self._sign_of_life,
            on_end=lambda: None,
            on_message=lambda words: on_message(self, words),
        )
        self.ended = asyncio.create_task(self._wait())

    def _sign_of_life(self, words: bytes) -> None:
        self._last_sign = self._loop.time()
        if READY in words:
            self.ready.set()
            self._on_ready()

    async def _wait(self) -> int:
        try:
            return await self._process.wait()
        finally:
            self._lifeline.close()

    @property
    def silent_s(self) -> float:
        return self._loop.time() - self._last_sign

    def retire(self) -> None:
        self._lifeline.send(RETIRE)

    def reload(self) -> None:
        self._lifeline.send(RELOAD)

    def tell(self, words: bytes) -> None:
        """What another worker says to all."""
        if not self.ended.done():
            self._lifeline.send_message(words)

    def signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            self._process.send_signal(number)

    async def ready_or_ended(self) -> bool:
        """True when it serves, false when it ended first."""
        ready = asyncio.create_task(self.ready.wait())
        await asyncio.wait([ready, self.ended], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        return self.ready.is_set() and not self.ended.done()


class _Crew:
    """All workers, each in its place, numbered from 0."""

    def __init__(
        self,
        settings: Settings,
        listener: socket.socket,
        metrics: Metrics,
        command: Sequence[str],
        environment: Mapping[str, str],
        hang_s: float,
        margin_s: float,
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._metrics = metrics
        self._command = command
        self._environment = environment
        self._hang_s = hang_s
        self._patience_s = settings.drain_delay_s + settings.drain_max_s + margin_s
        self._stop = asyncio.Event()
        self._roll_wanted = asyncio.Event()
        self._ever_served = asyncio.Event()
        self._hopeless = False
        self._failures_at_start = 0
        self._alive: set[_Worker] = set()
        self._in_place: dict[int, _Worker] = {}
        self._changing = [asyncio.Lock() for _ in range(settings.workers)]
        self._pauses_s = [_FIRST_PAUSE_S] * settings.workers
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, announce: Announce) -> int:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self._pass_on, signal.SIGTERM)
        loop.add_signal_handler(signal.SIGINT, self._pass_on, signal.SIGINT)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        loop.add_signal_handler(signal.SIGUSR2, self._roll_wanted.set)
        try:
            for place in range(self._settings.workers):
                self._in_place[place] = await self._start(place)
            for work in (self._roll(), self._watch(), self._announce(announce)):
                self._run_beside(work)
            await self._stop.wait()
        finally:
            self._pass_on(signal.SIGTERM)  # nothing new where a signal brought us here
            self._listener.close()  # else new connections would wait for nobody
            await self._end_all()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
                loop.remove_signal_handler(number)
        return 1 if self._hopeless else 0

    def _run_beside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── signals ──

    def _pass_on(self, number: signal.Signals) -> None:
        if self._stop.is_set() and number is not signal.SIGINT:
            return
        if not self._stop.is_set():
            _log.info("stopping", signal=number.name, workers=len(self._alive))
        self._stop.set()
        for worker in self._alive:
            worker.signal(number)

    def _reload(self) -> None:
        _log.info("the workers look at the configuration", workers=len(self._alive))
        for worker in self._alive:
            worker.reload()

    async def _end_all(self) -> None:
        left = [worker.ended for worker in self._alive]
        if left:
            await asyncio.wait(left, timeout=self._patience_s)
        for worker in list(self._alive):
            _log.error("worker does not end; killing it", pid=worker.pid, after_s=self._patience_s)
            worker.signal(signal.SIGKILL)
        while self._alive:
            await asyncio.wait([worker.ended for worker in self._alive])
            await asyncio.sleep(0)  # its own callback takes it off the list

    # ── one place ──

    async def _refill(self, worker: _Worker, code: int) -> None:
        """A worker has ended by itself: say why, wait a little longer each time, start another one."""
        place = worker.place
        lived_s = asyncio.get_running_loop().time() - worker.started
        _log.error("worker ended", pid=worker.pid, why=_why(worker, code), lived_s=round(lived_s, 1))
        self._metrics.worker_ended("hung" if worker.hung else "crashed" if code else "left")
        if not self._ever_served.is_set():
            self._failures_at_start += 1
            if self._failures_at_start >= _HOPELESS:
                _log.error("no worker came to serve; giving up", tries=self._failures_at_start)
                self._hopeless = True
                self._pass_on(signal.SIGTERM)
        if lived_s > _SETTLED_S:
            self._pauses_s[place] = _FIRST_PAUSE_S
        async with self._changing[place]:
            while self._in_place[place] is worker and not self._stop.is_set():
                await asyncio.sleep(self._pauses_s[place])
                self._pauses_s[place] = min(self._pauses_s[place] * 2, _LONGEST_PAUSE_S)
                if self._stop.is_set():
                    return
                try:
                    self._in_place[place] = await self._start(place)
                except OSError as error:  # no memory, no process ids, no descriptors: not for ever
                    _log.error("a worker cannot be started", reason=error)

    async def _start(self, place: int) -> _Worker:
        ours, theirs = socket.socketpair()
        told = Arguments(self._listener.fileno(), theirs.fileno(), self._hang_s / _BEATS_PER_HANG)
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                *told.written(),
                stdin=subprocess.DEVNULL,
                pass_fds=(told.listener_fd, told.lifeline_fd),
                env=self._environment,
                start_new_session=True,  # a terminal's Ctrl-C comes to us alone, and we pass it on
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        worker = _Worker(place, process, ours, self._one_serves, self._tell_others)
        self._alive.add(worker)
        worker.ended.add_done_callback(lambda _: self._gone(worker))
        if self._stop.is_set():
            worker.signal(signal.SIGTERM)
        return worker

    def _one_serves(self) -> None:
        self._ever_served.set()
        self._count()

    def _tell_others(self, speaker: _Worker, words: bytes) -> None:
        for worker in self._alive:
            if worker is not speaker:
                worker.tell(words)

    def _gone(self, worker: _Worker) -> None:
        self._alive.discard(worker)
        self._count()
        if not self._stop.is_set() and self._in_place.get(worker.place) is worker:
            self._run_beside(self._refill(worker, worker.ended.result()))

    def _count(self) -> None:
        self._metrics.workers_serving(sum(worker.ready.is_set() for worker in self._alive))

    # ── beside ──

    async def _announce(self, announce: Announce) -> None:
        """Once one worker serves; the others only shorten the kernel's queue."""
        await self._ever_served.wait()
        announce(url_of(self._listener))

    async def _watch(self) -> None:
        """Kill workers that hang, and count those that serve."""
        while True:
            await asyncio.sleep(self._hang_s / _BEATS_PER_HANG)
            for worker in list(self._alive):
                if worker.silent_s > self._hang_s:
                    _log.error("worker hangs; killing it", pid=worker.pid, silent_s=round(worker.silent_s, 1))
                    worker.hung = True
                    worker.signal(signal.SIGKILL)
            self._count()

    async def _roll(self) -> None:
        while True:
            await self._roll_wanted.wait()
            self._roll_wanted.clear()
            if self._config_is_good():
                for place in range(self._settings.workers):
                    if self._stop.is_set() or not await self._replace(place):
                        break
                else:
                    _log.info("every worker is replaced")

    def _config_is_good(self) -> bool:
        try:
            load(self._settings, vendors=True)
        except ConfigError as error:
            _log.error("the configuration cannot be used; the workers keep the old one", reason=str(error))
            return False
        return True

    async def _replace(self, place: int) -> bool:
        """Start a successor; once it serves, retire the old worker, and kill it when it does not go."""
        async with self._changing[place]:
            old = self._in_place[place]
            try:
                new = await self._start(place)
            except OSError as error:
                _log.error("a worker cannot be started; the old ones stay", reason=error)
                return False
            if not await new.ready_or_ended():
                why = _why(new, await new.ended)
                _log.error("the new worker did not come to serve; the old ones stay", why=why)
                return False
            self._in_place[place] = new
        old.retire()
        self._metrics.worker_ended("replaced")
        await asyncio.wait([old.ended], timeout=self._patience_s)
        if not old.ended.done():
            _log.error("worker does not end; killing it", pid=old.pid, after_s=self._patience_s)
            old.signal(signal.SIGKILL)
            await old.ended
        return True


def _why(worker: _Worker, code: int) -> str:
    """An exit code in words: `killed by SIGKILL`, `exit code 3`, `event loop hung`."""
    if worker.hung:
        return "its event loop hung"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"
