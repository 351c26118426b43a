"""The log as it leaves the process: JSON lines, no canaries, never in the way."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pytest
import structlog

from xrouter.core.clock import ManualClock
from xrouter.core.secret import Secret
from xrouter.telemetry.access import AccessLog
from xrouter.telemetry.logs import configure
from xrouter.telemetry.observer import Observer
from xrouter.telemetry.sink import LineSink

MODEL = "gigachat/GigaChat-2"
SOURCES = Path(__file__).parents[2] / "src"


class Written:
    """Configured logs and what they wrote."""

    def __init__(self, level: str, secrets: tuple[Secret, ...] = ()) -> None:
        self.stream = io.StringIO()
        self.logs = configure(level, self.stream, secrets=secrets, clock=ManualClock())

    @property
    def text(self) -> str:
        assert self.logs.sink.flush(5)
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.text.split("\n")[:-1]]


@pytest.fixture
def written():
    made = Written("info", (Secret("configured-canary"),))
    yield made
    made.logs.close()


def test_a_line_of_ours(written):
    structlog.get_logger().info("provider is slow", provider="gigachat", seconds=1.5)
    assert written.lines == [
        {
            "timestamp": "2027-01-15T08:00:00Z",
            "level": "info",
            "event": "provider is slow",
            "provider": "gigachat",
            "seconds": 1.5,
        }
    ]


def test_levels(written, monkeypatch):
    for name in ("uvicorn", "uvicorn.error"):  # other tests run servers, and uvicorn's own set-up stays behind
        monkeypatch.setattr(logging.getLogger(name), "level", logging.NOTSET)
        monkeypatch.setattr(logging.getLogger(name), "propagate", True)
    log = structlog.get_logger()
    log.debug("a")
    log.warning("b")
    log.error("c")
    logging.getLogger("aiohttp.client").debug("d")
    logging.getLogger("aiohttp.client").warning("e")
    logging.getLogger("uvicorn.error").info("f")
    logging.getLogger("asyncpg").info("executing with parameters")
    assert [(line["level"], line["event"]) for line in written.lines] == [
        ("warning", "b"),
        ("error", "c"),
        ("warning", "e"),
        ("info", "f"),
    ]


def test_the_standard_library_and_warnings_go_the_same_way(written):
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("token=canary-1 is deprecated", DeprecationWarning, stacklevel=1)
    logging.getLogger("sqlalchemy").error("no connection to postgresql://u:canary-2@db/x: %s", ValueError("'canary-3'"))
    first, second = written.lines
    assert first["logger"] == "py.warnings"
    assert second["event"] == "no connection to postgresql://***@db/x: '...'"
    assert "canary" not in written.text


def test_arguments_that_do_not_fit_do_not_break_the_caller(written):
    (ours,) = [handler for handler in logging.getLogger().handlers if type(handler).__module__.startswith("xrouter")]
    ours.handle(logging.LogRecord("x", logging.ERROR, "file.py", 1, "%d", ("canary",), None))
    (line,) = written.lines
    assert line["event"] == "%d"
    assert "canary" not in written.text


CANARIES = {
    "bearer": "Bearer canary.bearer.1234",
    "key": "sk-canary-12345678",
    "jwt": "eyJjYW5hcnkiOjF9.eyJjYW5hcnkiOjF9.canary",
    "url": "https://canary:canary@example.com/v1?key=canary",
    "pem": "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----",
    "configured": "it was configured-canary after all",
    "pair": "password=canary",
}


def fail_with(text: str) -> None:
    raise RuntimeError(f"because of {text}") from ValueError(text)


@pytest.mark.parametrize("canary", CANARIES.values(), ids=CANARIES.keys())
def test_nothing_secret_comes_through_on_any_path(written, canary):
    log, standard = structlog.get_logger(), logging.getLogger("third.party")
    log.info(canary)
    log.info("field", reason=canary, nested={"a": [canary, {"b": canary}]}, thing=ValueError(canary))
    log.info("by name", authorization="canary", messages=[{"content": "canary"}], body=b"canary", x_api_key="canary")
    log.info("objects", secret=Secret("canary"), held=Secret("canary"), raw=canary.encode(), kind=object())
    log.bind(url=canary).warning("bound")
    with structlog.contextvars.bound_contextvars(where=canary):
        log.error("context")
    try:
        fail_with(canary)
    except RuntimeError as error:
        log.exception("request failed")
        log.warning("handled", exc_info=error)
        standard.exception("third party failed")
        standard.error("it said: %s", error)
        sys.excepthook(type(error), error, error.__traceback__)
    standard.warning("text %s and %r", canary, {"key": canary})
    thread = threading.Thread(target=fail_with, args=(canary,))
    thread.start()
    thread.join()

    assert "canary" not in written.text
    assert len(written.lines) == 13


def test_a_line_break_stays_inside_its_line(written):
    structlog.get_logger().info('a\r\n{"event":"forged"}', reason="b\nc\x85\u2028d")
    logging.getLogger("x").warning("first\nsecond: what follows is a traceback or a repr")
    assert [line["event"] for line in written.lines] == ['a\r\n{"event":"forged"}', "first"]
    assert written.text.count("\n") == 2
    assert "\r" not in written.text


def test_long_lines_are_cut_so_that_a_pipe_keeps_them_whole(written):
    structlog.get_logger().info("long", request_id="req_1", **{f"field_{n}": "x y " * 200 for n in range(40)})
    (line,) = written.lines
    assert line["event"] == "long"
    assert line["request_id"] == "req_1"
    assert line["cut_bytes"] > 4096
    assert len(written.text) < 4096


def test_close_gives_logging_back_as_it_was():
    before = logging.getLogger().handlers[:], sys.excepthook, threading.excepthook, structlog.get_config()
    Written("debug").logs.close()
    assert before == (logging.getLogger().handlers[:], sys.excepthook, threading.excepthook, structlog.get_config())


# ── the access line ──────────────────────────────────────────────────────────────────────────────────────


def test_the_line_of_a_call(written, make_call):
    call = make_call(attempts=2)
    call.client_request_id = "abc-1"
    AccessLog(written.logs, frozenset({MODEL})).call_ended(call, 200, None, 2.5, lambda: "192.0.2.7")
    assert written.lines == [
        {
            "timestamp": "2027-01-15T08:00:02.500000Z",
            "level": "info",
            "event": "call",
            "request_id": "req_1",
            "call_id": call.id,
            "key_id": "k123",
            "dialect": "openai",
            "model": MODEL,
            "status": 200,
            "seconds": 2.5,
            "attempts": 2,
            "ttft": 0.75,
            "deployment": MODEL,
            "input_tokens": 200,
            "output_tokens": 400,
            "cost_rub": 0.0026,
            "client_request_id": "abc-1",
            "client": "192.0.2.7",
        }
    ]


def test_a_call_without_attempts_and_with_a_clients_own_texts(written, make_call):
    call = make_call("sk-canary-12345678\n", attempts=0)
    call.client_request_id = "x" * 500 + "\r\nBearer canary1234"
    AccessLog(written.logs).call_ended(call, 503, "overloaded", 0.1, lambda: None)
    (line,) = written.lines
    assert (line["level"], line["status"], line["code"]) == ("warning", 503, "overloaded")
    assert "deployment" not in line
    assert "canary" not in written.text
    assert len(line["client_request_id"]) <= 128


def test_levels_of_the_access_line(make_call):
    quiet = Written("warning")
    access = AccessLog(quiet.logs, frozenset({MODEL}))
    access.call_ended(make_call(), 200, None, 1.0, lambda: pytest.fail("nothing is written"))
    access.call_ended(make_call(), 502, "provider_error", 1.0, lambda: None)
    assert [line["status"] for line in quiet.lines] == [502]
    quiet.logs.close()


def test_the_observer_counts_and_writes(written, make_call):
    told = []

    class Counting:
        def __getattr__(self, name):
            return lambda *arguments: told.append(name)

    observer = Observer(Counting(), AccessLog(written.logs, frozenset({MODEL})))
    call = make_call()
    observer.in_flight(1)
    observer.attempt_ended(call.attempts[0])
    observer.first_content(call, 0.1)
    observer.call_ended(call, 200, None, 1.0, lambda: None)
    observer.request_refused("openai", 401, "invalid_api_key")
    assert told == ["in_flight", "attempt_ended", "first_content", "call_ended", "request_refused"]
    assert [line["event"] for line in written.lines] == ["call"]


# ── the sink ─────────────────────────────────────────────────────────────────────────────────────────────


class BlockedStream(io.StringIO):
    """Takes nothing until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = threading.Event()

    def write(self, text: str) -> int:
        self.go.wait(20)
        return super().write(text)


def test_a_blocked_stream_costs_lines_not_time():
    stream = BlockedStream()
    sink = LineSink(stream, capacity=100)
    told = []
    sink.on_dropped = told.append
    for number in range(1_000):
        sink.put(b'{"n":%d}' % number)
    assert sink.dropped >= 800  # 100 wait, and the writer may hold some more
    assert not sink.flush(0.05)
    stream.go.set()
    assert sink.flush(5)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    numbers = [line["n"] for line in lines if "n" in line]
    news = [line["count"] for line in lines if line.get("event") == "log lines dropped"]
    assert numbers == sorted(numbers)
    assert len(numbers) + sink.dropped == 1_000
    assert sum(news) == sum(told) == sink.dropped


def test_lines_of_many_threads_all_arrive():
    stream = io.StringIO()
    sink = LineSink(stream)

    def put(thread: int) -> None:
        for number in range(500):
            sink.put(b"%d-%d" % (thread, number))

    threads = [threading.Thread(target=put, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sink.flush(5)
    assert sorted(stream.getvalue().split()) == sorted(f"{t}-{n}" for t in range(8) for n in range(500))


@pytest.mark.parametrize("stream", ["none", "closed pipe", "closed text"])
def test_a_stream_that_takes_nothing_is_survived(stream):
    if stream == "none":
        sink = LineSink(None)
    elif stream == "closed text":
        text = io.StringIO()
        sink = LineSink(text)
        text.close()
    else:
        reader, writer = os.pipe()
        with os.fdopen(writer, "w") as file:
            sink = LineSink(file)
        os.close(reader)
    for _ in range(10):
        sink.put(b"x")
    assert sink.flush(5)
    assert sink.dropped == 10


def run(code: str, **streams) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCES)}, timeout=20, check=False, **streams
    )


BEGIN = """
import os, sys, structlog
from xrouter.telemetry.logs import configure
logs = configure("info", sys.stderr)
log = structlog.get_logger()
"""


def test_everything_is_written_at_exit():
    done = run(BEGIN + "for n in range(5000): log.info('line', n=n)", stderr=subprocess.PIPE)
    assert [json.loads(line)["n"] for line in done.stderr.splitlines()] == list(range(5000))


def test_what_nobody_caught_is_a_json_line_too():
    done = run(BEGIN + "int('my passport is 4510 123456')", stderr=subprocess.PIPE)
    (line,) = done.stderr.splitlines()
    assert json.loads(line)["exception"]["type"] == "ValueError"
    assert b"passport" not in line
    assert done.returncode == 1


def test_a_reader_that_never_reads_does_not_hold_up_the_exit():
    reader, writer = os.pipe()
    try:
        done = run(BEGIN + "for n in range(9000): log.info('line', n=n)\nprint(logs.sink.dropped >= 0)", stderr=writer)
    finally:
        os.close(writer)
        os.close(reader)
    assert done.returncode == 0


def test_lines_of_several_processes_in_one_pipe_do_not_mix():
    code = BEGIN + "for n in range(2000): log.info('line', who=sys.argv[1], filler='a b ' * 100, n=n)"
    reader, writer = os.pipe()
    processes = [
        subprocess.Popen([sys.executable, "-c", code, who], stderr=writer, env={"PYTHONPATH": str(SOURCES)})
        for who in "ab"
    ]
    os.close(writer)
    with os.fdopen(reader) as pipe:
        lines = [json.loads(line) for line in pipe]
    assert [process.wait(20) for process in processes] == [0, 0]
    for who in "ab":
        assert [line["n"] for line in lines if line["who"] == who] == list(range(2000))
