"""HTTP requests to the server: JSON in and out, problem responses as errors (RFC 9457)."""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar

import aiohttp
import msgspec

from securechat.errors import (
    AuthenticationError,
    DeviceUnknownError,
    ProofInvalidError,
    ServerError,
    SessionUnknownError,
    TokenAudienceError,
    TokenExpiredError,
    TokenInvalidError,
    TokenNotYetValidError,
    TransportError,
)

T = TypeVar("T")

MAX_ANSWER_BYTES: Final = 4 * 1024 * 1024
_AUTHENTICATION_ERRORS: Final = {
    kind.code: kind
    for kind in (
        TokenInvalidError,
        TokenExpiredError,
        TokenNotYetValidError,
        TokenAudienceError,
        ProofInvalidError,
        DeviceUnknownError,
        SessionUnknownError,
    )
}


class _Problem(msgspec.Struct):
    """What a client needs of a problem response."""

    code: str = "http_error"
    retryable: bool = False
    retry_after_ms: int = 0
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request; ``body`` is JSON. The query's values are escaped here."""

    method: str
    path: str
    body: bytes = b""
    query: tuple[tuple[str, str], ...] = ()
    idempotency_key: str = ""

    def __repr__(self) -> str:
        return f"Request({self.method})"


class HttpClient:
    """One pool of connections to one server; used within one event loop."""

    def __init__(self, base_url: str, *, timeout_s: float) -> None:
        self._base_url = base_url
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None

    def session(self) -> aiohttp.ClientSession:
        """Return the connection pool, made at the first use."""
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=self._timeout, cookie_jar=aiohttp.DummyCookieJar())
        return self._session

    def url(self, path: str) -> str:
        """Return the absolute address of ``path``."""
        return self._base_url + path

    async def send(self, request: Request, *, authorization: str = "") -> bytes:
        """Return the body of a success.

        Raises TransportError if the server cannot be reached, AuthenticationError and its kinds for 401,
        ServerError for every other status from 300 on.
        """
        headers = {"Accept": "application/json"}
        if authorization:
            headers["Authorization"] = authorization
        if request.idempotency_key:
            headers["Idempotency-Key"] = request.idempotency_key
        if request.body:
            headers["Content-Type"] = "application/json"
        try:
            async with self.session().request(
                request.method,
                self.url(request.path),
                data=request.body or None,
                params=request.query,
                headers=headers,
                allow_redirects=False,
            ) as response:
                raw = await _limited(response)
                if response.status >= HTTPStatus.MULTIPLE_CHOICES:
                    raise problem_error(response.status, raw, response.headers)
                return raw
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            # without the cause: its text may hold the address with a user id in its path
            raise TransportError(f"the server cannot be reached ({type(error).__name__})") from None

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


def decode_answer(raw: bytes, kind: type[T]) -> T:
    """Return a JSON answer as ``kind``. Raises TransportError for an answer of another form."""
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError:
        raise TransportError("the server's answer is malformed") from None


def problem_error(status: int, raw: bytes, headers: Mapping[str, str]) -> AuthenticationError | ServerError:
    """Return the error that a problem response stands for."""
    try:
        problem = msgspec.json.decode(raw, type=_Problem)
    except msgspec.DecodeError:
        problem = _Problem(retryable=status >= HTTPStatus.INTERNAL_SERVER_ERROR)
    if status == HTTPStatus.UNAUTHORIZED:
        return authentication_error(problem.code)
    retry_after = headers.get("Retry-After", "")
    seconds = float(retry_after) if retry_after.isdigit() and len(retry_after) <= 6 else 0.0
    return ServerError(
        problem.code,
        status=status,
        retryable=problem.retryable or status == HTTPStatus.TOO_MANY_REQUESTS,
        retry_after_s=max(seconds, problem.retry_after_ms / 1_000),
        rule=problem.rule,
    )


def authentication_error(code: str) -> AuthenticationError:
    """Return the error of the narrowest class for the server's ``code``."""
    kind = _AUTHENTICATION_ERRORS.get(code, AuthenticationError)
    return kind(f"the server does not know this device by its token: {kind.code}")


async def _limited(response: aiohttp.ClientResponse) -> bytes:
    raw = await response.content.read(MAX_ANSWER_BYTES + 1)
    while len(raw) <= MAX_ANSWER_BYTES and not response.content.at_eof():
        raw += await response.content.read(MAX_ANSWER_BYTES + 1 - len(raw))
    if len(raw) > MAX_ANSWER_BYTES:
        raise TransportError(f"the server's answer has more than {MAX_ANSWER_BYTES} bytes")
    return raw
