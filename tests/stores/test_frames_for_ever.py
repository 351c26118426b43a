"""Journals outlive the release that wrote them: an upgrade rolls while older processes still write."""

from decimal import Decimal
from pathlib import Path
from typing import Any, get_args, get_type_hints

import msgspec
import pytest

from xrouter.core.call import Phase, State
from xrouter.core.chat import Usage
from xrouter.core.clock import ManualClock
from xrouter.core.money import Price
from xrouter.core.records import AttemptRecord
from xrouter.stores.frames import Entry, frame, read_frames
from xrouter.stores.journal import FileJournal
from xrouter.stores.sql.schema import attempts

FIRST_RELEASE = Path(__file__).parent / "fixtures" / "release-0.1.frames"
"""Three frames as release 0.1 wrote them. Never make this file anew: add another for another release."""

RUNNING: dict[str, Any] = {
    "id": "01M7YQSAF5NAFJ0B6KAC301EA1",
    "call_id": "chatcmpl-01M7YQSAF5NAFJ0B6KAC301EB1",
    "request_id": "req_01M7YQSAF5NAFJ0B6KAC301EC1",
    "client_request_id": None,
    "key_id": "kfirst",
    "number": 1,
    "model": "both",
    "deployment": "gigachat/GigaChat-2",
    "provider": "gigachat",
    "upstream_model": "GigaChat-2",
    "dialect": "openai",
    "streamed": True,
    "owner": "01M7YQSAF5NAFJ0B6KAC301EZZ",
    "state": State.OPEN,
    "phase": "sent",
    "started_at": 1_800_000_000.25,
    "first_content_at": None,
    "ended_at": None,
    "upstream_status": None,
    "upstream_request_id": None,
    "input_tokens": 0,
    "output_tokens": 0,
    "cached_tokens": 0,
    "reasoning_tokens": 0,
    "estimated": False,
    "cost_micro": 0,
    "unpriced": False,
    "finish_reason": None,
    "error": None,
}
SUCCEEDED = RUNNING | {
    "state": State.SUCCEEDED,
    "phase": "shown",
    "first_content_at": 1_800_000_000.5,
    "ended_at": 1_800_000_001.75,
    "upstream_status": 200,
    "upstream_request_id": "up-1",
    "input_tokens": 70_000,
    "output_tokens": 11,
    "cached_tokens": 3,
    "reasoning_tokens": 2,
    "cost_micro": 2**40,
    "finish_reason": "stop",
}
FAILED = RUNNING | {
    "id": "01M7YQSAF5NAFJ0B6KAC301EA2",
    "call_id": "chatcmpl-01M7YQSAF5NAFJ0B6KAC301EB2",
    "request_id": "req_01M7YQSAF5NAFJ0B6KAC301EC2",
    "client_request_id": "client-é",
    "number": 2,
    "deployment": "tbank/t-pro-it-2.1",
    "provider": "tbank",
    "upstream_model": "t-pro-it-2.1",
    "streamed": False,
    "state": State.FAILED,
    "phase": "status",
    "started_at": 1_800_000_002.0,
    "ended_at": 1_800_000_003.0,
    "upstream_status": 503,
    "input_tokens": 7,
    "estimated": True,
    "unpriced": True,
    "error": "upstream_unavailable",
}


def test_what_the_first_release_wrote_is_read_for_ever() -> None:
    data = FIRST_RELEASE.read_bytes()
    found = read_frames(data, 100)
    assert (found.used, found.damage, found.tail) == (len(data), [], False)
    told = [msgspec.structs.asdict(entry) for entry in found.entries]
    assert [{name: row[name] for name in RUNNING} for row in told] == [RUNNING, SUCCEEDED, FAILED]


def test_every_field_behind_those_of_the_first_release_has_a_default() -> None:
    """Else a release reads no record of the one before it, and puts its segments aside as corrupt."""
    fields = msgspec.structs.fields(Entry)
    assert [field.name for field in fields[: len(RUNNING)]] == list(RUNNING)
    assert [field.name for field in fields[len(RUNNING) :] if field.required] == []


def test_a_record_of_a_release_with_more_fields_is_read() -> None:
    later = (*msgspec.structs.astuple(Entry(**RUNNING)), "a field", {"that": "does not exist yet"})
    assert read_frames(frame(later), 100).entries == [Entry(**RUNNING)]


def test_the_journal_and_the_table_hold_the_fields_of_the_record_in_its_order() -> None:
    names = AttemptRecord.__struct_fields__
    assert Entry.__struct_fields__ == names
    assert tuple(column.name for column in attempts.columns) == names
    hints = get_type_hints(AttemptRecord)
    nullable = {name for name in names if type(None) in get_args(hints[name])}
    assert {column.name for column in attempts.columns if column.nullable} == nullable


@pytest.mark.parametrize("price", [None, Price(Decimal(1), Decimal(2))])
def test_the_journal_puts_each_value_in_the_place_of_its_name(
    journal_root: Path, clock: ManualClock, make_attempt: Any, price: Price | None
) -> None:
    """The journal's hot path names no field: a keyword for each of them costs five times the tuple."""
    journal = FileJournal(journal_root, clock)
    attempt = make_attempt(journal, client_request_id="theirs", model="asked for", number=3)
    attempt.price = price
    attempt.state, attempt.phase = State.FAILED, Phase.BODY
    attempt.started_at, attempt.first_content_at, attempt.ended_at = 11.0, 12.0, 13.0
    attempt.upstream_status, attempt.upstream_request_id = 529, "up-7"
    attempt.usage = Usage(21, 22, 23, 24, 25, estimated=True)
    attempt.cost_micro, attempt.finish_reason, attempt.error = 31, "length", "stalled"
    attempt.call.end_user = "pseudonym"
    attempt.on_operator = True
    attempt.call.decision = b"\x01\xff"  # belongs to the first attempt, and this is the third
    journal.settle(attempt)
    journal.close()
    (segment,) = journal_root.glob("*/*.log")
    (entry,) = read_frames(segment.read_bytes(), 100).entries
    call, deployment, usage = attempt.call, attempt.deployment, attempt.usage
    same = "id number model state phase started_at first_content_at ended_at upstream_status upstream_request_id"
    same += " cost_micro finish_reason error"
    assert msgspec.structs.asdict(entry) == {
        **{name: getattr(attempt, name) for name in same.split()},
        "call_id": call.id,
        "request_id": call.request_id,
        "client_request_id": "theirs",
        "key_id": call.caller.key_id,
        "deployment": deployment.id,
        "provider": deployment.provider,
        "upstream_model": deployment.upstream_model,
        "dialect": call.dialect,
        "streamed": True,
        "owner": journal.owner,
        **{name: getattr(usage, name) for name in ("input_tokens", "output_tokens", "cached_tokens")},
        "reasoning_tokens": usage.reasoning_tokens,
        "estimated": True,
        "unpriced": price is None,
        "end_user": "pseudonym",
        "on_operator": True,
        "decision": None,
    }


def test_the_first_attempt_brings_the_decision(journal_root: Path, clock: ManualClock, make_attempt: Any) -> None:
    """With its intent and with its outcome: the flusher may see either alone. One that no record can hold is left
    out."""
    journal = FileJournal(journal_root, clock)
    sent, unsent, huge = (make_attempt(journal, number=1) for _ in range(3))
    for attempt in (sent, unsent, huge):
        attempt.call.decision = b"\x01\xff\x00"
        attempt.state = State.FAILED
    huge.call.decision = bytes(70_000)
    sent.sending()
    for attempt in (sent, unsent, huge):
        journal.settle(attempt)
    journal.close()
    (segment,) = journal_root.glob("*/*.log")
    entries = read_frames(segment.read_bytes(), 100).entries
    found = [(entry.id, entry.decision) for entry in entries]
    packed = b"\x01\xff\x00"
    assert found == [(sent.id, packed), (sent.id, packed), (unsent.id, packed), (huge.id, None)]
