"""GigaChat's file store, as far as its SDK touches it. Kept in memory, the oldest files are forgotten first."""

import uuid
from collections import OrderedDict
from typing import Any, Final

from aiohttp import BodyPartReader, web

from xrouter.core.clock import Clock
from xrouter.simulators.desk import MAX_BODY_BYTES, Refusal

MAX_FILES: Final = 100
MAX_BYTES: Final = 64 * 1024 * 1024


class Files:
    """Uploads of every account in one place."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._files: OrderedDict[str, tuple[dict[str, Any], bytes]] = OrderedDict()

    async def upload(self, request: web.Request) -> dict[str, Any]:
        """POST /files, multipart with `purpose` and `file`."""
        if not request.content_type.startswith("multipart/"):
            raise Refusal(400)
        purpose, name, content = "general", "", None
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name == "purpose":
                purpose = await part.text()
            elif part.name == "file":
                name, content = part.filename or "file", await _read(part)
        if content is None:
            raise Refusal(422, "Invalid params: file is required")
        about: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "object": "file",
            "bytes": len(content),
            "created_at": int(self._clock.now()),
            "filename": name,
            "purpose": purpose,
            "access_policy": "private",
        }
        self._files[about["id"]] = (about, content)
        while len(self._files) > MAX_FILES or sum(len(item[1]) for item in self._files.values()) > MAX_BYTES:
            self._files.popitem(last=False)
        return about

    async def list(self, _request: web.Request) -> dict[str, Any]:
        """GET /files."""
        return {"data": [about for about, _ in self._files.values()]}

    async def show(self, request: web.Request) -> dict[str, Any]:
        """GET /files/{id}."""
        return self._find(request)[0]

    async def delete(self, request: web.Request) -> dict[str, Any]:
        """POST /files/{id}/delete."""
        about, _ = self._find(request)
        del self._files[about["id"]]
        return {"id": about["id"], "deleted": True}

    def content(self, request: web.Request) -> bytes:
        """GET /files/{id}/content."""
        return self._find(request)[1]

    def _find(self, request: web.Request) -> tuple[dict[str, Any], bytes]:
        found = self._files.get(request.match_info["id"])
        if found is None:
            raise Refusal(404, "No such file")
        return found


async def _read(part: BodyPartReader) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise Refusal(413)
    return bytes(content)
