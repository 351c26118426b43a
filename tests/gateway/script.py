"""A gateway whose providers do what a script says, with everything else in memory."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import Raw

from xrouter.core.call import Attempt, Call, Caller, Request, Scope
from xrouter.core.chat import Answer, AnswerMessage, ChatRequest, Choice, Event, Usage
from xrouter.core.clock import SystemClock
from xrouter.core.deployment import Deployment, Timeouts
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.ids import ulid
from xrouter.core.images import Image, Images, ImagesRequest
from xrouter.core.money import Price
from xrouter.core.operation import Operation
from xrouter.core.policy import Policy
from xrouter.core.ports import QueueFull
from xrouter.core.rerank import Ranked, Ranking, RerankRequest
from xrouter.core.window import ENDLESS, Window
from xrouter.gateway import catalog
from xrouter.gateway.gateway import Gateway

Step = Event | BaseException | float
"""What a scripted provider does next: yield an event, raise an error, or wait so many seconds (inf: for ever)."""


class Script:
    """A provider that plays one list of steps per call, and notes when it was closed."""

    def __init__(self, *plays: list[Step], sends: bool = True) -> None:
        self.plays = list(plays)
        self.calls: list[Attempt] = []
        self.closed = 0
        self._sends = sends

    async def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        self.calls.append(attempt)
        play = self.plays.pop(0) if len(self.plays) > 1 else self.plays[0]
        if self._sends:
            attempt.sending()
            attempt.answered(200, "up-1")
        try:
            for step in play:
                if isinstance(step, BaseException):
                    status = getattr(step, "upstream_status", None)
                    if status is not None:
                        attempt.answered(status, None)
                    raise step
                if isinstance(step, float):
                    await asyncio.sleep(3600 if step == float("inf") else step)
                else:
                    yield step
        finally:
            self.closed += 1


class Maker:
    """A provider of everything that is not streamed. `embed` gives each text its length as a vector."""

    def __init__(self, *, fails: BaseException | None = None) -> None:
        self.calls: list[Attempt] = []
        self._fails = fails

    async def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]:
        raise AssertionError("nobody chats here")
        yield

    async def _begin(self, attempt: Attempt) -> None:
        self.calls.append(attempt)
        attempt.sending()
        await asyncio.sleep(0)
        attempt.answered(200, "up-1")
        if self._fails is not None:
            raise self._fails

    async def embed(self, request: EmbeddingsRequest, attempt: Attempt) -> Embeddings:
        await self._begin(attempt)
        size = request.dimensions or 1
        vectors = tuple((float(len(text)),) * size for text in request.inputs)
        return Embeddings(vectors, Usage(sum(len(text) for text in request.inputs), 0))

    async def draw(self, request: ImagesRequest, attempt: Attempt) -> Images:
        await self._begin(attempt)
        return Images(tuple(Image("aGk=", "image/png", request.prompt) for _ in range(request.n)))

    async def rerank(self, request: RerankRequest, attempt: Attempt) -> Ranking:
        await self._begin(attempt)
        order = sorted(range(len(request.documents)), key=lambda place: -request.documents[place].count(request.query))
        best = order[: request.top_n]
        ranked = tuple(Ranked(place, Raw(b"%d.50" % request.documents[place].count(request.query))) for place in best)
        return Ranking(ranked, Usage(9, 0))


@dataclass
class Books:
    """A journal and a telemetry in lists."""

    intents: list[Attempt] = field(default_factory=list)
    ends: list[Attempt] = field(default_factory=list)
    counted: list[Attempt] = field(default_factory=list)
    first: list[float] = field(default_factory=list)

    def intend(self, attempt: Attempt, expected: Usage, expected_cost_micro: int) -> None:
        self.intents.append(attempt)

    def settle(self, attempt: Attempt) -> None:
        self.ends.append(attempt)

    def attempt_ended(self, attempt: Attempt) -> None:
        self.counted.append(attempt)

    def call_ended(
        self, call: Call, status: int, code: str | None, seconds: float, client: Callable[[], str | None]
    ) -> None: ...

    def request_refused(self, dialect: str, status: int, code: str | None) -> None: ...

    def first_content(self, call: Call, seconds: float) -> None:
        self.first.append(seconds)

    def in_flight(self, change: int) -> None: ...


class Slots:
    """Real waiting, in one process."""

    def __init__(self) -> None:
        self.rooms: dict[str, Room] = {}
        self.most = 0
        self.now = 0

    def room(self, name: str, limit: int, most_waiting: int, start: int = 0) -> "Room":
        if name not in self.rooms:
            self.rooms[name] = Room(self, limit, Window(start, limit))
        self.rooms[name].most_waiting = most_waiting
        return self.rooms[name]

    def load(self, name: str) -> float:
        return float(self.rooms[name].running) if name in self.rooms else 0.0


class Room:
    def __init__(self, slots: Slots, limit: int, window: Window) -> None:
        self._slots = slots
        self._limit = limit
        self._line: list[asyncio.Future[int]] = []
        self.most_waiting = 0
        self.window = window
        self.running = 0

    def take(self) -> int | None:
        if self._line or self.running >= min(self._limit or ENDLESS, self.window.limit):
            return None
        return self._given()

    async def wait(self, tenant: str, deadline: float) -> int:
        if len(self._line) >= self.most_waiting:
            raise QueueFull
        turn: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        try:
            async with asyncio.timeout_at(deadline):
                return await turn
        finally:
            if turn in self._line:
                self._line.remove(turn)

    def give_back(self, index: int) -> None:
        self.running -= 1
        self._slots.now -= 1
        if self._line:
            self._line.pop(0).set_result(self._given())

    def _given(self) -> int:
        self.running += 1
        self._slots.now += 1
        self._slots.most = max(self._slots.most, self._slots.now)
        return 0


class NoKeys:
    def known(self, credential: str) -> Caller | None:
        return None

    async def look_up(self, credential: str) -> Caller | None:
        return None


FAST = Timeouts(connect_s=0.2, first_s=0.2, idle_s=0.2, total_s=5, total_stream_s=5)


@dataclass
class World:
    gateway: Gateway
    books: Books
    slots: Slots


EVERYTHING = frozenset(Operation)


def world(
    *,
    timeouts: Timeouts = FAST,
    max_concurrency: int = 0,
    serves: frozenset[Operation] = frozenset({Operation.CHAT}),
    one_choice: tuple[str, ...] = (),
    one_input: tuple[str, ...] = (),
    policies: dict[str, Policy] | None = None,
    **scripts: Script | Maker,
) -> World:
    """`world(a=Script(...), b=Script(...))`: each provider serves `<name>/m`; the alias `any` serves all in order."""
    deployments = [
        Deployment(
            id=f"{name}/m",
            provider=name,
            kind="script",
            upstream_model="m",
            price=Price(Decimal(65), Decimal(65)),
            timeouts=timeouts,
            max_concurrency=max_concurrency,
            credential=name,
            serves=serves,
            one_choice=name in one_choice,
            one_input=name in one_input,
        )
        for name in scripts
    ]
    books, slots = Books(), Slots()
    gateway = Gateway(
        catalog=catalog.build(deployments, {"any": [one.id for one in deployments]}, policies=policies or {}),
        providers=scripts,
        keys=NoKeys(),
        journal=books,
        slots=slots,
        telemetry=books,
        clock=SystemClock(),
    )
    return World(gateway, books, slots)


def call(
    model: str = "any",
    *,
    stream: bool = True,
    models: tuple[str, ...] = (),
    timeout_s: float | None = None,
    may_continue: bool = True,
    **fields: Any,
) -> Call:
    raw = {"messages": [{"role": "user", "content": "hello there"}], **fields}
    request = ChatRequest(
        model=model,
        stream=stream,
        models=models,
        fields={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in raw.items()},
    )
    return call_for(request, timeout_s=timeout_s, may_continue=may_continue)


def call_for(request: Request, *, timeout_s: float | None = None, may_continue: bool = True) -> Call:
    clock = SystemClock()
    return Call(
        id="chatcmpl-" + ulid(),
        request=request,
        caller=Caller("k", "test", frozenset({Scope.MODELS})),
        request_id="req_1",
        started_at=clock.now(),
        started=clock.monotonic(),
        timeout_s=timeout_s,
        may_continue=may_continue,
    )


def answer(text: str) -> Answer:
    return Answer((Choice(0, AnswerMessage(text), "stop"),))
