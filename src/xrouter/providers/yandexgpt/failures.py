"""The vendor's error bodies -> the shape that `providers/_http` reads.

Three of them: `{"error": {"grpcCode", "httpCode", "message", "httpStatus", "details"}}` of streaming methods,
`{"code", "message", "details"}` with a gRPC code of unary ones (and of operations), and OpenAI's.
Codes: https://yandex.cloud/docs/api-design-guide/concepts/errors.
"""

import re
from typing import Any, Final

from xrouter.core.errors import ProviderAuthFailed, ProviderRefused, UpstreamError

_STATUS_OF_GRPC: Final = {
    1: 499, 2: 500, 3: 400, 4: 504, 5: 404, 6: 409, 7: 403, 8: 429, 9: 400, 10: 409, 11: 400, 12: 501, 13: 500,
    14: 503, 15: 500, 16: 401,
}  # fmt: skip
# What the vendor says with 400, as words for programs. The first that is found counts.
_WORDS: Final = (
    (re.compile(r"tokens must be no more|too long|too many (?:input )?tokens|exceeds? .{0,40}context", re.IGNORECASE),
     "context_length_exceeded"),
    (re.compile(r"model[_ ]?uri|failed to get model|model .{0,80}not found", re.IGNORECASE), "model_not_found"),
    (re.compile(r"ethic|not possible to generate an image|этик", re.IGNORECASE), "content_policy_violation"),
)  # fmt: skip
_FOLDER = re.compile(r"folder", re.IGNORECASE)
_MISMATCH = re.compile(r"does not match", re.IGNORECASE)


def error_of(body: Any) -> Any:
    """The error in a decoded body, None where it is none. Raises nothing."""
    if isinstance(body, list):
        return error_of(body[0]) if body else None
    if not isinstance(body, dict):
        return None
    error = body.get("error")
    if isinstance(error, dict):
        return _usual(error)
    if error is None and "message" not in body:
        return None
    if "choices" in body or "result" in body:
        return None
    return _usual({**body, "message": body.get("message", error)})


def _usual(error: dict[str, Any]) -> dict[str, Any]:
    """The same with the HTTP status as `status` and a word as `code`; old versions say both `error` and `message`."""
    status, code = error.get("httpCode"), error.get("code")
    grpc = error.get("grpcCode", code)
    if status is None and type(grpc) is int:
        status = _STATUS_OF_GRPC.get(grpc, grpc)
    said = error.get("message")
    word = code if isinstance(code, str) else None
    if isinstance(said, str) and word is None:
        word = next((name for pattern, name in _WORDS if pattern.search(said)), None)
    return {**error, "message": said, "status": status if status is not None else error.get("status"), "code": word}


def judged(error: UpstreamError) -> UpstreamError:
    """A folder that is not the credential's comes as 400, but it is our configuration and no client's mistake."""
    if isinstance(error, ProviderRefused) and _FOLDER.search(error.message) and _MISMATCH.search(error.message):
        return ProviderAuthFailed(error.message, provider=error.provider, upstream_status=error.upstream_status)
    return error
