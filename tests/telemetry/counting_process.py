"""A process that counts into a shared directory, told what to do by lines on stdin."""

import sys
from pathlib import Path

from xrouter.core.call import Call as OneCall
from xrouter.core.call import Caller
from xrouter.core.chat import ChatRequest
from xrouter.telemetry.metrics import Metrics


def say(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


metrics = Metrics(Path(sys.argv[1]), models=["m"])
call = OneCall(
    request=ChatRequest(model="m", stream=False, fields={}),
    caller=Caller("k", "n", frozenset()),
    request_id="r",
    started_at=0.0,
    started=0.0,
)
say("ready\n")
for line in sys.stdin:
    word, _, number = line.strip().partition(" ")
    if word == "calls":
        for _ in range(int(number)):
            metrics.call_ended(call, 200, None, 0.5)
    elif word == "in_flight":
        metrics.in_flight(int(number))
    elif word == "render":
        say(metrics.render()[1].decode())
    metrics.fold()  # as a worker does each second
    say("done\n")
