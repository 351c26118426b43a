"""The vendor's error bodies: https://yandex.cloud/docs/api-design-guide/concepts/errors."""

import uuid
from http import HTTPStatus
from typing import Final

import msgspec

from xrouter.simulators.wire import Headers

HEADERS: Final[Headers] = (("Server", "ycalb"), ("Content-Type", "application/json"))
_GRPC: Final = {
    400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 413: 3, 422: 3, 429: 8, 499: 1, 500: 13, 501: 12, 502: 14, 503: 14,
    504: 4,
}  # fmt: skip
_WORDS: Final = {
    400: "Request contains an invalid argument",
    401: "The request has no credential",
    403: "Permission denied",
    404: "Not found",
    413: "Request is too large",
    429: "ai.textGenerationCompletionSessionsCount.count quota limit exceed",
    500: "Internal error",
    501: "Not implemented",
    503: "Service is unavailable",
    504: "Deadline exceeded",
}


def grpc_code(status: int) -> int:
    """The gRPC code behind an HTTP status; 2 (UNKNOWN) for others."""
    return _GRPC.get(status, 2)


def words(status: int, message: str = "") -> str:
    return message or _WORDS.get(status, "Error")


def streaming_error(status: int, message: str = "") -> bytes:
    """The form of the completion method, a streaming one."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Unknown"
    error = {
        "grpcCode": grpc_code(status),
        "httpCode": status,
        "message": words(status, message),
        "httpStatus": phrase,
        "details": [],
    }
    return msgspec.json.encode({"error": error})


def unary_error(status: int, message: str = "") -> bytes:
    """The form of all other native methods, of IAM and of operations."""
    info = {"@type": "type.googleapis.com/google.rpc.RequestInfo", "requestId": str(uuid.uuid4())}
    return msgspec.json.encode({"code": grpc_code(status), "message": words(status, message), "details": [info]})


def openai_error(status: int, message: str = "") -> bytes:
    """The OpenAI surface. Its bodies were not recorded anywhere; this is the format that it promises."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": words(status, message), "type": kind, "param": None, "code": None}
    return msgspec.json.encode({"error": error})
