"""Log lines: one JSON object each, without content and without credentials, written by a thread.

Our own lines come through structlog, those of uvicorn, aiohttp, SQLAlchemy and Python's warnings through the
standard library; both end in the same sink and pass the same redaction.
"""

import atexit
import logging
import select
import sys
import threading
from collections.abc import Callable, Iterable, MutableMapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

import msgspec
import structlog

from xrouter.core.clock import Clock, SystemClock
from xrouter.core.secret import Secret
from xrouter.telemetry.redaction import Redaction
from xrouter.telemetry.sink import LineSink

_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_FLUSH_S: Final = 2.0
_LONGEST_LINE: Final = select.PIPE_BUF - 1
_QUIET: Final = ("sqlalchemy", "asyncpg", "asyncio")
"""Loggers that print parameters or reprs below `warning`."""

_encode: Final = msgspec.json.Encoder(enc_hook=lambda value: f"<{type(value).__name__}>").encode


class Logs:
    """The configured logging of this process. `sink` takes finished lines; `redaction` cleans them."""

    def __init__(self, level: int, sink: LineSink, redaction: Redaction, clock: Clock) -> None:
        self.level = level
        self.sink = sink
        self.redaction = redaction
        self._clock = clock
        self._undo: list[Callable[[], object]] = []

    def line(self, level: str, event: str, fields: MutableMapping[str, Any], error: BaseException | None) -> None:
        """Clean, encode and queue one line."""
        shown: dict[str, object] = {
            "timestamp": datetime.fromtimestamp(self._clock.now(), UTC),
            "level": level,
            "event": self.redaction.text(event),
        }
        shown |= self.redaction.fields(fields)
        if error is not None:
            shown["exception"] = self.redaction.exception(error)
        line = _encode(shown)
        if len(line) > _LONGEST_LINE:
            # A longer write to a pipe may be torn apart by another worker's line.
            kept = {name: shown[name] for name in ("timestamp", "level", "event", "request_id") if name in shown}
            line = _encode(kept | {"cut_bytes": len(line)})
        self.sink.put(line)

    def close(self) -> None:
        """Write what is queued, 2 s at most, and give logging back as it was."""
        while self._undo:
            self._undo.pop()()
        self.sink.flush(_FLUSH_S)

    def on_close(self, undo: Callable[[], object]) -> None:
        self._undo.append(undo)


def configure(level: str, stream: TextIO | None, *, secrets: Iterable[Secret] = (), clock: Clock | None = None) -> Logs:
    """Send all logging of this process to `stream` as JSON lines.

    `level` is `debug`, `info`, `warning` or `error`; `secrets` are masked literally wherever they appear.
    Queued lines are written at exit, within 2 s.
    """
    logs = Logs(_LEVELS[level], LineSink(stream), Redaction(secrets), clock or SystemClock())
    _take_structlog(logs)
    _take_standard_library(logs)
    _take_hooks(logs)
    atexit.register(logs.close)
    logs.on_close(lambda: atexit.unregister(logs.close))
    return logs


# ── structlog ────────────────────────────────────────────────────────────────────────────────────────────


def _take_structlog(logs: Logs) -> None:
    def emit(_: object, method: str, event: MutableMapping[str, Any]) -> Any:
        error = _exception_of(event.pop("exc_info", None))
        text = event.pop("event", "")
        event.pop("stack_info", None)
        logs.line("error" if method == "exception" else method, str(text), event, error)
        raise structlog.DropEvent

    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, emit],
        wrapper_class=structlog.make_filtering_bound_logger(logs.level),
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    logs.on_close(structlog.reset_defaults)


def _exception_of(given: object) -> BaseException | None:
    """What `exc_info=` may hold: an exception, a triple, or True for the one being handled."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if len(given) == 3 and isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None


# ── the standard library ─────────────────────────────────────────────────────────────────────────────────


class _Handler(logging.Handler):
    """Turns records of the standard library into our lines.

    Only the first line of a message is kept: what follows is a traceback or a repr. Exceptions among its
    arguments are shown as exceptions are, without the values that they quote.
    """

    def __init__(self, logs: Logs) -> None:
        super().__init__()
        self._logs = logs

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._text(record).partition("\n")[0]
        except Exception:  # noqa: BLE001 - arguments that do not fit; logging must not break its caller
            text = str(record.msg)
        error = _exception_of(record.exc_info)
        level = record.levelname.lower() if record.levelname.lower() in _LEVELS else "error"
        self._logs.line(level, text, {"logger": record.name}, error)

    def _text(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple) and any(isinstance(part, BaseException) for part in record.args):
            shown = self._logs.redaction.exception_text
            parts = tuple(shown(part) if isinstance(part, BaseException) else part for part in record.args)
            return str(record.msg) % parts
        return record.getMessage()


def _take_standard_library(logs: Logs) -> None:
    root = logging.getLogger()
    before, level_before = root.handlers[:], root.level
    root.handlers[:] = [_Handler(logs)]
    root.setLevel(logs.level)
    quiet = [(logging.getLogger(name), logging.getLogger(name).level) for name in _QUIET]
    for logger, _ in quiet:
        logger.setLevel(max(logs.level, logging.WARNING))
    logging.captureWarnings(True)

    def undo() -> None:
        logging.captureWarnings(False)
        root.handlers[:] = before
        root.setLevel(level_before)
        for logger, level in quiet:
            logger.setLevel(level)

    logs.on_close(undo)


# ── what nobody caught ───────────────────────────────────────────────────────────────────────────────────


def _take_hooks(logs: Logs) -> None:
    """Python would print the whole text of an exception that nobody caught to stderr."""

    def crashed(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            logs.line("error", "crashed", {}, error)

    def thread_crashed(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and isinstance(args.exc_value, Exception):
            name = args.thread.name if args.thread is not None else None
            logs.line("error", "thread crashed", {"thread": name}, args.exc_value)

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        logs.line("error", "exception ignored", {}, args.exc_value)

    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    sys.excepthook, threading.excepthook, sys.unraisablehook = crashed, thread_crashed, unraisable

    def undo() -> None:
        sys.excepthook, threading.excepthook, sys.unraisablehook = hooks

    logs.on_close(undo)
