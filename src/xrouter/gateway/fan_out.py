"""One request that its vendors take in pieces only: several choices (`n`), several prompts, several inputs.

Each part is an attempt of its own, with its own record, slot and failover; the client sees one answer. Choices are
counted through, usage is the sum, and the first part that fails fails the call: half an answer is none. Which vendors
need it says `Deployment.one_choice` and `Deployment.one_input`.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Raw

from xrouter.core.call import Call, Piece, Request
from xrouter.core.chat import Answer, ChatRequest, Delta, Finish, Reasoning, Refusal, Start, ToolDelta, Usage
from xrouter.core.closing import closing
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import Invalid
from xrouter.core.images import Images, ImagesRequest
from xrouter.gateway import dispatch, meter
from xrouter.gateway.gateway import Gateway
from xrouter.gateway.route import Candidate

MAX_TOGETHER = 8
"""Parts of one call that run at the same time; the vendor's own limit (`max_concurrency`) may be lower."""

MAX_CHOICES = 128
"""Prompts x `n` of one call. OpenAI's own limit for `n`."""

MAX_WAITING = 16
"""Events that wait for the client; then the vendors wait, too."""

PART_FAILED = "part_failed"

_replace = msgspec.structs.replace


@dataclass(frozen=True, slots=True)
class Part:
    """`request` gives the choices (or vectors, or pictures) from number `first` on."""

    request: Request
    first: int


def split(request: Request, plan: tuple[Candidate, ...]) -> tuple[tuple[Part, ...], tuple[Candidate, ...]]:
    """The parts of `request`, none where it goes out whole, and the candidates that may serve it so. Pure.

    Choices are split when any candidate needs it, so that each of them may take over. Vectors of two models say
    nothing about each other: parts of one answer only go where the first candidate's model is.
    """
    if type(request) is ChatRequest:
        if "n" not in request.fields and not request.prompts:
            return (), plan
        return _split_chat(request, plan), plan
    if isinstance(request, EmbeddingsRequest) and len(request.inputs) > 1:
        if not plan[0].deployment.one_input:
            return (), tuple(one for one in plan if not one.deployment.one_input)
        inputs = [Part(_replace(request, inputs=(text,)), place) for place, text in enumerate(request.inputs)]
        return tuple(inputs), _of_one_model(plan)
    if isinstance(request, ImagesRequest) and request.n > 1 and _takes_one(plan):
        return tuple(Part(_replace(request, n=1), place) for place in range(request.n)), plan
    return (), plan


def _split_chat(request: ChatRequest, plan: tuple[Candidate, ...]) -> tuple[Part, ...]:
    choices: int = request.field("n") or 1
    each = [_with_prompt(request, prompt) for prompt in request.prompts] or [request]
    if len(each) * choices > MAX_CHOICES:
        raise Invalid(
            f"n: {len(each)} prompts of {choices} choices are more than {MAX_CHOICES} answers; ask in several calls.",
            param="n",
        )
    if choices > 1 and _takes_one(plan):
        single = [_replace(one, fields=_without_n(one)) for one in each]
        return tuple(Part(one, place * choices + more) for place, one in enumerate(single) for more in range(choices))
    return tuple(Part(one, place * choices) for place, one in enumerate(each)) if request.prompts else ()


def _with_prompt(request: ChatRequest, prompt: str) -> ChatRequest:
    messages = Raw(msgspec.json.encode([{"role": "user", "content": prompt}]))
    return _replace(request, prompt=prompt, prompts=(), fields=request.fields | {"messages": messages})


def _without_n(request: ChatRequest) -> dict[str, Raw]:
    return {name: raw for name, raw in request.fields.items() if name != "n"}


def _takes_one(plan: tuple[Candidate, ...]) -> bool:
    return any(candidate.deployment.one_choice for candidate in plan)


def _of_one_model(plan: tuple[Candidate, ...]) -> tuple[Candidate, ...]:
    first = plan[0].deployment
    model = (first.kind, first.upstream_model)
    return tuple(one for one in plan if (one.deployment.kind, one.deployment.upstream_model) == model)


async def send(
    call: Call, parts: tuple[Part, ...], plan: tuple[Candidate, ...], gateway: Gateway
) -> AsyncGenerator[Piece, None]:
    """The events of all parts as they come, or their answers as one. Raises what the first failed part raised.

    Closing it cancels every part, and returns when their records are written.
    """
    answers: dict[int, Piece] = {}
    started = False
    async with _Crew(call, parts, plan, gateway) as crew:
        while (came := await crew.next()) is not None:
            part, event = came
            if isinstance(event, Answer | Embeddings | Images):
                answers[part.first] = event
            elif isinstance(event, Start):
                if not started:
                    yield event
                started = True
            elif not isinstance(event, Usage):
                yield _renumbered(event, part.first)
    usage = meter.used(call)
    if answers:
        yield _joined([answers[part.first] for part in parts], usage)
    elif usage is not None:
        yield usage


def _renumbered(event: Piece, first: int) -> Piece:
    if first and isinstance(event, Delta | Reasoning | Refusal | ToolDelta | Finish):
        return _replace(event, choice=event.choice + first)
    return event


def _joined(answers: list[Piece], usage: Usage | None) -> Piece:
    """One answer out of those of all parts, in their order."""
    first = answers[0]
    if isinstance(first, Answer):
        choices = [choice for answer in answers if isinstance(answer, Answer) for choice in answer.choices]
        counted = tuple(_replace(choice, index=place) for place, choice in enumerate(choices))
        return _replace(first, choices=counted, usage=usage)
    if isinstance(first, Embeddings):
        vectors = [vector for answer in answers if isinstance(answer, Embeddings) for vector in answer.vectors]
        return _replace(first, vectors=tuple(vectors), usage=usage)
    assert isinstance(first, Images), "nothing else is split"
    pictures = [picture for answer in answers if isinstance(answer, Images) for picture in answer.images]
    return _replace(first, images=tuple(pictures), usage=usage)


_Came = tuple[Part, Piece] | Exception | None


class _Crew:
    """Runs the parts, `MAX_TOGETHER` at a time, and hands over their events one by one.

    A bounded queue stands between: who reads slowly holds up every part, as one stream would be.
    """

    __slots__ = ("_call", "_came", "_gateway", "_left", "_plan", "_tasks", "_working")

    def __init__(self, call: Call, parts: tuple[Part, ...], plan: tuple[Candidate, ...], gateway: Gateway) -> None:
        self._call = call
        self._plan = plan
        self._gateway = gateway
        self._left: Iterator[Part] = iter(parts)
        self._came: asyncio.Queue[_Came] = asyncio.Queue(MAX_WAITING)
        self._working = min(MAX_TOGETHER, len(parts))
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self._working)]
        return self

    async def next(self) -> tuple[Part, Piece] | None:
        """The next event of any part; None when all have ended. Raises what a part raised."""
        while self._working:
            came = await self._came.get()
            if isinstance(came, Exception):
                raise came
            if came is not None:
                return came
            self._working -= 1
        return None

    async def _work(self) -> None:
        try:
            for part in self._left:
                async with closing(events := dispatch.send(self._call, self._plan, self._gateway, part.request)):
                    async for event in events:
                        await self._came.put((part, event))
        except Exception as error:  # noqa: BLE001 - `next` raises it in the task of whoever reads
            await self._came.put(error)
        else:
            await self._came.put(None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            self._call.cut_by = PART_FAILED  # what still runs ends for this reason; the client has not left
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
