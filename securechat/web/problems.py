"""RFC 9457 problem responses: the one table from exceptions to status, code and whether to try again."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

import msgspec
from aiohttp import web

from audit.errors import AuditError, AuditUnavailableError, EntryNotFoundError, QueryError
from securechat.errors import (
    AccessDeniedError,
    AuthenticationError,
    DeviceListError,
    InvalidIdError,
    InvalidSignatureError,
    SecureChatError,
    StalePreKeyError,
    StoreError,
    StoreFullError,
    WeakPublicKeyError,
    WireError,
)
from securechat.web.errors import (
    BadRequestError,
    BodyTooLargeError,
    BodyTooSlowError,
    IdempotencyMismatchError,
    MethodNotAllowedError,
    NotFoundError,
    OverloadedError,
    RateLimitedError,
    UnsupportedMediaError,
)

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:securechat:problem:"
INTERNAL: Final = "internal"


@dataclass(frozen=True, slots=True)
class Answer:
    """How one kind of error is answered: its status, and whether the same request may succeed later."""

    status: HTTPStatus
    retryable: bool = False


ProblemTable = Mapping[type[Exception], Answer]

STANDARD_PROBLEMS: Final[ProblemTable] = MappingProxyType(
    {
        InvalidIdError: Answer(HTTPStatus.BAD_REQUEST),
        WireError: Answer(HTTPStatus.BAD_REQUEST),
        BadRequestError: Answer(HTTPStatus.BAD_REQUEST),
        QueryError: Answer(HTTPStatus.BAD_REQUEST),
        AuthenticationError: Answer(HTTPStatus.UNAUTHORIZED),
        AccessDeniedError: Answer(HTTPStatus.FORBIDDEN),
        NotFoundError: Answer(HTTPStatus.NOT_FOUND),
        EntryNotFoundError: Answer(HTTPStatus.NOT_FOUND),
        MethodNotAllowedError: Answer(HTTPStatus.METHOD_NOT_ALLOWED),
        BodyTooLargeError: Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
        BodyTooSlowError: Answer(HTTPStatus.REQUEST_TIMEOUT, retryable=True),
        UnsupportedMediaError: Answer(HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
        InvalidSignatureError: Answer(HTTPStatus.UNPROCESSABLE_ENTITY),
        DeviceListError: Answer(HTTPStatus.UNPROCESSABLE_ENTITY),
        StalePreKeyError: Answer(HTTPStatus.UNPROCESSABLE_ENTITY),
        WeakPublicKeyError: Answer(HTTPStatus.UNPROCESSABLE_ENTITY),
        IdempotencyMismatchError: Answer(HTTPStatus.UNPROCESSABLE_ENTITY),
        RateLimitedError: Answer(HTTPStatus.TOO_MANY_REQUESTS, retryable=True),
        OverloadedError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, retryable=True),
        StoreFullError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, retryable=True),
        StoreError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, retryable=True),
        AuditUnavailableError: Answer(HTTPStatus.SERVICE_UNAVAILABLE, retryable=True),
    }
)


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer that is an error."""

    type: str
    title: str
    status: int
    code: str
    retryable: bool
    request_id: str
    detail: str = ""
    retry_after_ms: int = 0
    rule: str = ""  # of a refusal: the id of the policy that decided


def find_answer(error: Exception, table: ProblemTable) -> Answer | None:
    """Return the answer of the nearest class of ``error`` in ``table``, or None for an unforeseen error."""
    for kind in type(error).__mro__:
        if kind in table:
            return table[kind]
    return None


def problem_of(error: Exception, table: ProblemTable, request_id: str) -> Problem:
    """Return the problem that ``error`` is answered with; an unforeseen one says nothing of its cause."""
    answer = find_answer(error, table)
    if answer is None or not isinstance(error, SecureChatError | AuditError):
        return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, INTERNAL, request_id)
    problem = _problem(answer.status, error.code, request_id, retryable=answer.retryable)
    if answer.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        problem = msgspec.structs.replace(problem, detail=str(error))
    if isinstance(error, RateLimitedError):
        problem = msgspec.structs.replace(problem, retry_after_ms=error.retry_after_ms)
    if isinstance(error, AccessDeniedError):
        problem = msgspec.structs.replace(problem, rule=error.policy)
    return problem


def problem_response(problem: Problem, *, headers: tuple[tuple[str, str], ...] = ()) -> web.Response:
    """Return the response, with WWW-Authenticate or Retry-After where its status asks for it."""
    response = web.Response(
        status=problem.status, body=msgspec.json.encode(problem), content_type=CONTENT_TYPE
    )
    response.headers.extend(headers)
    if problem.status == HTTPStatus.UNAUTHORIZED:
        response.headers["WWW-Authenticate"] = "Session, Bearer"
    if problem.retry_after_ms:
        response.headers["Retry-After"] = str(-(-problem.retry_after_ms // 1000))
    return response


def _problem(status: HTTPStatus, code: str, request_id: str, *, retryable: bool = False) -> Problem:
    return Problem(
        type=TYPE_PREFIX + code,
        title=status.phrase,
        status=int(status),
        code=code,
        retryable=retryable,
        request_id=request_id,
    )
