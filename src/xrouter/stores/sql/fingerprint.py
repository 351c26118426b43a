"""Which pepper a database belongs to: an HMAC of a constant under it, which says nothing of the pepper itself.

Without the pepper that its digests were made with, a database knows no API key. A host that came with another one would
look healthy and answer 401 to everybody; so the first start leaves a fingerprint, and every later one compares.
"""

import hmac
from typing import Final

from sqlalchemy import Connection, delete, insert, select, text

from xrouter.core.secret import Secret
from xrouter.stores.sql.database import Database, DatabaseRefuses
from xrouter.stores.sql.schema import fingerprints

_NAME: Final = "pepper"
_CONSTANT: Final = b"xrouter fingerprint of the pepper"


class OtherPepper(DatabaseRefuses):
    """The keys of this database were made under another pepper."""

    def __init__(self) -> None:
        super().__init__("the database belongs to another pepper than this host's, under which no API key is known")


class SqlFingerprint:
    """Over table `fingerprints`. Raises `DatabaseUnavailable`."""

    def __init__(self, database: Database, pepper: Secret) -> None:
        self._database = database
        self._own = hmac.new(pepper.reveal().encode(), _CONSTANT, "sha256").digest()

    async def claim(self) -> None:
        """Take a database that belongs to nobody; of several hosts at once, one does. Raises `OtherPepper`."""
        if not await self.check():
            self._compare(await self._database.write(self._leave))

    async def check(self) -> bool:
        """True where it is ours, False where nobody has claimed it. Raises `OtherPepper`."""
        return await self._database.read(self.is_left)

    def is_left(self, connection: Connection) -> bool:
        """The same, inside a transaction."""
        found = _read(connection)
        if found is not None:
            self._compare(found)
        return found is not None

    async def adopt(self) -> None:
        """Make it ours, whosever it was: keys made under another pepper need a new secret."""

        def work(connection: Connection) -> None:
            connection.execute(delete(fingerprints).where(fingerprints.c.name == _NAME))
            connection.execute(insert(fingerprints).values(name=_NAME, digest=self._own))

        await self._database.write(work)

    def _leave(self, connection: Connection) -> bytes | None:
        words = text("INSERT INTO fingerprints (name, digest) VALUES (:name, :digest) ON CONFLICT DO NOTHING")
        connection.execute(words, {"name": _NAME, "digest": self._own})  # waits for whoever has begun the same
        return _read(connection)

    def _compare(self, found: bytes | None) -> None:
        if found is None or not hmac.compare_digest(found, self._own):
            raise OtherPepper


def _read(connection: Connection) -> bytes | None:
    found: bytes | None = connection.execute(
        select(fingerprints.c.digest).where(fingerprints.c.name == _NAME)
    ).scalar_one_or_none()
    return found
