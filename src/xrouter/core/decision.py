"""What a route was chosen from: everything that the choice read, and nothing that a client said.

The choice is a pure function (`gateway/route.py`), so whoever has this and the configuration of that revision can make
it again, with every filter and every term: that is how a call is explained afterwards, and how `xrouter route replay`
proves it. Packed once, as MessagePack arrays.

A field is known by its place, and a stored decision outlives the release that made it: a new field goes last and has a
default.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from xrouter.core.preferences import Preferences


class Seen(Struct, frozen=True, array_like=True, gc=False):
    """The vitals of one deployment (by `Deployment.key`) at that moment, as `core/vitals.py` has them; the times are on
    the monotonic clock, -inf for never. `ttft` and `rate` are the percentiles 50, 75, 90, 99 of the seconds to the
    first content, and 50, 25, 10, 1 of the tokens a second: only where the request prefers something of them."""

    key: str
    in_flight: int = 0
    ttft_s: float | None = None
    ttft_at: float = float("-inf")
    tokens_per_s: float | None = None
    failures: int = 0
    last_failure_at: float = float("-inf")
    ejected: str | None = None
    ejected_until: float = float("-inf")
    ttft: tuple[float | None, ...] = ()
    rate: tuple[float | None, ...] = ()


class Asked(Struct, frozen=True, array_like=True, gc=False):
    """What the choice may read of the request, without what it says.

    `fields` are the names of those of its parameters that matter: all of them where it is strict. `messages_bytes` and
    `tools_bytes` are the lengths of their JSON text, `least_tokens` the fewest tokens that prompt and answer can take,
    None where nobody had to count. `metadata` are the values that a rule of the route asks for. `prompt_tokens` is the
    estimate for what is no chat, 0 where nobody asked. `output_guess` is how long answers of this model usually were.
    """

    operation: str
    model: str
    models: tuple[str, ...] = ()
    stream: bool = False
    max_tokens: int | None = None
    fields: tuple[str, ...] = ()
    inputs: tuple[str, ...] = ("text",)
    messages_bytes: int = 0
    tools_bytes: int = 0
    least_tokens: int | None = None
    json_schema: bool = False
    metadata: Mapping[str, str] = {}
    prompt_tokens: int = 0
    output_guess: int = 0


class Asker(Struct, frozen=True, array_like=True, gc=False):
    """Who asked, as far as a route may depend on it. `sticks` are 64 bits for each thing that a choice may stick to
    (session, user, prompt) and somebody asked about; `models` and `operations` are what the key may use."""

    key: str = ""
    team: str | None = None
    organisation: str | None = None
    user: str | None = None
    tags: tuple[str, ...] = ()
    strict: bool = False
    preferences: Preferences | None = None
    models: tuple[tuple[str, ...], ...] = ()
    operations: tuple[str, ...] | None = None
    sticks: Mapping[str, int] = {}
    session: str | None = None


class Decision(Struct, frozen=True, array_like=True, gc=False):
    """`revision` names the configuration, `now` and `wall` are the moment on the monotonic clock and since the epoch.
    `seen` are all deployments that there were to choose from, `order` the numbers of those that were to be tried."""

    revision: str
    seed: int
    now: float
    wall: float
    asked: Asked
    asker: Asker
    seen: tuple[Seen, ...]
    order: tuple[int, ...]


KEY = "key"
"""The filter that takes out what the caller's key may not use."""


class Removed(Struct, frozen=True):
    """`filter` took a candidate out (`gateway/eligibility.py` has the words), for that reason."""

    filter: str
    reason: str


class Considered(Struct, frozen=True, omit_defaults=True):
    """One candidate of an explained choice. `place` is its place in the order of trial, from 1; `removed` why it has
    none. `moved` says why it stands behind others that its `score` would put it before; the terms of the score are
    those of the route's strategy (docs/explain.md). `vitals` are what was known of it at that moment."""

    model: str
    deployment: str
    provider: str
    place: int | None = None
    removed: Removed | None = None
    moved: str | None = None
    score: Mapping[str, Any] = {}
    vitals: Mapping[str, Any] = {}


class Explanation(Struct, frozen=True, omit_defaults=True):
    """How a route was chosen. By asked-for name: which strategy gave the order, which rule held, which canary was drawn
    (`strategies`, `rules`, `canaries`).

    `revision` names the configuration, `seed` (hexadecimal) is what every draw came from. `panic`: everybody was
    ejected, so that counted for nobody. `tokens` are prompt and answer as they were expected, where the price decided.
    `error`: nobody was left, and what the client was told. `hidden` counts the candidates that are not told because the
    key that asks may not use them."""

    revision: str
    seed: str
    strategies: Mapping[str, str]
    candidates: tuple[Considered, ...]
    rules: Mapping[str, str] = {}
    canaries: Mapping[str, str] = {}
    panic: bool = False
    tokens: tuple[int, int] | None = None
    error: str | None = None
    hidden: int = 0

    def without_forbidden(self) -> "Explanation":
        """For a key that is no admin's: what it may not use it does not hear of."""
        kept = tuple([one for one in self.candidates if one.removed is None or one.removed.filter != KEY])
        return msgspec.structs.replace(self, candidates=kept, hidden=len(self.candidates) - len(kept))


class Tried(Struct, frozen=True):
    """One attempt of an explained call, and what it met. `latency_ms` is to its first content, or to its end where none
    came."""

    number: int
    deployment: str
    state: str
    phase: str
    status: int | None = None
    error: str | None = None
    latency_ms: int | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Decision).decode


def pack(decision: Decision | tuple[Any, ...]) -> bytes:
    """A decision, or the tuple of its fields in their order, as it is stored."""
    return _encode(decision)


def unpack(packed: bytes) -> Decision:
    """Raises ValueError for what no release of ours has packed."""
    return _decode(packed)
