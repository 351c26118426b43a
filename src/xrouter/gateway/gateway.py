"""Everything the pipeline needs, in one value. `app.py` fills it."""

from collections.abc import Mapping
from dataclasses import dataclass

from xrouter.core.clock import Clock
from xrouter.core.ports import ChatProvider, Journal, KeyStore, Slots, Telemetry
from xrouter.core.pseudonym import Pseudonyms
from xrouter.gateway.catalog import Catalog


@dataclass(frozen=True, slots=True)
class Gateway:
    """`providers` maps a deployment's provider name to the object that speaks with it. Without `pseudonyms` nobody asks
    for whom a client calls."""

    catalog: Catalog
    providers: Mapping[str, ChatProvider]
    keys: KeyStore
    journal: Journal
    slots: Slots
    telemetry: Telemetry
    clock: Clock
    pseudonyms: Pseudonyms | None = None
