"""Everything that can go wrong, as a tree. Each class knows its status; the `problems.py` of each door
turns it into bytes.

    GatewayError
    ├── ClientError                   the caller must change something
    │   ├── Invalid                   400  the request is wrong; `param` names the field
    │   ├── Unauthenticated           401  no key, a wrong key, an expired key
    │   ├── Forbidden                 403  the key may not do this
    │   ├── NotFound                  404  no such model, generation, URL
    │   ├── MethodNotAllowed          405
    │   ├── Conflict                  409  what is there already, or still in use, does not allow it
    │   ├── IdempotencyMismatch       422  an Idempotency-Key came again with another request
    │   ├── RequestTimeout            408  the client was too slow to send
    │   ├── TooLarge                  413
    │   │   ├── UrlTooLong            414
    │   │   └── HeadersTooLarge       431
    │   ├── UnsupportedMedia          415
    │   └── RateLimited               429  a limit of the caller is used up; says whose, and when it passes
    ├── NoRoute                       503  no deployment meets what its route demands
    ├── Overloaded                    503  we are draining, or a queue is full
    ├── Internal                      500  our own fault
    └── UpstreamError                 a provider's fault; `provider` names it
        ├── ProviderRefused           400/404/413  the vendor found the request wrong
        ├── ProviderAuthFailed        502  our credential was refused (401, 403, login)
        ├── ProviderQuotaExhausted    502  our account there is empty (402)
        ├── ProviderRateLimited       503  429, or no free slot before the deadline
        ├── ProviderUnavailable       502  not reached, 5xx, 3xx, reset, nonsense
        └── ProviderTimeout           504  connect, first content, idle or total time ran out

Whether a retry helps is not said here: that table is `gateway/retry.py`.
"""

from typing import Any, ClassVar


class GatewayError(Exception):
    """What every package raises. `message` is for the client: no secrets, no stack traces, says what to do.

    `code` is a stable word for programs; `retry_after_s` is told to the client where it is known;
    `metadata` may carry provider, upstream status and attempts.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str | None] = None

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.default_code
        self.param = param
        self.retry_after_s = retry_after_s
        self.metadata = metadata or {}

    @property
    def http_status(self) -> int:
        """The status shown to the client."""
        return self.status


class ClientError(GatewayError):
    """The caller must change something; repeating the same request cannot help."""

    status = 400
    type = "invalid_request_error"


class Invalid(ClientError):
    """The request is wrong. `param` names the field, in the client's own spelling."""

    default_code = "invalid_value"

    def about(self, model: str) -> "Invalid":
        """The same with the model's id where the words are "This model"."""
        words = self.message.replace("This model", model, 1)
        return Invalid(words, code=self.code, param=self.param, metadata=self.metadata)


class Unauthenticated(ClientError):
    status = 401
    type = "authentication_error"
    default_code = "invalid_api_key"


class Forbidden(ClientError):
    status = 403
    type = "permission_error"
    default_code = "insufficient_permissions"


class NotFound(ClientError):
    status = 404
    default_code = "not_found"


class MethodNotAllowed(ClientError):
    """`allow` lists the methods that the URL knows."""

    status = 405
    default_code = "method_not_allowed"

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        super().__init__(message)
        self.allow = allow


class Conflict(ClientError):
    """The request is right, but not beside what is there: a name that is taken, an object that is in use."""

    status = 409
    default_code = "conflict"


class IdempotencyMismatch(ClientError):
    """An Idempotency-Key that stands for another request already."""

    status = 422
    default_code = "idempotency_key_reused"


class RequestTimeout(ClientError):
    status = 408
    default_code = "request_timeout"


class TooLarge(ClientError):
    status = 413
    default_code = "request_too_large"


class UrlTooLong(TooLarge):
    status = 414
    default_code = "url_too_long"


class HeadersTooLarge(TooLarge):
    status = 431
    default_code = "headers_too_large"


class UnsupportedMedia(ClientError):
    status = 415
    default_code = "unsupported_media_type"


class RateLimited(ClientError):
    """A limit of the caller's key, user, team or organisation is used up. Comes with `retry_after_s`."""

    status = 429
    type = "rate_limit_error"
    default_code = "rate_limit_exceeded"
    headers: tuple[tuple[bytes, bytes], ...] = ()
    """What is left of the caller's limits."""


class NoRoute(GatewayError):
    """Deployments there are, but none that meets what the operator's route demands, be it together with the request's
    own wishes; where these alone ask too much it is an `Invalid` with the same code. `metadata` says for each what took
    it out. Repeating does not help, so the client is told not to."""

    status = 503
    type = "invalid_request_error"
    default_code = "no_route"


class Overloaded(GatewayError):
    """We refuse work that we could not do well. Comes with `retry_after_s`."""

    status = 503
    type = "overloaded_error"
    default_code = "overloaded"


class Internal(GatewayError):
    default_code = "internal_error"


class UpstreamError(GatewayError):
    """A provider's fault. Says which, and what it answered.

    `upstream_status` is the vendor's HTTP status where one came; `retry_after_s` the vendor's own wish; `retry` says
    why nobody else was tried where somebody might have been.
    """

    status = 502
    type = "upstream_error"
    default_code = "provider_error"

    def __init__(
        self,
        message: str,
        *,
        provider: str,
        upstream_status: int | None = None,
        code: str | None = None,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code, param=param, retry_after_s=retry_after_s)
        self.provider = provider
        self.upstream_status = upstream_status
        self.retry: str | None = None


class ProviderRefused(UpstreamError):
    """The vendor found the request itself wrong (400, 404, 405, 413, 415, 422)."""

    type = "invalid_request_error"
    default_code = "provider_refused"

    @property
    def http_status(self) -> int:
        return self.upstream_status if self.upstream_status in (404, 413) else 400


class ProviderAuthFailed(UpstreamError):
    """The gateway's own credential was refused. Never shown as the client's 401."""

    default_code = "provider_auth_error"


class ProviderQuotaExhausted(UpstreamError):
    default_code = "provider_quota_exhausted"


QUEUE_FULL = "provider_queue_full"
"""The code of a `ProviderRateLimited` that is our own: too many wait for a slot."""

NEVER_LEFT = frozenset({"provider_busy", QUEUE_FULL})
"""The codes of those that waited for a slot or a connection in vain: the vendor was not called."""


class ProviderRateLimited(UpstreamError):
    status = 503
    type = "overloaded_error"
    default_code = "provider_rate_limited"


class ProviderUnavailable(UpstreamError):
    default_code = "provider_unavailable"


class ProviderTimeout(UpstreamError):
    status = 504
    type = "timeout_error"
    default_code = "provider_timeout"
