"""Pictures that depend on their prompt alone: PNG files in one colour (https://www.w3.org/TR/png-3/)."""

import hashlib
import struct
import zlib


def png(prompt: str, width: int, height: int) -> bytes:
    """A whole file of that size in pixels, in a colour that follows from the prompt."""
    colour = hashlib.blake2b(prompt.encode(), digest_size=3).digest()
    row = b"\0" * (1 + (width + 7) // 8)  # no filter, then one bit a pixel: the first colour of the palette
    head = struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)
    chunks = ((b"IHDR", head), (b"PLTE", colour), (b"IDAT", zlib.compress(row * height)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
