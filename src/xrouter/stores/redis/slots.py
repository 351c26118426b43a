"""The port `SharedSlots` over Redis: one script call for all credentials."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from xrouter.core.ports import SLOTS_LEASE_S, SlotClaim, SlotLease
from xrouter.stores.redis.link import PREFIX, Link, RedisAway, Script

_SLOTS: Final = Script(Path(__file__).with_name("slots.lua"))
QUIET_S: Final = 1.5
"""After Redis has lost what it knew: by then every node has said what it holds."""

_TURN_S: Final = 2.0


class RedisSlots:
    """One for each process; only one process of a node asks."""

    def __init__(self, link: Link, node: str, *, lease_s: float = SLOTS_LEASE_S, quiet_s: float = QUIET_S) -> None:
        self._link = link
        self._fixed = [node, int(lease_s * 1000), int(quiet_s * 1000), int(_TURN_S * 1000)]

    async def exchange(self, claims: Sequence[SlotClaim]) -> list[SlotLease] | None:
        if not claims or self._link.breaker.open:
            return None
        keys = [f"{PREFIX}slots:{claim.name}" for claim in claims]
        numbers = [number for claim in claims for number in (claim.limit, claim.held, claim.wanted)]
        try:
            answer = await self._link.run_script(_SLOTS, keys, [*self._fixed, *numbers])
            return [SlotLease(int(answer[at]), int(answer[at + 1])) for at in range(0, 2 * len(claims), 2)]
        except (RedisAway, TypeError, ValueError, IndexError):
            return None
