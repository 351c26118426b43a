"""Workers speak with each other through their supervisor; nothing said is cut, mixed up or waited for."""

import asyncio
import socket

from xrouter.supervisor.lifeline import ALIVE, READY, Lifeline
from xrouter.supervisor.siblings import Siblings


async def _until(condition, deadline_s: float = 10.0) -> None:  # type: ignore[no-untyped-def]
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.001)


async def test_words_and_messages_of_any_length_come_whole_and_apart() -> None:
    ours, theirs = socket.socketpair()
    words: list[bytes] = []
    messages: list[bytes] = []
    ended: list[bool] = []
    there = Lifeline(theirs, on_bytes=words.append, on_end=lambda: ended.append(True), on_message=messages.append)
    here = Lifeline(ours, on_bytes=lambda _: None, on_end=lambda: None)
    sent = [b"%d " % number * (1 + number**2 // 100) for number in range(200)]
    here.send(READY)
    for message in sent:
        here.send_message(message)
        here.send(ALIVE)
        await asyncio.sleep(0)
    await _until(lambda: len(messages) == len(sent))
    assert messages == sent
    await _until(lambda: b"".join(words) == READY + ALIVE * len(sent))
    here.close()
    await _until(lambda: bool(ended))
    there.close()


async def test_who_does_not_listen_holds_up_nobody_and_loses_messages_not_words() -> None:
    ours, theirs = socket.socketpair()
    here = Lifeline(ours, on_bytes=lambda _: None, on_end=lambda: None)
    for _ in range(3_000):
        here.send_message(b"x" * 10_000)
    here.send(READY)
    words: list[bytes] = []
    messages: list[bytes] = []
    there = Lifeline(theirs, on_bytes=words.append, on_end=lambda: None, on_message=messages.append)
    await _until(lambda: words == [READY])
    assert 0 < len(messages) < 3_000
    assert set(messages) == {b"x" * 10_000}
    here.close()
    there.close()


async def test_what_one_says_the_subscribers_hear() -> None:
    ours, theirs = socket.socketpair()
    one, two = Siblings(), Siblings()
    heard: list[tuple[str, str]] = []
    one.subscribe("health", lambda words: heard.append(("one", words)))
    two.subscribe("health", lambda words: heard.append(("two", words)))
    two.subscribe("other", lambda words: heard.append(("other", words)))
    here = Lifeline(ours, on_bytes=lambda _: None, on_end=lambda: None, on_message=one.take)
    there = Lifeline(theirs, on_bytes=lambda _: None, on_end=lambda: None, on_message=two.take)
    one.join(here)
    one.publish("health", 'some "words"\nin lines, und Ümläute')
    await _until(lambda: len(heard) == 2)
    said = 'some "words" in lines, und Ümläute'
    assert heard == [("one", said), ("two", said)]
    here.close()
    there.close()
