"""Operations: work that is done beside, and asked for by its id. Pictures and deferred completions.

https://yandex.cloud/docs/api-design-guide/concepts/operation
"""

import base64
from collections import OrderedDict
from datetime import UTC, datetime
from typing import Any, Final

from xrouter.core.clock import Clock
from xrouter.simulators.desk import Refusal

MAX_KEPT: Final = 10_000
KEPT_S: Final = 3 * 86_400
_TYPE: Final = "type.googleapis.com/yandex.cloud.ai.foundation_models.v1."
# One grey point, a whole JPEG file. What a picture shows is written into it as a comment.
_POINT: Final = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////////////////"
    "////////wgALCAABAAEBAREA/8QAFBABAAAAAAAAAAAAAAAAAAAAAP/aAAgBAQABPxD/2Q=="
)


class Operations:
    """All operations of all folders; a result is kept three days."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, float, str, dict[str, Any]]] = OrderedDict()
        self._count = 0

    def begin(self, description: str, folder: str, result: dict[str, Any], lasts_s: float) -> dict[str, Any]:
        """A new operation that ends after `lasts_s` with `result`: `{"response": ...}` or `{"error": ...}`."""
        self._count += 1
        number = f"fbv{self._count:017d}"
        now = self._clock.now()
        self._kept[number] = (now, now + lasts_s, folder, {"id": number, "description": description, **result})
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return self._running(number)

    def look(self, number: str, folder: str) -> dict[str, Any]:
        """How it stands. Raises `Refusal` 404 for one that is not there or belongs to somebody else."""
        began, ends, owner, whole = self._kept.get(number, (0.0, 0.0, "", {}))
        now = self._clock.now()
        if not whole or owner != folder or now > ends + KEPT_S:
            raise Refusal(404, f"Operation {number} not found")
        if now < ends:
            return self._running(number)
        return {**whole, **self._times(began, ends), "done": True}

    def _running(self, number: str) -> dict[str, Any]:
        began, _, _, whole = self._kept[number]
        shown = {name: whole[name] for name in ("id", "description")}
        return {**shown, **self._times(began, began), "done": False}

    @staticmethod
    def _times(began: float, modified: float) -> dict[str, str]:
        first, last = (
            datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") for seconds in (began, modified)
        )
        return {"createdAt": first, "createdBy": "ajesimulated00000000", "modifiedAt": last}


def completed(response: dict[str, Any]) -> dict[str, Any]:
    """A deferred completion's result."""
    return {"response": {"@type": f"{_TYPE}CompletionResponse", **response}}


def drawn(prompt: str, options: dict[str, Any]) -> dict[str, Any]:
    """A picture's result: the same for the same prompt, seed and proportion."""
    ratio = options.get("aspectRatio") or {}
    shown = f"{prompt}|{options.get('seed', '')}|{ratio.get('widthRatio', 1)}:{ratio.get('heightRatio', 1)}".encode()
    comment = b"\xff\xfe" + (len(shown) + 2).to_bytes(2, "big") + shown
    image = base64.b64encode(_POINT[:2] + comment + _POINT[2:]).decode()
    return {
        "response": {
            "@type": f"{_TYPE}image_generation.ImageGenerationResponse",
            "image": image,
            "modelVersion": "",
        }
    }


def failed(code: int, message: str) -> dict[str, Any]:
    """The end of one that came to nothing; `code` is gRPC's."""
    return {"error": {"code": code, "message": message, "details": []}}
