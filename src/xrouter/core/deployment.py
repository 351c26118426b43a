"""A deployment: provider x credential x model x base URL, with its price and its limits."""

from dataclasses import dataclass, field

from xrouter.core.money import Price
from xrouter.core.operation import Operation

MAX_WAITING = 1_000
"""Calls that wait in one worker for a slot of one credential, where the operator says nothing."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each part of an attempt may take, in seconds.

    `connect_s`: name look-up, TCP and TLS. `first_s`: from the request sent to the first content of a stream.
    `idle_s`: between two pieces of content (comments and pings do not count). `total_s` and
    `total_stream_s`: the whole call with all its attempts.
    """

    connect_s: float = 3.0
    first_s: float = 30.0
    idle_s: float = 30.0
    total_s: float = 120.0
    total_stream_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """One way to reach one model.

    `id` is the public model id `provider/name`; several deployments may serve one alias. `price` None means unpriced:
    calls cost 0 and say so; a price that changes holds the later ones behind it (`Attempt.price`). `max_concurrency` is
    the vendor's limit for the credential, shared by every worker of this host under the name `credential`; 0 means
    none. At most `max_waiting` calls of one worker wait for it. `adaptive`: the number is learnt from what the vendor
    refuses, beginning with `start_concurrency` (0: with all). `account` names the credential where the provider has
    several, which get calls by their `weight`; `speaker` is who speaks with the vendor for it, a key of
    `Gateway.providers`: the account, else the provider. `serves` are the operations that this model can do;
    `one_choice` and `one_input` mark vendors that give one choice (`n`) or take one text for an embedding at a time:
    the pipeline then makes an attempt of each. `parameters` are the names of request parameters that a chat with it
    follows, `inputs` what a message may hold (text, image, file, audio), `context_tokens` how much it reads and writes
    together: what clients are told, and None or empty where nobody knows. `base_url` is the operator's own, empty where
    the kind's is used. `key` names the deployment where its health is counted: the same after a reload and in every
    process that reads the same file. `region` is where it processes data, None where nobody says; `tags` are the
    operator's own words for it; `inputs_known` says that somebody has said what `inputs` are. `prefill`: a chat may end
    with the beginning of the answer, and the model goes on exactly there. `fault` is how the client has asked a
    simulated one to fail, which is not held against it.
    """

    id: str
    provider: str
    kind: str
    upstream_model: str
    price: Price | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    max_concurrency: int = 0
    credential: str = ""
    max_waiting: int = field(default=MAX_WAITING, hash=False)
    adaptive: bool = field(default=False, hash=False)
    start_concurrency: int = field(default=0, hash=False)
    account: str = ""
    weight: float = field(default=1.0, hash=False)
    created: int = 0
    serves: frozenset[Operation] = frozenset({Operation.CHAT})
    one_choice: bool = False
    one_input: bool = False
    parameters: frozenset[str] = field(default=frozenset(), hash=False)
    inputs: frozenset[str] = field(default=frozenset({"text"}), hash=False)
    context_tokens: int | None = field(default=None, hash=False)
    prefill: bool = False
    base_url: str = ""
    fault: str = ""
    region: str | None = None
    tags: frozenset[str] = field(default=frozenset(), hash=False)
    inputs_known: bool = False
    key: str = field(init=False, default="", compare=False)
    speaker: str = field(init=False, default="", compare=False)

    def __post_init__(self) -> None:
        own = f"{self.provider}/{self.upstream_model}"
        object.__setattr__(self, "speaker", self.account or self.provider)
        object.__setattr__(self, "key", " ".join([own, *filter(None, (self.credential, self.base_url))]))
