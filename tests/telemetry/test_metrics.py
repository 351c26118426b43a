"""What /metrics says, for one process and for several."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from xrouter.core.call import State
from xrouter.core.chat import Usage
from xrouter.core.deployment import Deployment
from xrouter.core.vitals import Change
from xrouter.telemetry.metrics import Metrics
from xrouter.telemetry.shared_dir import SharedDir, Slot, forget_the_dead
from xrouter.telemetry.tally import Tallies

MODEL = "gigachat/GigaChat-2"


def samples(text: bytes | str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = text.decode() if isinstance(text, bytes) else text
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(text: bytes | str, name: str, **labels: str) -> float:
    return samples(text)[name, tuple(sorted(labels.items()))]


def test_a_call_in_numbers(make_call):
    metrics = Metrics(models=[MODEL])
    call = make_call()
    metrics.in_flight(1)
    metrics.in_flight(1)
    metrics.in_flight(-1)
    metrics.attempt_ended(call.attempts[0])
    metrics.first_content(call, 0.75)
    metrics.call_ended(call, 200, None, 1.6)
    kind, body = metrics.render()

    assert kind == b"text/plain; version=0.0.4; charset=utf-8"
    assert value(body, "xrouter_requests_total", dialect="openai", model=MODEL, status="200", code="none") == 1
    assert value(body, "xrouter_request_duration_seconds_sum", model=MODEL) == pytest.approx(1.6)
    assert value(body, "xrouter_overhead_seconds_sum", model=MODEL) == pytest.approx(0.6)
    assert value(body, "xrouter_ttft_seconds_count", model=MODEL) == 1
    tokens = {
        kind: value(body, "xrouter_tokens_total", deployment=MODEL, kind=kind)
        for kind in ("input", "output", "cached", "reasoning")
    }
    assert tokens == {"input": 100, "output": 200, "cached": 30, "reasoning": 40}
    assert value(body, "xrouter_cost_rub_total", deployment=MODEL) == pytest.approx(0.0013)
    assert value(body, "xrouter_attempts_total", deployment=MODEL, state="succeeded", error="none") == 1
    assert value(body, "xrouter_in_flight") == 1
    assert value(body, "process_cpu_seconds_total") > 0


@given(st.lists(st.one_of(st.floats(0, 700), st.sampled_from([0.005, 0.01, 1.0, 600.0, 0.0])), max_size=30))
def test_observations_that_were_added_up_first_are_the_same(seconds):
    one, other = CollectorRegistry(), CollectorRegistry()
    buckets = (0.005, 0.01, 1.0, 600.0)
    plain = Histogram("h", "h", ["model"], buckets=buckets, registry=one)
    summed = Histogram("h", "h", ["model"], buckets=buckets, registry=other)
    tallies = Tallies()
    add = tallies.observe(summed.labels("m"))
    plain.labels("m")
    for number in seconds:
        plain.labels("m").observe(number)
        add(number)
        if number > 300:
            tallies.fold()
    tallies.fold()
    expected, found = samples(generate_latest(one)), samples(generate_latest(other))
    created = {key for key in expected if key[0] == "h_created"}
    assert found.keys() == expected.keys()
    assert all(found[key] == pytest.approx(expected[key]) for key in expected.keys() - created)


def test_failed_attempts_are_counted_by_what_the_upstream_said(make_call):
    metrics = Metrics(models=[MODEL])
    for status, error in ((500, "provider_unavailable"), (500, "provider_unavailable"), (None, "provider_timeout")):
        fields = {"state": State.FAILED, "error": error, "upstream_status": status, "usage": None}
        metrics.attempt_ended(make_call(**fields).attempts[0])
    left = {"state": State.CANCELLED, "error": "client_left", "upstream_status": 200}
    metrics.attempt_ended(make_call(**left).attempts[0])
    _, body = metrics.render()

    assert value(body, "xrouter_upstream_errors_total", deployment=MODEL, upstream_status="500") == 2
    assert value(body, "xrouter_upstream_errors_total", deployment=MODEL, upstream_status="none") == 1
    failed = {"deployment": MODEL, "state": "failed", "error": "provider_timeout"}
    assert value(body, "xrouter_attempts_total", **failed) == 1
    cancelled = {"deployment": MODEL, "state": "cancelled", "error": "client_left"}
    assert value(body, "xrouter_attempts_total", **cancelled) == 1


def test_ten_thousand_models_keys_codes_and_statuses_leave_the_cardinality_flat(make_call):
    metrics = Metrics(models=[MODEL])

    def fill(start: int) -> int:
        for number in range(start, start + 5_000):
            model, code = f"invented/{number}", f"code_{number}"
            call = make_call(model, key_id=f"key{number}", state=State.FAILED, error=code, upstream_status=number)
            metrics.attempt_ended(call.attempts[0])
            metrics.first_content(call, 0.1)
            metrics.call_ended(call, 400 + number, code, 1.0)
            metrics.request_refused("openai", 401, code)
        return len(samples(metrics.render()[1]))

    first = fill(0)
    # The statuses 500-599 that the first half could not show, and no more.
    assert fill(5_000) <= first + 600
    assert fill(10_000) == fill(15_000)
    text = metrics.render()[1].decode()
    assert "invented" not in text
    assert "key1" not in text
    bound = [name for name, held in vars(metrics).items() if isinstance(held, dict) and len(held) > 2_000]
    assert not bound


def test_the_model_that_served_names_a_call_whose_own_model_is_unknown(make_call):
    metrics = Metrics(models=[MODEL])
    call = make_call("gpt-4o")
    call.served_model = MODEL
    metrics.call_ended(call, 200, None, 1.0)
    assert value(metrics.render()[1], "xrouter_request_duration_seconds_count", model=MODEL) == 1


@settings(deadline=None)
@given(
    numbers=st.tuples(*[st.integers(-(10**30), 10**30)] * 4),
    cost=st.integers(-(10**30), 10**30),
    status=st.none() | st.integers(-5, 10**9),
    seconds=st.floats(-1e9, 1e9),
)
def test_nonsense_from_vendors_neither_raises_nor_counts_down(
    shared_metrics, make_call, numbers, cost, status, seconds
):
    metrics = shared_metrics
    before = samples(metrics.render()[1])
    usage = Usage(numbers[0], numbers[1], cached_tokens=numbers[2], reasoning_tokens=numbers[3])
    ended = 1000.5 + seconds
    call = make_call(usage=usage, cost_micro=cost, upstream_status=status, error="nonsense", ended=ended)
    metrics.attempt_ended(call.attempts[0])
    metrics.call_ended(call, 200, None, 1.0)
    after = samples(metrics.render()[1])
    assert all(after[key] >= number for key, number in before.items() if key[0].startswith("xrouter_"))


@pytest.fixture(scope="module")
def shared_metrics() -> Metrics:
    return Metrics(models=[MODEL])


def test_a_worker_that_is_just_making_its_file_is_waited_for(tmp_path):
    shared = SharedDir(tmp_path)
    process = Counting(shared.path)
    unborn = shared.path / "counter_later.db"
    unborn.touch()
    timer = threading.Timer(0.03, unborn.unlink)
    timer.start()
    try:
        process.tell("calls 3")
        assert value(process.tell("render"), "xrouter_request_duration_seconds_count", model="m") == 3
    finally:
        timer.join()
        process.kill()
        shared.remove()


async def test_scrapes_at_the_same_time_are_rendered_once():
    rendered = []

    class Slow(Metrics):
        def _render(self) -> tuple[bytes, bytes]:
            rendered.append(threading.current_thread())
            return super()._render()

    metrics = Slow()
    answers = await asyncio.gather(*(metrics.scrape() for _ in range(20)))
    assert len(set(answers)) == len(rendered) == 1
    assert rendered[0] is not threading.current_thread()
    metrics.in_flight(7)
    assert value((await metrics.scrape())[1], "xrouter_in_flight") == 7


def test_what_others_count_by_themselves_only_goes_up():
    metrics = Metrics()
    metrics.journal_stands(waiting=3, failed_writes=2, dropped=1)
    metrics.journal_stands(waiting=1, failed_writes=5, dropped=1)
    flusher = SimpleNamespace(failing=True, booked=10, damaged=0, torn=1, rejected=0, interrupted=2)
    metrics.flusher_stands(flusher)
    flusher.booked = 12
    metrics.flusher_stands(flusher)
    metrics.log_lines_dropped(4)
    metrics.log_lines_dropped(2)
    _, body = metrics.render()
    assert value(body, "xrouter_journal_waiting") == 1
    assert value(body, "xrouter_journal_failed_writes_total") == 5
    assert value(body, "xrouter_journal_dropped_total") == 1
    assert value(body, "xrouter_flush_failing") == 1
    assert value(body, "xrouter_flush_booked_total") == 12
    assert value(body, "xrouter_log_lines_dropped_total") == 6


# ── several processes ────────────────────────────────────────────────────────────────────────────────────


class Counting:
    """A real process that counts into `directory`."""

    def __init__(self, directory: Path) -> None:
        here = Path(__file__).parent
        self.process = subprocess.Popen(
            [sys.executable, str(here / "counting_process.py"), str(directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(here.parents[1] / "src")},
        )
        self._answer("ready")

    def tell(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self._answer("done")

    def _answer(self, last: str) -> str:
        assert self.process.stdout is not None
        lines = []
        while (line := self.process.stdout.readline()).strip() != last:
            assert line, "the process has died"
            lines.append(line)
        return "".join(lines)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def counting(tmp_path):
    started: list[Counting] = []

    def start() -> Counting:
        started.append(Counting(tmp_path / "shared"))
        return started[-1]

    yield start
    for process in started:
        if process.process.poll() is None:
            process.kill()


def test_two_processes_are_one_and_a_killed_one_takes_only_its_gauges_along(counting, tmp_path):
    one, two = counting(), counting()
    one.tell("calls 3")
    two.tell("calls 4")
    one.tell("in_flight 5")
    two.tell("in_flight 2")
    for process in (one, two):
        text = process.tell("render")
        assert value(text, "xrouter_requests_total", dialect="openai", model="m", status="200", code="none") == 7
        assert value(text, "xrouter_request_duration_seconds_sum", model="m") == 3.5
        assert value(text, "xrouter_in_flight") == 7

    two.kill()
    text = one.tell("render")
    assert value(text, "xrouter_requests_total", dialect="openai", model="m", status="200", code="none") == 7
    assert value(text, "xrouter_in_flight") == 5

    files = sorted(path.name for path in (tmp_path / "shared").iterdir())
    three = counting()  # takes the place and the counters of the dead one
    three.tell("calls 1")
    text = one.tell("render")
    assert value(text, "xrouter_requests_total", dialect="openai", model="m", status="200", code="none") == 8
    assert value(text, "xrouter_in_flight") == 5
    left = sorted(path.name for path in (tmp_path / "shared").iterdir())
    assert left == sorted({*files, "gauge_livesum_1.db"})
    assert "process_cpu_seconds_total" not in text


def test_counters_survive_many_restarts_without_a_trail_of_files(counting, tmp_path):
    for _ in range(5):
        process = counting()
        process.tell("calls 2")
        process.kill()
    text = counting().tell("render")
    assert value(text, "xrouter_requests_total", dialect="openai", model="m", status="200", code="none") == 10
    assert len(list((tmp_path / "shared").iterdir())) == 4  # a lock, counters, histograms, gauges


def test_places_are_taken_once(tmp_path):
    assert [Slot(tmp_path).name for _ in range(3)] == ["0", "1", "2"]
    (tmp_path / "gauge_livesum_1.db").touch()
    (tmp_path / "gauge_livesum_7.db").touch()
    (tmp_path / "7.lock").touch()
    forget_the_dead(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.db")) == ["gauge_livesum_1.db"]


def test_a_fresh_directory_removes_those_of_killed_supervisors_only(tmp_path):
    living = SharedDir(tmp_path)
    dead = tmp_path / "metrics-dead"
    dead.mkdir()
    (dead / "counter_0.db").touch()
    other = SharedDir(tmp_path)
    assert living.path.exists()
    assert other.path != living.path
    assert not dead.exists()
    living.remove()
    other.remove()
    assert not list(tmp_path.glob("metrics-*"))


def test_the_account_that_is_ill_is_named():
    metrics = Metrics(models=[MODEL])
    sold_out = Deployment(MODEL, "gigachat", "gigachat", "GigaChat-2", account="gigachat#corp")
    alone = Deployment(MODEL, "gigachat", "gigachat", "GigaChat-2")
    made_up = Deployment(MODEL + "+status-500", "gigachat", "gigachat", "GigaChat-2+status-500")
    for one in (sold_out, alone, made_up):
        metrics.deployment_changed(Change(one, "quota_exhausted", 300.0))
    metrics.deployment_changed(Change(alone, None, 1.0))
    _, text = metrics.render()
    assert value(text, "xrouter_ejected", deployment=MODEL, account="gigachat#corp") == 1
    assert value(text, "xrouter_ejected", deployment=MODEL, account="gigachat") == 0
    assert value(text, "xrouter_ejected", deployment="other", account="other") == 1
    told = {"deployment": MODEL, "account": "gigachat#corp", "reason": "quota_exhausted"}
    assert value(text, "xrouter_ejections_total", **told) == 1
