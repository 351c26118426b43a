"""A request that has succeeded is gone: nothing of it waits for the garbage collector, a tenth of all work."""

import asyncio
import gc
from dataclasses import replace
from typing import Any

import pytest
from tests.gateway.script import Script, answer, world

from xrouter.core.call import Attempt, Call, Caller, Scope
from xrouter.core.chat import ChatRequest, Delta, Finish, Start
from xrouter.dialects.data_plane import DataPlane
from xrouter.dialects.exchange import Exchange
from xrouter.dialects.limits import Limits

LIMITS = Limits(max_body_bytes=100_000, status_wait_s=10, ping_s=10, max_in_flight=100, trusted_proxies=0)


class OneKey:
    def known(self, credential: str) -> Caller | None:
        return Caller("k", "test", frozenset({Scope.MODELS}))

    async def look_up(self, credential: str) -> Caller | None:
        return None


def ours() -> list[Any]:
    return [one for one in gc.get_objects() if isinstance(one, Exchange | Call | Attempt | ChatRequest)]


async def serve(plane: DataPlane, body: bytes) -> int:
    """One request; the status of its answer."""
    statuses = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status"))

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/v1/chat/completions",
        "headers": [(b"authorization", b"Bearer x"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
    }
    await plane(scope, receive, send)
    await asyncio.sleep(0)  # what is told of a request is told when its answer has left
    return int(statuses[0])


@pytest.mark.parametrize(
    ("stream", "play"),
    [(False, [answer("hello")]), (True, [Start(), Delta("hello"), Finish("stop")])],
    ids=["whole", "stream"],
)
async def test_nothing_is_left(stream: bool, play: list[Any]) -> None:
    script = Script(play)
    scene = world(a=script)
    plane = DataPlane(replace(scene.gateway, keys=OneKey()), LIMITS)
    body = b'{"model":"a/m","stream":%s,"messages":[{"role":"user","content":"x"}]}' % (b"true" if stream else b"false")
    assert await serve(plane, body) == 200
    gc.collect()
    before = {id(one) for one in ours()}  # what other tests of this process still hold
    gc.disable()
    try:
        for _ in range(5):
            await serve(plane, body)
        script.calls.clear()
        for kept in (scene.books.intents, scene.books.ends, scene.books.counted):
            kept.clear()
        left = [type(one).__name__ for one in ours() if id(one) not in before]
    finally:
        gc.enable()
    assert left == []
