"""Files at the vendor: they live for one call and are deleted after it, whatever became of it.

What a client shows to a model may be personal data (152-FZ): it must not stay in the vendor's store. So every file is
lent to a call, and given back when the call ends, fails or is cancelled. Deleting is work beside the calls: nobody
waits for it, and `close` waits for the rest of it.
"""

import asyncio
import re
from collections.abc import Coroutine, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final
from uuid import uuid4

import msgspec
import structlog

from xrouter.core.errors import ProviderRefused, ProviderTimeout, UpstreamError

from .account import Account
from .fetch import Fetcher
from .uploads import Upload, multipart

_log = structlog.get_logger()

UPLOAD_S: Final = 60.0
DELETE_S: Final = 10.0
DELETE_TRIES: Final = 3
_BETWEEN_TRIES_S: Final = 0.5
CLOSE_S: Final = 15.0
LARGEST_PICTURE: Final = 32 * 1024 * 1024
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


class _Stored(msgspec.Struct):
    id: str


_as_stored = msgspec.json.Decoder(_Stored).decode


class Files:
    """The file store of one account, as far as this gateway uses it."""

    def __init__(self, account: Account, fetcher: Fetcher) -> None:
        self._account = account
        self._fetcher = fetcher
        self._work: set[asyncio.Task[Any]] = set()
        self.provider = account.exchange.provider

    def lend(self) -> "Lent":
        """Files for one call. Whoever asks gives them back."""
        return Lent(self)

    async def upload(self, upload: Upload) -> str:
        """The id of a stored file. Raises `UpstreamError`."""
        boundary = f"xrouter{uuid4().hex}"
        headers = {"Content-Type": f"multipart/form-data; boundary={boundary}", "Accept": "application/json"}
        exchange = self._account.exchange
        async with AsyncExitStack() as connection:
            reply = await self._account.post(
                connection, f"{self._account.base_url}/files", headers=headers, body=multipart(upload, boundary)
            )
            body = await reply.json()
        try:
            found = _as_stored(body).id
        except (ValueError, RecursionError):
            found = ""
        if not _ID.fullmatch(found):
            raise exchange.nonsense("an upload without the id of a file")
        return found

    async def fetched(self, upload: Upload) -> Upload:
        """The same with its bytes, whoever has them."""
        return await self._fetcher.fetch(upload) if upload.url and not upload.data else upload

    async def content(self, file_id: str, client_id: str) -> bytes:
        """The bytes of a file. `client_id` is the `X-Client-ID` it was made under. Raises `UpstreamError`."""
        if not _ID.fullmatch(file_id):
            raise self._account.exchange.nonsense("with a file whose id is none")
        headers = {"Accept": "application/jpg", "X-Client-ID": client_id}
        async with AsyncExitStack() as connection:
            url = f"{self._account.base_url}/files/{file_id}/content"
            reply = await self._account.get(connection, url, headers=headers)
            data = await reply.read(LARGEST_PICTURE)
        if not data:
            raise self._account.exchange.nonsense("with an empty file")
        return data

    async def delete(self, file_id: str) -> None:
        """Delete a file; one that cannot be deleted is logged, for somebody has to."""
        if not _ID.fullmatch(file_id):
            return
        url = f"{self._account.base_url}/files/{file_id}/delete"
        why = ""
        for number in range(DELETE_TRIES):
            if number:
                await asyncio.sleep(_BETWEEN_TRIES_S * 2**number)
            try:
                async with asyncio.timeout(DELETE_S), AsyncExitStack() as connection:
                    reply = await self._account.post(connection, url, headers={}, body=b"")
                    await reply.read(LARGEST_PICTURE)
            except ProviderRefused as error:
                why = error.message
                if error.upstream_status == 404:
                    return  # gone already
                break
            except UpstreamError as error:
                why = error.message
            except TimeoutError:
                why = "no answer in time"
            else:
                return
        _log.warning("file_not_deleted", provider=self.provider, file_id=file_id, why=why)

    def begin(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start work that outlives the call which began it."""
        task = asyncio.create_task(work, name="gigachat-files")
        self._work.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._work.discard(task)
        if not task.cancelled():
            task.exception()  # looked at: whoever waits for it hears it, and perhaps nobody waits any more

    async def close(self) -> None:
        """Wait for the deletions that are under way, at most `CLOSE_S`; those that remain are logged."""
        if self._work:
            _, late = await asyncio.wait(tuple(self._work), timeout=CLOSE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
            if late:
                _log.warning("files_not_deleted", provider=self.provider, unfinished=len(late))
        await self._fetcher.close()


class Lent:
    """The files of one call."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._flights: list[asyncio.Task[str]] = []
        self._kept: list[str] = []
        self._deleting: asyncio.Task[None] | None = None

    async def put(self, uploads: Sequence[Upload]) -> dict[str, str]:
        """Source -> id of every upload, one after another: the account may have one place only. An upload under way
        when the caller leaves is carried to its end, or its file could never be deleted. Raises `UpstreamError`, and
        `Invalid` for a file that cannot be had."""
        ready = [await self._files.fetched(upload) for upload in uploads]
        found = {}
        for upload in ready:
            flight = self._files.begin(self._upload(upload))
            self._flights.append(flight)
            found[upload.source] = await asyncio.shield(flight)
        return found

    async def _upload(self, upload: Upload) -> str:
        try:
            async with asyncio.timeout(UPLOAD_S):
                return await self._files.upload(upload)
        except TimeoutError:
            provider = self._files.provider
            raise ProviderTimeout(f"{provider} did not take a file within {UPLOAD_S:g} s", provider=provider) from None

    def keep(self, file_id: str) -> None:
        """A file that the vendor made for this call."""
        self._kept.append(file_id)

    def give_back(self) -> None:
        """The call is over. Waits for nothing."""
        if self._flights or self._kept:
            self._deleting = self._files.begin(self._delete())

    async def _delete(self) -> None:
        for flight in self._flights:
            try:
                self._kept.append(await flight)
            except UpstreamError:
                continue  # it never came to be a file, or nobody will ever know its id
        for file_id in self._kept:
            await self._files.delete(file_id)
