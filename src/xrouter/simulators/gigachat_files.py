"""GigaChat's file store. Kept in memory, the oldest files are forgotten first."""

import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import BodyPartReader, web

from xrouter.core.clock import Clock
from xrouter.simulators.desk import MAX_BODY_BYTES, Refusal

MAX_FILES: Final = 100
MAX_BYTES: Final = 64 * 1024 * 1024
MAX_IMAGE_BYTES: Final = 15 * 1024 * 1024

_FORMATS: Final = frozenset(
    [
        *("txt", "doc", "docx", "pdf", "epub", "ppt", "pptx", "jsonl"),
        *("mp3", "wav", "m4a", "ogg", "opus"),
        *("jpg", "jpeg", "png", "tiff", "bmp"),
    ]
)
_IMAGES: Final = frozenset(("jpg", "jpeg", "png", "tiff", "bmp"))

# One grey pixel.
PICTURE: Final = bytes.fromhex(
    "ffd8ffe000104a46494600010101004800480000ffdb004300030202020202030202020303030304060404040404080606050609080a0a"
    "090809090a0c0f0c0a0b0e0b09090d110d0e0f101011100a0c12131210130f101010ffc9000b080001000101011100ffcc000600101005"
    "ffda0008010100003f00d2cf20ffd9"
)


@dataclass(frozen=True, slots=True)
class _File:
    about: dict[str, Any]
    content: bytes
    mime: str
    owner: str
    client_id: str = ""  # the X-Client-ID under which the vendor itself made it


class Files:
    """What every account has stored; each sees its own only."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._files: OrderedDict[str, _File] = OrderedDict()

    async def upload(self, request: web.Request, owner: str) -> dict[str, Any]:
        """POST /files, multipart with `purpose` and `file`."""
        if not request.content_type.startswith("multipart/"):
            raise Refusal(400)
        purpose, name, mime, content = "general", "", "", None
        async for part in await request.multipart():
            if not isinstance(part, BodyPartReader):
                continue
            if part.name == "purpose":
                purpose = await part.text()
            elif part.name == "file":
                name, mime, content = part.filename or "file", part.headers.get("Content-Type", ""), await _read(part)
        if content is None:
            raise Refusal(422, "Invalid params: file is required")
        if purpose not in ("general", "assistant"):
            raise Refusal(422, "Invalid params: purpose must be general or assistant")
        kind = name.rpartition(".")[2].lower()
        if kind not in _FORMATS:
            raise Refusal(422, f"Invalid params: files of the type {kind or 'unknown'} are not supported")
        if kind in _IMAGES and len(content) > MAX_IMAGE_BYTES:
            raise Refusal(413)
        return self.keep(owner, name, content, mime, purpose=purpose)

    def keep(
        self, owner: str, name: str, content: bytes, mime: str, *, purpose: str = "general", client_id: str = ""
    ) -> dict[str, Any]:
        """Store a file, and give what is told about it."""
        about: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "object": "file",
            "bytes": len(content),
            "created_at": int(self._clock.now()),
            "filename": name,
            "purpose": purpose,
            "access_policy": "private",
        }
        self._files[about["id"]] = _File(about, content, mime, owner, client_id)
        while len(self._files) > MAX_FILES or sum(len(item.content) for item in self._files.values()) > MAX_BYTES:
            self._files.popitem(last=False)
        return about

    async def list(self, _request: web.Request, owner: str) -> dict[str, Any]:
        """GET /files."""
        return {"data": [file.about for file in self._files.values() if file.owner == owner]}

    async def show(self, request: web.Request, owner: str) -> dict[str, Any]:
        """GET /files/{id}."""
        return self._find(request.match_info["id"], owner).about

    async def delete(self, request: web.Request, owner: str) -> dict[str, Any]:
        """POST /files/{id}/delete. Whatever the body holds is read, so that the connection can be used again."""
        await request.read()
        about = self._find(request.match_info["id"], owner).about
        del self._files[about["id"]]
        return {"id": about["id"], "deleted": True}

    def content(self, request: web.Request, owner: str) -> tuple[bytes, str]:
        """GET /files/{id}/content: bytes and type. A picture goes to who had it drawn."""
        file = self._find(request.match_info["id"], owner)
        if file.client_id and request.headers.get("X-Client-ID", "") != file.client_id:
            raise Refusal(403)
        return file.content, file.mime

    def is_image(self, identifier: str, owner: str) -> bool:
        """Raises `Refusal` for a file that this account has not."""
        name: str = self._find(identifier, owner).about["filename"]
        return name.rpartition(".")[2].lower() in _IMAGES

    def _find(self, identifier: str, owner: str) -> _File:
        found = self._files.get(identifier)
        if found is None or found.owner != owner:
            raise Refusal(404, "No such file")
        return found


async def _read(part: BodyPartReader) -> bytes:
    content = bytearray()
    while chunk := await part.read_chunk(64 * 1024):
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise Refusal(413)
    return bytes(content)
