"""Callers in memory, by the digest of their key: made when they are asked for, from records that are kept up to date.

A change of somebody above many keys marks their callers as out of date, which is cheap; each is made anew at its next
use, without the database.
"""

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import Row

from xrouter.core.accounts import Account, Plan
from xrouter.core.call import Caller
from xrouter.core.callers import caller_of
from xrouter.core.records import KeyRecord
from xrouter.stores.sql import account_rows
from xrouter.stores.sql.key_pictures import Picture

_MOST_KNOWN: Final = 100_000
_MOST_MISSING: Final = 10_000


@dataclass(slots=True)
class _Key:
    version: int
    record: KeyRecord
    digest: bytes
    former_digest: bytes | None

    @property
    def digests(self) -> tuple[bytes, ...]:
        return (self.digest,) if self.former_digest is None else (self.digest, self.former_digest)

    @property
    def above(self) -> tuple[str, ...]:
        """The ids of the accounts above it, the widest first."""
        place = self.record.place
        return tuple(one for one in (place.organisation_id, place.team_id, place.user_id) if one is not None)


class KeyMemory:
    """Holds keys with all that stands above them, the least used leave first; and digests that were not found a moment
    ago. Never goes back: of two rows the one with the higher version stays."""

    def __init__(self) -> None:
        self._callers: OrderedDict[bytes, Caller | None] = OrderedDict()  # None: to be made anew
        self._key_of: dict[bytes, str] = {}
        self._keys: dict[str, _Key] = {}
        self._accounts: dict[str, tuple[int, Account]] = {}
        self._plans: dict[str, Plan] = {}
        self._plan_versions: dict[str, int] = {}
        self._below: dict[str, set[str]] = {}  # ids of the keys below an account
        self._missing: OrderedDict[bytes, float] = OrderedDict()

    def caller(self, digest: bytes) -> Caller | None:
        try:
            found = self._callers[digest]
        except KeyError:
            return None
        self._callers.move_to_end(digest)
        return self._make(digest) if found is None else found

    def is_missing(self, digest: bytes, now: float) -> bool:
        return self._missing.get(digest, now) > now

    def remember(self, picture: Picture) -> None:
        """Hold the keys of `picture`, which was asked for one of them."""
        self._take_above(picture)
        for row in picture.keys:
            self._found(row)
            self._put(row)
        while len(self._callers) > _MOST_KNOWN:
            self._drop(self._key_of[next(iter(self._callers))])
        self._sweep(picture)

    def learn(self, picture: Picture) -> None:
        """Bring what is held up to date. A new key is no longer missing."""
        self._take_above(picture)
        for row in picture.keys:
            self._found(row)
            if row.id in self._keys:
                self._put(row)
        self._sweep(picture)

    def remember_missing(self, digest: bytes, until: float) -> None:
        self._missing[digest] = until
        self._missing.move_to_end(digest)
        if len(self._missing) > _MOST_MISSING:
            self._missing.popitem(last=False)

    def forget(self) -> None:
        """Start anew."""
        self._callers.clear()
        self._key_of.clear()
        self._keys.clear()
        self._accounts.clear()
        self._plans.clear()
        self._plan_versions.clear()
        self._below.clear()
        self._missing.clear()

    def _found(self, row: Row[Any]) -> None:
        self._missing.pop(row.digest, None)
        if row.former_digest is not None:
            self._missing.pop(row.former_digest, None)

    def _take_above(self, picture: Picture) -> None:
        """Plans are few: all that were ever seen stay, and a change of one outdates every caller, rather than that a
        list is kept of who has it."""
        newer = [row for row in picture.plans if self._plan_versions.get(row.id, -1) < row.version]
        for row in newer:
            self._plans[row.id] = account_rows.plan(row)
            self._plan_versions[row.id] = row.version
        if newer:
            self._callers = OrderedDict.fromkeys(self._callers)
        for row in filter(account_rows.is_known, picture.accounts):
            held = self._accounts.get(row.id)
            if held is None or held[0] < row.version:
                self._accounts[row.id] = row.version, account_rows.account(row)
                for key_id in self._below.get(row.id, ()):
                    self._outdate(self._keys[key_id])

    def _sweep(self, picture: Picture) -> None:
        """Let go of accounts that nobody held stands below."""
        for row in picture.accounts:
            if row.id not in self._below:
                self._accounts.pop(row.id, None)

    def _put(self, row: Row[Any]) -> None:
        held = self._keys.get(row.id)
        if held is not None and held.version >= row.version:
            return
        key = _Key(row.version, account_rows.key_record(row), row.digest, row.former_digest)
        self._keys[row.id] = key
        for account_id in key.above:
            self._below.setdefault(account_id, set()).add(row.id)
        if held is not None:
            self._detach(held, row.id, set(key.above))
        for digest in key.digests:
            self._key_of[digest] = row.id
            self._callers[digest] = None

    def _drop(self, key_id: str) -> None:
        self._detach(self._keys.pop(key_id), key_id, set())

    def _detach(self, key: _Key, key_id: str, still_above: set[str]) -> None:
        """Forget by which digests a key was found, and that it stood below anybody but `still_above`."""
        for digest in key.digests:
            del self._key_of[digest], self._callers[digest]
        for account_id in set(key.above) - still_above:
            below = self._below[account_id]
            below.discard(key_id)
            if not below:
                del self._below[account_id]
                self._accounts.pop(account_id, None)

    def _outdate(self, key: _Key) -> None:
        for digest in key.digests:
            self._callers[digest] = None

    def _above(self, key: _Key) -> list[Account]:
        return [self._accounts[one][1] for one in key.above if one in self._accounts]

    def _make(self, digest: bytes) -> Caller:
        key = self._keys[self._key_of[digest]]
        caller = caller_of(key.record, self._above(key), self._plans)
        if digest != key.digest:  # the secret before the last rotation: it ends with its time of grace
            until = key.record.former_until or 0.0
            ends = until if caller.expires_at is None else min(until, caller.expires_at)
            caller = replace(caller, expires_at=ends)
        self._callers[digest] = caller
        return caller
