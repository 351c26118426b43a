"""What was answered to writes with an Idempotency-Key, for 24 hours.

The database knows a write by an HMAC of its name, and its answer encrypted (AES-256-GCM) under a key that is made of
the pepper and that name: the answer may hold a new API key's text, which neither the database nor its backups may show,
nor anybody who has the pepper but not the client's own Idempotency-Key.
"""

import hmac
import os
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update

from xrouter.core.clock import Clock
from xrouter.core.errors import Conflict, IdempotencyMismatch
from xrouter.core.ids import ulid
from xrouter.core.ports import StoredAnswer, Turn
from xrouter.core.secret import Secret
from xrouter.stores.sql.database import Database
from xrouter.stores.sql.places import next_version
from xrouter.stores.sql.schema import idempotent_writes as writes

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEPT_S: Final = 86_400.0
_RUNS_S: Final = 60.0
"""A write that has not ended by then died with its process; its name may be used again."""
_NONCE: Final = 12


class SqlIdempotentWrites:
    """The port `IdempotentWrites`. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, pepper: Secret, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._own = hmac.new(pepper.reveal().encode(), b"xrouter idempotent writes", "sha256").digest()

    async def begin(self, name: str, fingerprint: bytes) -> Turn | StoredAnswer:
        turn = Turn(name, ulid())
        row = await self._database.write(
            partial(_begin, self._derived(b"id", name), fingerprint, turn.token, self._clock.now())
        )
        if row is None:
            return turn
        if not hmac.compare_digest(row.fingerprint, fingerprint):
            raise IdempotencyMismatch(
                "This Idempotency-Key came before with another request, or your API key had other rights then; a new "
                "request needs a new Idempotency-Key.",
                param="Idempotency-Key",
            )
        if row.answer is None:
            raise Conflict(
                "The first request with this Idempotency-Key is still being worked on; ask again in a second.",
                param="Idempotency-Key",
                retry_after_s=1.0,
            )
        sealed = _cipher(self._derived(b"answer", name))
        body = sealed.decrypt(row.answer[:_NONCE], row.answer[_NONCE:], fingerprint)
        return StoredAnswer(row.status, body)

    async def keep(self, turn: Turn, status: int, body: bytes) -> None:
        row_id = self._derived(b"id", turn.name)
        nonce = os.urandom(_NONCE)
        sealed = _cipher(self._derived(b"answer", turn.name))

        def work(connection: Connection) -> None:
            held = connection.execute(select(writes).where(writes.c.id == row_id, writes.c.turn == turn.token)).first()
            if held is not None:
                answer = nonce + sealed.encrypt(nonce, body, held.fingerprint)
                connection.execute(update(writes).where(writes.c.id == row_id).values(status=status, answer=answer))

        await self._database.write(work)

    async def free(self, turn: Turn) -> None:
        mine = (writes.c.id == self._derived(b"id", turn.name), writes.c.turn == turn.token)
        await self._database.write(lambda connection: connection.execute(delete(writes).where(*mine)))

    def _derived(self, use: bytes, name: str) -> bytes:
        return hmac.new(self._own, use + b"\0" + name.encode(), "sha256").digest()


def _cipher(key: bytes) -> "AESGCM":
    """Loaded at the first use: a worker that never sees such a write has 7 MB less."""
    made: AESGCM = import_module("cryptography.hazmat.primitives.ciphers.aead").AESGCM(key)
    return made


def _begin(row_id: bytes, fingerprint: bytes, token: str, now: float, connection: Connection) -> Row[Any] | None:
    """The row that stands under this name; None where it is ours from now on."""
    next_version(connection)  # one at a time: of two that begin at once, the second sees the first
    connection.execute(delete(writes).where(writes.c.begun_at < now - _KEPT_S))
    held = connection.execute(select(writes).where(writes.c.id == row_id)).one_or_none()
    if held is not None and (held.answer is not None or held.begun_at > now - _RUNS_S):
        return held
    connection.execute(delete(writes).where(writes.c.id == row_id))
    connection.execute(insert(writes).values(id=row_id, fingerprint=fingerprint, begun_at=now, turn=token))
    return None
