"""The error tree as OpenRouter's error body: `{"error": {code, message, metadata}}` with the status as `code`.

Its SDK takes integers only, and hides whatever does not fit; so the reason itself stands in `message`, and our word
for programs in `metadata.code`. `type` and `param` stay beside them for OpenAI's clients.
"""

from typing import Any

import msgspec

from xrouter.core.errors import GatewayError, NoRoute, UpstreamError
from xrouter.dialects.openai import problems

# OpenRouter's own vocabulary (SDK 1.3.84, APIErrorType) by our code, else by our status.
_TYPE_BY_CODE = {
    "context_length_exceeded": "context_length_exceeded",
    "provider_rate_limited": "rate_limit_exceeded",
    "provider_quota_exhausted": "payment_required",
}
_TYPE_BY_STATUS = {
    400: "invalid_request",
    401: "authentication",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    413: "payload_too_large",
    429: "rate_limit_exceeded",
    502: "provider_unavailable",
    503: "provider_overloaded",
    504: "timeout",
}


def body(error: GatewayError, request_id: str) -> bytes:
    """The whole JSON body."""
    return msgspec.json.encode({"error": fields(error, request_id)})


def fields(error: GatewayError, request_id: str) -> dict[str, Any]:
    """The error object, also used inside a stream."""
    found = problems.fields(error, request_id)
    status = error.http_status
    kind = _TYPE_BY_CODE.get(error.code or "") or _TYPE_BY_STATUS.get(status, "server")
    found["code"] = status
    found["metadata"] |= {"code": error.code, "error_type": kind}
    if isinstance(error, NoRoute):
        found["metadata"]["error_type"] = "provider_unavailable"
    if isinstance(error, UpstreamError):
        found["metadata"] |= {"provider_name": error.provider, "raw": error.message}
    return found
