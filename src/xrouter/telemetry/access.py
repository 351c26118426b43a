"""One log line for each call: who, what, how it ended, what it cost. Never what was said."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from xrouter.core.call import Attempt, Call
from xrouter.core.money import rub_text
from xrouter.telemetry.logs import Logs

_LONGEST_TEXT: Final = 128
_encode: Final = msgspec.json.Encoder().encode


class _Line(msgspec.Struct, gc=False):
    """The fields in the order in which people read them. Seconds are rounded to microseconds."""

    timestamp: datetime
    level: str
    event: str
    request_id: str
    call_id: str
    key_id: str
    dialect: str
    model: str
    status: int
    seconds: float
    attempts: int
    code: str | UnsetType = UNSET
    ttft: float | UnsetType = UNSET
    deployment: str | UnsetType = UNSET
    input_tokens: int | UnsetType = UNSET
    output_tokens: int | UnsetType = UNSET
    cost_rub: msgspec.Raw | UnsetType = UNSET
    client_request_id: str | UnsetType = UNSET
    client: str | UnsetType = UNSET


class AccessLog:
    """Writes the line of each ended call at level info (warning for our own 5xx).

    The line is made and encoded by the caller, in about 5 us: handing the parts to the writer's thread would
    cost the same under the interpreter lock and hold the call's objects longer.
    """

    def __init__(self, logs: Logs, models: frozenset[str] = frozenset()) -> None:
        """`models` are configured ids: they need no check for secrets, a client's own text does."""
        self._put = logs.sink.put
        self._logs = logs
        self._models = models
        self._info = logs.level <= 20
        self._warning = logs.level <= 30

    def serve(self, models: frozenset[str]) -> None:
        """These models are served from now on."""
        self._models = models

    def _clean(self, text: str) -> str:
        return self._logs.redaction.text(text)  # asked each time: other credentials are other secrets

    def call_ended(
        self, call: Call, status: int, code: str | None, seconds: float, client: Callable[[], str | None]
    ) -> None:
        failed = status >= 500
        if not (self._warning if failed else self._info):
            return
        model = call.request.model
        line = _Line(
            datetime.fromtimestamp(call.started_at + seconds, UTC),
            "warning" if failed else "info",
            "call",
            call.request_id,
            call.id,
            call.caller.key_id,
            call.dialect,
            model if model in self._models else self._clean(model[:_LONGEST_TEXT]),
            status,
            round(seconds, 6),
            len(call.attempts),
        )
        if code is not None:
            line.code = code
        if call.client_request_id is not None:
            line.client_request_id = self._clean(call.client_request_id[:_LONGEST_TEXT])
        address = client()
        if address is not None:
            line.client = address
        if call.attempts:
            self._add_attempts(line, call)
        self._put(_encode(line))

    def _add_attempts(self, line: _Line, call: Call) -> None:
        last = call.attempts[-1] if len(call.attempts) == 1 else _last_own(call)
        line.deployment = last.deployment.id
        if last.first_content_at is not None:
            line.ttft = round(last.first_content_at - call.started_at, 6)
        sent = made = cost = 0
        for attempt in call.attempts:
            if attempt.on_operator:
                continue
            cost += attempt.cost_micro
            if attempt.usage is not None:
                sent += attempt.usage.input_tokens
                made += attempt.usage.output_tokens
        line.input_tokens, line.output_tokens = sent, made
        line.cost_rub = msgspec.Raw(rub_text(cost).encode())


def _last_own(call: Call) -> Attempt:
    """The last attempt that was made for the client."""
    return next((one for one in reversed(call.attempts) if not one.on_operator), call.attempts[-1])
