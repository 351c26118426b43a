"""Calls and attempts with every field set."""

from collections.abc import Callable

import pytest

from xrouter.core.call import Attempt, Call, Caller, State
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.deployment import Deployment

MODEL = "gigachat/GigaChat-2"
DEPLOYMENT = Deployment(id=MODEL, provider="gigachat", kind="gigachat", upstream_model="GigaChat-2")

MakeCall = Callable[..., Call]


@pytest.fixture(scope="session")
def make_call() -> MakeCall:
    def make(model: str = MODEL, *, key_id: str = "k123", attempts: int = 1, **attempt_fields: object) -> Call:
        call = Call(
            request=ChatRequest(model=model, stream=True, fields={}),
            caller=Caller(key_id, "name", frozenset()),
            request_id="req_1",
            started_at=1_800_000_000.0,
            started=1000.0,
        )
        for number in range(1, attempts + 1):
            attempt = Attempt(
                call=call,
                deployment=DEPLOYMENT,
                model=model,
                number=number,
                began=1000.5,
                started_at=1_800_000_000.5,
                journal_intent=lambda _: None,
            )
            attempt.state, attempt.ended = State.SUCCEEDED, 1001.5
            attempt.usage = Usage(100, 200, cached_tokens=30, reasoning_tokens=40)
            attempt.cost_micro = 1_300
            attempt.first_content_at = 1_800_000_000.75
            for name, value in attempt_fields.items():
                setattr(attempt, name, value)
            call.attempts.append(attempt)
        return call

    return make
