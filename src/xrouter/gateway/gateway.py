"""Everything the pipeline needs, in one value. `app` fills it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xrouter.core.clock import Clock, SystemClock
from xrouter.core.gcra import MemoryCounters
from xrouter.core.ports import ChatProvider, Journal, KeyStore, Slots, Telemetry
from xrouter.core.pseudonym import Pseudonyms
from xrouter.gateway.catalog import Catalog
from xrouter.gateway.health import Health
from xrouter.gateway.hedger import Hedger
from xrouter.gateway.limiter import Limiter
from xrouter.gateway.output_guess import OutputGuess
from xrouter.gateway.rotation import Rota
from xrouter.gateway.shadower import Shadower


def _alone() -> Limiter:
    clock = SystemClock()
    return Limiter(MemoryCounters(clock), clock)


@dataclass(frozen=True, slots=True)
class Gateway:
    """`providers` maps a deployment's `speaker` to the object that speaks with the vendor for it.
    Without `pseudonyms` nobody asks for whom a client calls. The usual `limiter` counts for this process alone.
    `hedgers` and `shadows` are those of the routes that have any, by the name that clients ask for."""

    catalog: Catalog
    providers: Mapping[str, ChatProvider]
    keys: KeyStore
    journal: Journal
    slots: Slots
    telemetry: Telemetry
    clock: Clock
    pseudonyms: Pseudonyms | None = None
    limiter: Limiter = field(default_factory=_alone)
    output_guess: OutputGuess = field(default_factory=OutputGuess)
    health: Health = field(default_factory=Health)
    hedgers: Mapping[str, Hedger] = field(default_factory=dict)
    shadows: Mapping[str, Shadower] = field(default_factory=dict)
    rota: Rota = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "rota", Rota(self.slots, self.health, self.clock))
