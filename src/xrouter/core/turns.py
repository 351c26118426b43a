"""Who waits for something scarce, served fairly: one of each tenant in turn, and a tenant's own in their order. Pure.

Round robin over tenants is deficit round robin (https://doi.org/10.1145/217391.217453) where everything costs one:
between two turns of a tenant that waits, every other tenant has at most one.

The number of those who wait is bounded. When it is reached, whoever waits last in the longest line leaves for a
newcomer of a shorter one, so that nobody can fill the queue against the others.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """Whoever waits is known by identity or hash, and stands in one line only. `waiting` is how many do."""

    __slots__ = ("_lines", "waiting")

    def __init__(self) -> None:
        self._lines: OrderedDict[str, OrderedDict[T, None]] = OrderedDict()  # in the order of the next turns
        self.waiting = 0

    def join(self, tenant: str, one: T, most: int) -> T | None:
        """`one` waits in its tenant's line. Returns who must leave because more than `most` would wait: nobody, the
        last of the longest line, or `one` itself, where its own line is as long as any."""
        line = self._lines.get(tenant)
        leaves: T | None = None
        if self.waiting >= most:
            longest = max(self._lines, key=lambda name: len(self._lines[name]), default=tenant)
            if len(self._lines.get(longest, ())) <= (0 if line is None else len(line)) + 1:
                return one
            leaves = next(reversed(self._lines[longest]))
            self.leave(longest, leaves)
        if line is None:
            line = self._lines[tenant] = OrderedDict()
        line[one] = None
        self.waiting += 1
        return leaves

    def next(self) -> T | None:
        """Whose turn it is; who gets it waits no more. None when nobody waits."""
        if not self._lines:
            return None
        tenant, line = self._lines.popitem(last=False)
        one, _ = line.popitem(last=False)
        if line:
            self._lines[tenant] = line
        self.waiting -= 1
        return one

    def leave(self, tenant: str, one: T) -> bool:
        """`one` waits no longer; False where it did not."""
        line = self._lines.get(tenant)
        if line is None or one not in line:
            return False
        del line[one]
        if not line:
            del self._lines[tenant]
        self.waiting -= 1
        return True
