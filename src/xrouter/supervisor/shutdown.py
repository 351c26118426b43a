"""How a serving process learns that it is to end."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Final

INTERRUPT_MAX_S: Final = 5.0
"""How long running calls may finish after Ctrl-C."""


class Shutdown:
    """Set once, by a signal or by the supervisor; a second Ctrl-C hurries it.

    `delay_s` is how long the process goes on serving while it says that it is not ready; with
    `keep_listening` false it takes no new connections meanwhile, because others do. `max_s` caps how long
    running calls may finish: somebody sits at the keyboard.
    """

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.at_once = asyncio.Event()
        self.delay_s = 0.0
        self.keep_listening = True
        self.max_s = inf

    def begin(self, delay_s: float = 0.0, *, keep_listening: bool = True) -> None:
        """Only the first call counts."""
        if not self.begun.is_set():
            self.delay_s = delay_s
            self.keep_listening = keep_listening
            self.begun.set()

    def interrupt(self) -> None:
        """Ctrl-C: no delay and a short wait the first time, no waiting for anything the second time."""
        if self.begun.is_set():
            self.at_once.set()
        else:
            self.max_s = INTERRUPT_MAX_S
        self.begin()

    @contextmanager
    def on_signals(self, drain_delay_s: float) -> Iterator[None]:
        """SIGTERM begins it with the delay, SIGINT without."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.begin, drain_delay_s)
        loop.add_signal_handler(signal.SIGINT, self.interrupt)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
            loop.remove_signal_handler(signal.SIGINT)

    async def hurried_within(self, seconds: float) -> bool:
        """Wait that long; true as soon as there is a hurry."""
        try:
            async with asyncio.timeout(seconds):
                await self.at_once.wait()
        except TimeoutError:
            return False
        return True
