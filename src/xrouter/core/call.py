"""A call: one client request with everything the pipeline must know about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from io import StringIO
from math import inf
from typing import TypeAlias

from msgspec import Struct, field

from xrouter.core.chat import Answer, ChatRequest, Event, Usage
from xrouter.core.decision import Explanation
from xrouter.core.deployment import Deployment
from xrouter.core.embeddings import Embeddings, EmbeddingsRequest
from xrouter.core.errors import NEVER_LEFT, Invalid
from xrouter.core.ids import ulid
from xrouter.core.images import Images, ImagesRequest
from xrouter.core.limits import Hold, Limit
from xrouter.core.money import Price
from xrouter.core.operation import Operation
from xrouter.core.preferences import Preferences
from xrouter.core.rerank import Ranking, RerankRequest

Request: TypeAlias = ChatRequest | EmbeddingsRequest | ImagesRequest | RerankRequest
Whole: TypeAlias = Answer | Embeddings | Images | Ranking
"""The one event of a call that is not streamed."""
Piece: TypeAlias = Event | Whole
"""One piece of an answer, streamed or whole."""


class Scope(StrEnum):
    """What a key may do. `admin` includes the others."""

    MODELS = "models"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls: the immutable picture of an API key at the moment of the look-up, with what its user, team and
    organisation add. What was spent or counted is never in it.

    `expires_at` is seconds since the epoch, None for never. `disabled` says that the key or anybody above it is.
    `models` are groups of globs over model ids (`core/globs.py`), one from each level that has any: a model must match
    one glob of every group. `operations` are the endpoints, `networks` the addresses (CIDR) that it may be used with;
    None allows all. `limits` are those of every level, and all must pass; `each` those that hold for each end user or
    each tag (their level says which) of the `subject` that they name: `Limit.for_name` makes them somebody's.
    """

    key_id: str
    name: str
    scopes: frozenset[Scope]
    expires_at: float | None = None
    disabled: bool = False
    organisation_id: str | None = None
    team_id: str | None = None
    user_id: str | None = None
    models: tuple[tuple[str, ...], ...] = ()
    operations: frozenset[Operation] | None = None
    networks: tuple[str, ...] | None = None
    limits: tuple[Limit, ...] = ()
    each: tuple[Limit, ...] = ()

    def may(self, scope: Scope) -> bool:
        return scope in self.scopes or Scope.ADMIN in self.scopes


class Phase(StrEnum):
    """How far an attempt came. What may be tried after a failure depends on it: `gateway/retry.py`."""

    CONNECTING = "connecting"  # no byte sent
    SENT = "sent"  # some or all of the request sent, no status yet
    STATUS = "status"  # status line received, and it is no success
    BODY = "body"  # 2xx, nothing shown to the client
    SHOWN = "shown"  # the client has seen content


class State(StrEnum):
    """What became of an attempt. `open` while it runs; `interrupted` when its process died first."""

    OPEN = "open"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"


class Call(Struct, eq=False):  # a Struct, as all that every call makes: its constructor is not Python code
    """One client request. `id` is the public `chatcmpl-...` id and the key of `/generation`.

    `started_at` is wall time, `started` and `deadline` are points on the monotonic clock, all in seconds;
    `timeout_s` is what the client asked for, and the pipeline makes the deadline from it. `attempts` are the
    upstream calls in order; `served_model` is the model id that answered, in the client's own spelling. `cut_by`
    says who ends the call should it end before its answer does. `strict`: a parameter that a vendor has no word for
    is an error instead of being dropped. `may_continue`: an answer that breaks off may be gone on with by another
    attempt; `resumed`: it was, and the attempts that showed something all have a part in it. `end_user` is a pseudonym
    of whoever the client says that it asks for; `hold` what it holds of its caller's limits, None where there are none.
    `tags` are the client's own words for what the call is for, each once. `preferences` are its wishes for the route,
    `session` its name for what belongs together. `on_operator`: no client waits for it or pays for it.

    `explained`: the client wants to know why its answer came from where it came. `decision` is what the choice was made
    from, packed (`core/decision.py`), None where there was nothing to choose, and `explanation` how it was made, for
    whoever wants to know. `sticks` are 64 bits for each thing that a choice may stick to and somebody has asked about,
    0 for one that the request does not have.
    """

    request: Request
    caller: Caller
    request_id: str
    started_at: float
    started: float
    timeout_s: float | None = None
    deadline: float = inf
    client_request_id: str | None = None
    dialect: str = "openai"
    id: str = field(default_factory=lambda: f"chatcmpl-{ulid()}")
    attempts: list["Attempt"] = field(default_factory=list)
    served_model: str | None = None
    cut_by: str = "client_left"
    strict: bool = False
    may_continue: bool = True
    resumed: bool = False
    end_user: str | None = None
    hold: Hold | None = None
    tags: tuple[str, ...] = ()
    preferences: Preferences | None = None
    session: str | None = None
    explained: bool = False
    decision: bytes | None = None
    explanation: Explanation | None = None
    sticks: dict[str, int] | None = None
    on_operator: bool = False

    @property
    def upstream_calls(self) -> int:
        """How many of its attempts called a vendor: not those that waited for a slot in vain, or still do."""
        made = 0
        for one in self.attempts:
            if one.phase is not Phase.CONNECTING or (one.error is not None and one.error not in NEVER_LEFT):
                made += 1
        return made

    @property
    def served(self) -> "Attempt | None":
        """The attempt that answers: the last one that showed something to the client, else the last one."""
        for attempt in reversed(self.attempts):
            if attempt.phase is Phase.SHOWN and not attempt.on_operator:
                return attempt
        return self.attempts[-1] if self.attempts else None

    @property
    def cost_micro(self) -> int:
        """What its attempts cost the client, failed ones that were billed included, in micro-roubles."""
        attempts = self.attempts
        if len(attempts) == 1:
            return attempts[0].cost_micro
        return sum([one.cost_micro for one in attempts if not one.on_operator])

    def upstream_s(self, now: float) -> float:
        """Seconds until `now` (on the monotonic clock) in which at least one attempt ran; parts of a call run side by
        side."""
        if len(self.attempts) == 1:  # nearly always
            only = self.attempts[0]
            return (now if only.ended is None else only.ended) - only.began
        total, covered = 0.0, -inf
        for attempt in sorted(self.attempts, key=_began):
            end = now if attempt.ended is None else attempt.ended
            if end > covered:
                total += end - max(attempt.began, covered)
                covered = end
        return total


class Attempt(Struct, eq=False):
    """One upstream call. Dispatch makes it and ends it; the provider and the transport set its marks.

    `began` and `ended` are points on the monotonic clock, `*_at` are wall time. `cost_micro` is micro-roubles.
    `model` is the id that the client asked for and that led to this deployment (an alias or the id itself).
    `text` is what came of a streamed answer's text, `output_bytes` the size of all else that was written (a whole
    answer, reasoning, tool calls). `error` is a short code such as `provider_timeout`, never a vendor's text. `part` is
    what this attempt asks for where one call became several (`gateway/fan_out.py`), None where it asks for the whole.
    `price` is the one in force when it started, None where there is none, which the books say. `units` counts what the
    vendor made besides tokens: pictures. `dropped` names the parameters that did not leave, `clamped` those that left
    with another value, and that value. `beside`: it was made beside another one that still ran. `on_operator`: the
    client has nothing of it and does not pay for it. `cut_by` says who ended it where that is not who ended the call.
    """

    call: Call
    deployment: Deployment
    model: str
    number: int
    began: float
    started_at: float
    journal_intent: Callable[["Attempt"], None]
    id: str = field(default_factory=ulid)
    phase: Phase = Phase.CONNECTING
    state: State = State.OPEN
    upstream_status: int | None = None
    upstream_request_id: str | None = None
    usage: Usage | None = None
    text: StringIO = field(default_factory=StringIO)
    output_bytes: int = 0
    cost_micro: int = 0
    error: str | None = None
    finish_reason: str | None = None
    dropped: tuple[str, ...] = ()
    clamped: Mapping[str, float] | None = None
    first_content_at: float | None = None
    ended: float | None = None
    ended_at: float | None = None
    journaled: bool = False
    part: Request | None = None
    units: int = 0
    beside: bool = False
    on_operator: bool = False
    cut_by: str | None = None
    price: Price | None = None

    def __post_init__(self) -> None:
        price = self.deployment.price
        self.price = None if price is None else price.at(self.started_at)

    @property
    def received_bytes(self) -> int:
        """How much the vendor has written, as UTF-8."""
        return self.output_bytes + len(self.text.getvalue().encode())

    @property
    def request(self) -> Request:
        """What the vendor is asked for."""
        return self.call.request if self.part is None else self.part

    def drop(self, names: tuple[str, ...]) -> None:
        """The vendor has no word for these parameters: they do not leave. Called by the adapter before anything is
        sent. Raises `Invalid` where the client asked to be strict."""
        if names and self.call.strict:
            raise Invalid(
                f"{self.deployment.id} knows the parameter '{names[0]}', but has no word for what it asks for here. "
                "Send another value, leave it out, or do not be strict."
                if names[0] in self.deployment.parameters
                else f"{self.deployment.id} does not know the parameter '{names[0]}'. "
                "Leave it out, or do not be strict.",
                code="unsupported_parameter",
                param=names[0],
            )
        self.dropped = names

    def clamp(self, values: Mapping[str, float]) -> None:
        """These parameters leave with the nearest value that the vendor takes. Called as `drop` is, and raises as it
        does."""
        if values and self.call.strict:
            name, value = next(iter(values.items()))
            raise Invalid(
                f"{self.deployment.id} would get '{name}' as {value:g}, the nearest that it takes. "
                "Send that, or do not be strict.",
                code="unsupported_parameter",
                param=name,
            )
        self.clamped = values or None

    def sending(self) -> None:
        """The connection is held and the first byte is about to leave: the intent goes to the journal now.

        May be called again when a request is repeated under the same attempt (a login that had expired).
        """
        if not self.journaled:
            self.journal_intent(self)
            self.journaled = True
        self.phase = Phase.SENT

    def answered(self, status: int, request_id: str | None) -> None:
        """The status line came. With a success the answer has begun, whatever becomes of its body."""
        self.phase = Phase.BODY if 200 <= status < 300 else Phase.STATUS
        self.upstream_status = status
        self.upstream_request_id = request_id


def _began(attempt: Attempt) -> float:
    return attempt.began
