"""The errors that only the web shell raises; ``securechat.web.problems`` gives each its status.

WebError (SecureChatError)
├── BadRequestError            a header or query parameter is malformed
├── UnsupportedMediaError      the body is not JSON
├── BodyTooLargeError          the body is longer than its route allows
├── BodyTooSlowError           the body did not arrive in time
├── NotFoundError              no such route
├── MethodNotAllowedError      the route does not take this method
├── IdempotencyMismatchError   one Idempotency-Key for two different requests
├── RateLimitedError           too many requests; ``retry_after_ms`` says when the next may succeed
└── OverloadedError            a table of the process is full; nothing was done
"""

from securechat.errors import SecureChatError


class WebError(SecureChatError):
    """Base of the web shell's own errors."""

    code = "web_error"


class BadRequestError(WebError):
    """A header, path or query parameter is missing or malformed."""

    code = "bad_request"


class UnsupportedMediaError(WebError):
    """The body is not ``application/json``."""

    code = "unsupported_media_type"


class BodyTooLargeError(WebError):
    """The body is longer than its route allows."""

    code = "body_too_large"


class BodyTooSlowError(WebError):
    """The body did not arrive in time."""

    code = "body_too_slow"


class NotFoundError(WebError):
    """There is no such route."""

    code = "not_found"


class MethodNotAllowedError(WebError):
    """The route does not take this method."""

    code = "method_not_allowed"


class IdempotencyMismatchError(WebError):
    """The Idempotency-Key was used for another request before."""

    code = "idempotency_mismatch"


class RateLimitedError(WebError):
    """Too many requests. ``headers`` are the RateLimit fields that go with the answer."""

    code = "rate_limited"

    def __init__(self, retry_after_ms: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"too many requests; the next may succeed in {retry_after_ms} ms")
        self.retry_after_ms = retry_after_ms
        self.headers = headers


class OverloadedError(WebError):
    """A bounded table of the process is full; the same call may be tried again."""

    code = "overloaded"
