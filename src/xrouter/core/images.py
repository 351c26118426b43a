"""Pictures: one request in, one answer out, nothing streamed.

`fields` holds every further top-level field in OpenAI's spelling as its own JSON text, as in `ChatRequest`.
"""

from typing import ClassVar

from msgspec import Struct

from xrouter.core.chat import Fields, Usage
from xrouter.core.operation import Operation


class ImagesRequest(Struct, frozen=True):
    """`n` pictures of `prompt`. `size` is `WIDTHxHEIGHT` in pixels, None for the vendor's own choice."""

    operation: ClassVar[Operation] = Operation.IMAGES
    stream: ClassVar[bool] = False

    model: str
    prompt: str
    fields: Fields
    n: int = 1
    size: str | None = None
    models: tuple[str, ...] = ()


class Image(Struct, frozen=True):
    """One picture: base64 text of a file of type `mime`. `revised_prompt` is what the vendor made of the prompt."""

    b64: str
    mime: str
    revised_prompt: str | None = None


class Images(Struct, frozen=True):
    """The pictures. Vendors that bill by the picture give no usage."""

    images: tuple[Image, ...]
    usage: Usage | None = None
    model: str | None = None
