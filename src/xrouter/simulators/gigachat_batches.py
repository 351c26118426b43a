"""GigaChat's batches: raw lines in, a file of lines out. Each look at a batch moves it one step on."""

import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from xrouter.core.clock import Clock
from xrouter.simulators.desk import Refusal
from xrouter.simulators.gigachat_files import Files
from xrouter.simulators.gigachat_request import invalid

METHODS: Final = ("chat_completions", "embedder")
MAX_BATCHES: Final = 100
MAX_LINES: Final = 10_000
_STEPS: Final = ("created", "in_progress", "completed")

Answer = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Method and request -> what the endpoint itself would have said. Raises `Refusal`."""


@dataclass(slots=True)
class _Batch:
    about: dict[str, Any]
    owner: str
    output: bytes


class Batches:
    """What every account has ordered."""

    def __init__(self, clock: Clock, files: Files, answer: Answer) -> None:
        self._clock = clock
        self._files = files
        self._answer = answer
        self._batches: OrderedDict[str, _Batch] = OrderedDict()

    def create(self, method: str, body: bytes, owner: str) -> dict[str, Any]:
        """POST /batches."""
        if method not in METHODS:
            raise invalid(f"method must be one of {', '.join(METHODS)}")
        lines = [line for line in body.split(b"\n") if line.strip()]
        if not lines or len(lines) > MAX_LINES:
            raise invalid(f"a batch has 1 to {MAX_LINES} lines")
        output = b"".join(self._line(method, number, line) for number, line in enumerate(lines, 1))
        now = int(self._clock.now())
        about: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "method": method,
            "request_counts": {"total": len(lines)},
            "status": _STEPS[0],
            "created_at": now,
            "updated_at": now,
        }
        self._batches[about["id"]] = _Batch(about, owner, output)
        if len(self._batches) > MAX_BATCHES:
            self._batches.popitem(last=False)
        return dict(about)

    def list(self, wanted: str | None, owner: str) -> dict[str, Any]:
        """GET /batches."""
        found = [batch for batch in self._batches.values() if batch.owner == owner]
        if wanted is not None:
            found = [batch for batch in found if batch.about["id"] == wanted]
            if not found:
                raise Refusal(404, "No such batch")
        for batch in found:
            self._move_on(batch)
        return {"batches": [batch.about for batch in found]}

    def _move_on(self, batch: _Batch) -> None:
        about = batch.about
        if about["status"] == _STEPS[-1]:
            return
        about["status"] = _STEPS[_STEPS.index(about["status"]) + 1]
        about["updated_at"] = int(self._clock.now())
        if about["status"] == _STEPS[-1]:
            stored = self._files.keep(batch.owner, "output.jsonl", batch.output, "application/octet-stream")
            about["output_file_id"] = stored["id"]
            about["request_counts"] = {**about["request_counts"], "completed": about["request_counts"]["total"]}

    def _line(self, method: str, number: int, line: bytes) -> bytes:
        """One line of the output."""
        try:
            order = msgspec.json.decode(line)
        except msgspec.DecodeError:
            raise Refusal(400, f"line {number} is not JSON") from None
        if not isinstance(order, dict) or "id" not in order or not isinstance(order.get("request"), dict):
            raise invalid(f"line {number} needs an id and a request")
        try:
            done: dict[str, Any] = {"id": order["id"], "result": self._answer(method, order["request"])}
        except Refusal as refusal:
            done = {"id": order["id"], "error": {"status": refusal.status, "message": refusal.message}}
        return msgspec.json.encode(done) + b"\n"
