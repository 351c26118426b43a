"""Every protocol between packages: what the pipeline needs, and who may provide it is not its business."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

from xrouter.core.call import Attempt, Call, Caller, Scope
from xrouter.core.chat import ChatRequest, Event, Usage
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.limits import Draw, Grant
from xrouter.core.records import AttemptFilter, AttemptRecord, KeyRecord, NewKey, Page
from xrouter.core.rerank import Ranking, RerankRequest


@runtime_checkable
class ChatProvider(Protocol):
    """What every provider is. What else it can do are the ports below: a provider has those methods that its vendor
    serves, and its deployments say which models they hold for (`Deployment.serves`).

    Yields the answer's events in order. A non-streamed request (`request.stream` false) yields exactly one
    `Answer`; a streamed one ends with a `Finish` for each choice, and a `Usage` where the vendor gave one.
    Raises an `UpstreamError` for everything that goes wrong upstream, a stream that ends without a finish
    included. Calls `attempt.sending()` before the first byte and `attempt.answered()` at the status line.
    Closing the generator cuts the upstream connection at once.
    """

    def chat(self, request: ChatRequest, attempt: Attempt) -> AsyncGenerator[Event, None]: ...


@runtime_checkable
class EmbeddingsProvider(Protocol):
    """Makes vectors. The duties towards `attempt`, and the errors, are those of `chat`."""

    async def embed(self, request: EmbeddingsRequest, attempt: Attempt) -> Embeddings: ...


@runtime_checkable
class ImagesProvider(Protocol):
    """Makes pictures. The duties towards `attempt`, and the errors, are those of `chat`."""

    async def draw(self, request: ImagesRequest, attempt: Attempt) -> Images: ...


@runtime_checkable
class RerankProvider(Protocol):
    """Sorts documents. The duties towards `attempt`, and the errors, are those of `chat`."""

    async def rerank(self, request: RerankRequest, attempt: Attempt) -> Ranking: ...


@runtime_checkable
class TokenCounter(Protocol):
    """Counts by the vendor's own tokeniser. Not billed, so no attempt. Raises `UpstreamError`."""

    async def count_tokens(self, model: str, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, for the model of the vendor's id `model`."""
        ...


@runtime_checkable
class ModelLister(Protocol):
    """Knows what the account may use. Not billed, so no attempt. Raises `UpstreamError`."""

    async def list_models(self) -> list[str]:
        """The vendor's ids."""
        ...


@runtime_checkable
class BalanceReader(Protocol):
    """Knows what is left of a prepaid account. Not billed, so no attempt. Raises `UpstreamError`."""

    async def balance(self) -> dict[str, float] | None:
        """What is left by the vendor's own names (tokens, for vendors that sell those); None where the account pays
        afterwards."""
        ...


@runtime_checkable
class Closing(Protocol):
    """A provider with work beside its calls, which must be done before its transport closes."""

    async def close(self) -> None:
        """Finish it, within a time of the provider's own, and give back what it opened."""
        ...


class KeyStore(Protocol):
    """Finds callers by credential."""

    def known(self, credential: str) -> Caller | None:
        """The caller from memory, without waiting; None when memory does not hold it."""
        ...

    async def look_up(self, credential: str) -> Caller | None:
        """The caller from the database. Raises `Overloaded` when the database cannot be asked."""
        ...


class KeyAdmin(Protocol):
    """Makes, lists and changes keys. What it changes is in force on this process at once and on every other
    worker within `key_refresh_s` (1 s)."""

    async def create(
        self, *, name: str, scopes: frozenset[Scope], created_by: str, expires_at: float | None = None
    ) -> NewKey:
        """Raises ValueError for a name or an end that no key may have (`core.api_key.check_new`)."""
        ...

    async def get(self, key_id: str) -> KeyRecord | None: ...

    async def page(self, cursor: str | None, limit: int) -> Page[KeyRecord]:
        """Raises ValueError for a cursor that we did not make."""
        ...

    async def disable(self, key_id: str) -> KeyRecord | None:
        """The key as it is now, or None when there is none."""
        ...


class AttemptLog(Protocol):
    """Reads the books. What the journal took is here within a second."""

    async def of_call(self, call_id: str) -> tuple[AttemptRecord, ...]:
        """The attempts of one call in their order; empty when unknown."""
        ...

    async def page(self, wanted: AttemptFilter, cursor: str | None, limit: int) -> Page[AttemptRecord]:
        """Newest first. Raises ValueError for a cursor that we did not make."""
        ...

    async def spent_micro(self, key_id: str, since: tuple[float, ...]) -> tuple[int, ...]:
        """What the attempts of a key cost that started at or after each point of `since`, in micro-roubles."""
        ...


class Journal(Protocol):
    """The local crash-safe record of attempts. Both calls are synchronous, survive kill -9 of this process
    once they return, and never raise into the pipeline's `finally`."""

    def intend(self, attempt: Attempt, expected: Usage, expected_cost_micro: int) -> None:
        """The attempt's first byte is about to leave. `expected` and its cost in micro-roubles are what the books
        will say should this process die before the outcome. Raises `Overloaded` when nothing can be written."""
        ...

    def settle(self, attempt: Attempt) -> None:
        """The attempt has ended; its fields are final. Called only for what was an attempt (`gateway/record.py`)."""
        ...


class Slots(Protocol):
    """Concurrency that is shared by every worker of this host."""

    def hold(self, name: str, limit: int, deadline: float) -> AbstractAsyncContextManager[None]:
        """Hold one of `limit` slots called `name`, 0 for any number; waits in turn until the monotonic `deadline`,
        then raises TimeoutError. A process that dies gives its slots back."""
        ...


class Counters(Protocol):
    """What is used of each limit, counted for every process of this host. Never waits for a network."""

    @property
    def alone(self) -> bool:
        """No other process counts here: what is drawn in advance is missed by nobody."""
        ...

    def exchange(self, draws: Sequence[Draw]) -> list[Grant]:
        """Serve all of `draws`, each of another counter, or give none of them anything; what comes back is taken in
        any case."""
        ...

    def note(self, draws: Sequence[Draw]) -> None:
        """So many units (`want`) were given by somebody else who counts for more than this host: count them here as
        far as there is room, so that this host can take over."""
        ...


class SharedCounters(Protocol):
    """The same for several hosts, over a network: nothing here waits, answers come by call-back."""

    @property
    def away(self) -> bool:
        """They cannot be asked at present."""
        ...

    def exchange(self, draws: Sequence[Draw], then: Callable[[list[Grant] | None], None]) -> None:
        """As `Counters.exchange`. `then` is called on the event loop with what was granted, or None where nobody
        could be asked in time."""
        ...

    def recall(self, counters: Sequence[str]) -> None:
        """Ask the other processes to give back what they do not use of these."""
        ...


class Topics(Protocol):
    """Tells every process of every node that something has changed. Best effort: what it carries must also be found
    out without it, only later."""

    def publish(self, topic: str, words: str = "") -> None:
        """Tell everybody who subscribed, ourselves too. Does not wait, and never raises."""
        ...

    def subscribe(self, topic: str, heard: Callable[[str], None]) -> None:
        """Call `heard` on the event loop with the words of each message, and with none after every time in which
        messages may have been lost."""
        ...


class Telemetry(Protocol):
    """Counts. Every method is cheap and never raises."""

    def attempt_ended(self, attempt: Attempt) -> None: ...

    def call_ended(
        self, call: Call, status: int, code: str | None, seconds: float, client: Callable[[], str | None]
    ) -> None:
        """The client has its answer, or has left (status 499). `client` gives its address; it is called only where
        that is written down."""
        ...

    def request_refused(self, dialect: str, status: int, code: str | None) -> None:
        """A request ended before it became a call: no key, a bad body, an unknown URL."""
        ...

    def first_content(self, call: Call, seconds: float) -> None:
        """Seconds from the client's request to the first content of a stream (TTFT)."""
        ...

    def in_flight(self, change: int) -> None: ...
