"""Every protocol between packages: what the pipeline needs, and who may provide it is not its business."""

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from xrouter.core.accounts import ANYWHERE, Account, Kind, Place, Plan
from xrouter.core.call import Attempt, Call, Caller
from xrouter.core.chat import ChatRequest, Event, Usage
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.limits import Draw, Grant
from xrouter.core.records import AccountSpec, AttemptFilter, AttemptRecord, KeyRecord, KeySpec, NewKey, Page, PlanSpec
from xrouter.core.rerank import Ranking, RerankRequest
from xrouter.core.window import Window


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
    worker within `key_refresh_s` (1 s). What is not `within` the place of whoever asks is not there."""

    async def make(self, spec: KeySpec, created_by: str, within: Place = ANYWHERE) -> NewKey:
        """Raises ValueError for a name or an end that no key may have (`core.api_key.check_new`), `NotFound` and
        `Invalid` for a place or a plan that it cannot have. Who may give what is not asked here: `core/rights.py`."""
        ...

    async def get(self, key_id: str, within: Place = ANYWHERE) -> KeyRecord | None: ...

    async def page(self, cursor: str | None, limit: int, within: Place = ANYWHERE) -> Page[KeyRecord]:
        """Raises ValueError for a cursor that we did not make."""
        ...

    async def numbered(
        self, offset: int, limit: int, within: Place = ANYWHERE, *, disabled: bool = True, expired: bool = True
    ) -> tuple[KeyRecord, ...]:
        """Newest first, from number `offset` on; without disabled or expired ones on demand."""
        ...

    async def change(
        self, key_id: str, edit: Callable[[KeyRecord], KeySpec], within: Place = ANYWHERE
    ) -> KeyRecord | None:
        """The key as `edit` has made it, or None when there is none. What `edit` raises undoes everything."""
        ...

    async def rotate(
        self, key_id: str, grace_s: float, check: Callable[[KeyRecord], None], within: Place = ANYWHERE
    ) -> NewKey | None:
        """A new secret; the one before works for `grace_s` seconds more. What `check` raises undoes everything."""
        ...


class AccountAdmin(Protocol):
    """Makes, lists and changes organisations, teams and users. `within` and the time as for keys."""

    async def make(self, kind: Kind, spec: AccountSpec, above: Place, within: Place = ANYWHERE) -> Account:
        """Below `above`. Raises `Invalid`, `NotFound`, `Forbidden`."""
        ...

    async def get(self, kind: Kind, account_id: str, within: Place = ANYWHERE) -> Account | None: ...

    async def page(self, kind: Kind, cursor: str | None, limit: int, within: Place = ANYWHERE) -> Page[Account]:
        """Raises ValueError for a cursor that we did not make."""
        ...

    async def change(
        self, kind: Kind, account_id: str, edit: Callable[[Account], AccountSpec], within: Place = ANYWHERE
    ) -> Account | None:
        """Raises `Forbidden` for whoever does not stand above it."""
        ...

    async def named(self, ids: Collection[str]) -> dict[str, Account]:
        """Those of these accounts that are there, by id; of whatever kind and place."""
        ...

    async def remove(
        self,
        kind: Kind,
        account_id: str,
        within: Place = ANYWHERE,
        check: Callable[[Account, Sequence[KeyRecord]], None] | None = None,
    ) -> Account | None:
        """With its keys, whose rows stay without their secrets; `check` sees these keys, and what it raises undoes
        everything. Raises `Conflict` while another account stands below it, or, below a team or an organisation, a key
        that works."""
        ...


class PlanAdmin(Protocol):
    """Makes, lists and changes plans, which belong to the installation."""

    async def make(self, spec: PlanSpec) -> Plan:
        """Raises `Conflict` for a name that is taken."""
        ...

    async def get(self, plan_id: str) -> Plan | None: ...

    async def all(self) -> dict[str, Plan]:
        """By id, the built-in ones included."""
        ...

    async def page(self, cursor: str | None, limit: int) -> Page[Plan]:
        """Raises ValueError for a cursor that we did not make."""
        ...

    async def change(self, plan_id: str, edit: Callable[[Plan], PlanSpec]) -> Plan | None: ...

    async def remove(self, plan_id: str) -> Plan | None:
        """Raises `Conflict` for a built-in plan, and for one that somebody has."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """The right to make a write. `token` tells it from a later one under the same name."""

    name: str
    token: str


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    status: int
    body: bytes


class IdempotentWrites(Protocol):
    """Remembers for a day what was answered to a write, so that repeating it does not do it again."""

    async def begin(self, name: str, fingerprint: bytes) -> Turn | StoredAnswer:
        """Take the turn for the write called `name` (whoever writes and its Idempotency-Key), or what was answered to
        it before. `fingerprint` says what the request is. Raises `IdempotencyMismatch` where it was another one, and
        `Conflict` while the first one runs."""
        ...

    async def keep(self, turn: Turn, status: int, body: bytes) -> None:
        """The write is done, and this was answered. Encrypted: it may hold a key's text."""
        ...

    async def free(self, turn: Turn) -> None:
        """The write was refused or failed: it may be tried again under its name."""
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

    async def spent_by_each(
        self, key_ids: Sequence[str], since: tuple[float, ...]
    ) -> Mapping[str, tuple[tuple[int, ...], float]]:
        """The same for several keys, and when each was last used, in seconds since the epoch. Keys without an attempt
        are left out."""
        ...


class Uptimes(Protocol):
    """Reads out of the books how well each deployment did."""

    async def uptimes(self, since: Sequence[float]) -> Mapping[str, tuple[float | None, ...]]:
        """Percent by deployment id for the time from each point (seconds since the epoch) to now: the share of the
        minutes with attempts in which four of five succeeded; None where there was no attempt. What was the client's
        doing, and 429s, count for nothing. Raises `Overloaded` when the database cannot be asked."""
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


class QueueFull(Exception):
    """So many wait already that one more would not be served in time."""


class Room(Protocol):
    """The slots of one credential, as far as this process sees them. `window` is what the vendor bears, as far as that
    was learnt; whoever ends a call tells it."""

    window: Window

    @property
    def running(self) -> int:
        """Slots that this process holds."""
        ...

    def take(self) -> int | None:
        """A slot at once, or None: none is free, or somebody waits already."""
        ...

    async def wait(self, tenant: str, deadline: float) -> int:
        """A slot when it is this tenant's turn. Raises TimeoutError at the monotonic `deadline`, `QueueFull` at once
        where too many wait, and later where a tenant with fewer of its own waiting needs the place."""
        ...

    def give_back(self, index: int) -> None: ...


class Slots(Protocol):
    """How many calls a credential serves at once, shared by every worker of this host. A process that dies gives its
    slots back."""

    def room(self, name: str, limit: int, most_waiting: int, start: int = 0) -> Room:
        """The room called `name`: `limit` slots, 0 for no other limit than the window, which begins with `start`
        (0: with all). At most `most_waiting` wait in this process. Always the same object for a name."""
        ...

    def load(self, name: str) -> float:
        """How busy the room is: who runs and who waits here, for each slot. Without a limit their number."""
        ...


SLOTS_LEASE_S = 15.0
"""A node that says nothing for so long is believed to be gone, and its slots go to others."""


class SlotClaim(NamedTuple):
    """What a node says of one credential: it may be using `held` of `limit` slots, and has work for `wanted`."""

    name: str
    limit: int
    held: int
    wanted: int


class SlotLease(NamedTuple):
    """What it is told: it has `slots` from now on, and is to come down to `target` where that is less."""

    slots: int
    target: int


class SharedSlots(Protocol):
    """Divides the slots of credentials among nodes, over a network and beside the calls."""

    async def exchange(self, claims: Sequence[SlotClaim]) -> list[SlotLease] | None:
        """One lease for each claim; None where nobody could be asked in time. The slots of all nodes are never more
        than the limit."""
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

    def follow(self, draws: Sequence[Draw], grants: Sequence[Grant]) -> list[bool]:
        """That is what shared counters have said: this host's counters become its share of it, so that this host can
        take over. Says of which something was used that they have not been told."""
        ...

    def untold(self, draws: Sequence[Draw]) -> list[float]:
        """How many units of each this host gave that shared counters do not know of; who asks tells them."""
        ...

    def hold(self, draw: Draw) -> None:
        """Of running calls so many are held here now."""
        ...


class SharedCounters(Protocol):
    """The same for several hosts, over a network: nothing here waits, answers come by call-back.

    `on_back` is called when they have been away and can be asked again: first they must be told (`tell`) what was used
    without them, and what runs.
    """

    on_back: Callable[[], None]

    @property
    def away(self) -> bool:
        """They cannot be asked at present."""
        ...

    def exchange(self, draws: Sequence[Draw], then: Callable[[list[Grant] | None], None]) -> None:
        """As `Counters.exchange`. `then` is called on the event loop with what was granted, or None where nobody
        could be asked in time."""
        ...

    def tell(self, draws: Sequence[Draw]) -> None:
        """What these bring `back` (below 0: were used), and what they hold. It arrives once, as soon as it can, and
        before anything that is asked for later."""
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
