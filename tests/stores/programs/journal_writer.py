"""Writes attempts to a journal under argv[1] from forked processes and kills each with SIGKILL at a random moment.

Prints what every process was told before it died, as JSON: the ids whose intent or outcome had returned.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from xrouter.core.call import Attempt, Call, Caller, State
from xrouter.core.chat import ChatRequest, Usage
from xrouter.core.clock import SystemClock
from xrouter.core.deployment import Deployment
from xrouter.stores.journal import FileJournal

started_by = os.getpid()
root, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
deployment = Deployment(id="fake/model", provider="fake", kind="openai_compatible", upstream_model="model")
request = ChatRequest(model="fake/model", stream=False, fields={})


def write_for_ever(pipe: int) -> None:
    journal = FileJournal(root, SystemClock())
    while os.getppid() == started_by:
        call = Call(
            id="chatcmpl-1", request=request, caller=Caller("k", "k", frozenset()), request_id="r",
            started_at=1, started=1,
        )  # fmt: skip
        attempt = Attempt(
            call=call, deployment=deployment, model="fake/model", number=1, began=1, started_at=1,
            journal_intent=lambda attempt: journal.intend(attempt, Usage(0, 0), 0),
        )  # fmt: skip
        attempt.sending()
        os.write(pipe, f"I{attempt.id}\n".encode())
        attempt.state = State.SUCCEEDED
        journal.settle(attempt)
        os.write(pipe, f"S{attempt.id}\n".encode())


intents: list[str] = []
outcomes: list[str] = []
moments = random.Random(seed)
for _ in range(kills):
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        write_for_ever(writer)
        os._exit(0)
    os.close(writer)
    time.sleep(moments.uniform(0, 0.012))
    os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as told:
        lines = [line.strip() for line in told if line.endswith("\n")]
    os.waitpid(child, 0)
    intents += [line[1:] for line in lines if line[0] == "I"]
    outcomes += [line[1:] for line in lines if line[0] == "S"]
json.dump({"intents": intents, "outcomes": outcomes}, sys.stdout)
