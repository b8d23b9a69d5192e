"""Builds the one aiohttp application of a process out of its routes.

Outermost to innermost: request id, problem responses and one log line; authentication; the resource; the
decision; the handler; the record. Whatever is not a route is a 404, and a route that is not allowed is a 403.
"""

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from audit.errors import AuditError, AuditUnavailableError
from securechat.base64url import encode_base64url
from securechat.errors import (
    AccessDeniedError,
    AuthenticationError,
    SecureChatError,
    SessionUnknownError,
    StoreError,
)
from securechat.logs import get_logger
from securechat.ports import Clock, RandomBytes
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer, Ruling
from securechat.web.caller import Caller
from securechat.web.errors import (
    BadRequestError,
    BodyTooLargeError,
    MethodNotAllowedError,
    NotFoundError,
    RateLimitedError,
)
from securechat.web.problems import INTERNAL, STANDARD_PROBLEMS, ProblemTable, problem_of, problem_response
from securechat.web.routes import AnyRoute, Auth, Call, InBandRoute, Incoming, PublicRoute, RecordedBy, Route

FLUSH_SECONDS: Final = 5.0
_REQUEST_ID: Final = web.RequestKey("request_id", str)
_FIXED_HEADERS: Final = (("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff"))
# A UUID or a trace id stands in log and audit log; any other word could be a name and is only echoed.
_is_opaque_id = re.compile(r"[0-9a-fA-F\-]{16,64}\Z").match
_is_echoed = re.compile(r"[A-Za-z0-9_.\-]{1,64}\Z").match

_Handle = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Services:
    """What the shell itself needs, from the composition root."""

    authenticator: Authenticator
    authorizer: Authorizer
    clock: Clock
    random_bytes: RandomBytes
    problems: ProblemTable = field(default_factory=lambda: STANDARD_PROBLEMS)


def build_app(routes: Sequence[AnyRoute], services: Services) -> web.Application:
    """Return the application that serves ``routes`` and nothing else."""
    app = web.Application(middlewares=[_observer(services)])
    for route in routes:
        app.router.add_route(route.method, route.path, _bind(route, services))
    app.on_response_prepare.append(_finish_headers)
    app.cleanup_ctx.append(_flusher(services.authorizer))
    return app


def _bind(route: AnyRoute, services: Services) -> _Handle:
    if isinstance(route, Route):
        return _Guarded(route, services).handle
    return _open_handle(route)


def _open_handle(route: InBandRoute | PublicRoute) -> _Handle:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await route.handler(_incoming(request, route))

    return handle


class _Guarded:
    """Authenticates, authorizes and records around one route's handler."""

    def __init__(self, route: Route, services: Services) -> None:
        self._route = route
        self._authenticator = services.authenticator
        self._authorizer = services.authorizer

    async def handle(self, request: web.Request) -> web.StreamResponse:
        incoming = _incoming(request, self._route)
        caller = await self._authenticate(incoming)
        ruling = await self._decide(incoming, caller)
        call = Call(incoming, caller, ruling, self._authorizer, max_body_bytes=self._route.max_body_bytes)
        try:
            response = await self._route.handler(call)
        except AccessDeniedError:
            raise  # a further permission was refused, and that is recorded
        except Exception as error:
            await self._record_failure(call, error)
            raise
        await self._record(call)
        return response

    async def _authenticate(self, incoming: Incoming) -> Caller:
        credentials = incoming.credentials(self._route.auth)
        try:
            if not credentials:
                raise SessionUnknownError(f"an Authorization header is needed: {self._route.auth.value} ...")
            if self._route.auth is Auth.TOKEN:
                return await self._authenticator.bearer(credentials)
            return await self._authenticator.session(credentials)
        except AuthenticationError as error:
            request_id = incoming.request_id
            await self._authorizer.login_failed(error, source=incoming.source, request_id=request_id)
            raise

    async def _decide(self, incoming: Incoming, caller: Caller) -> Ruling:
        action, request_id = self._route.action, incoming.request_id
        try:
            resource = await self._route.resource(incoming.request, caller)
        except SecureChatError as error:
            await self._authorizer.record_unresolved(caller, action, error.code, request_id=request_id)
            raise
        ruling = self._authorizer.decide(caller, action, resource)
        if not ruling.allowed:
            await self._authorizer.record_refusal(caller, ruling, request_id=request_id)
            if self._route.hidden_as is not None and resource.org != caller.principal.org:
                raise self._route.hidden_as()
            raise AccessDeniedError(ruling.reason)
        return ruling

    async def _record_failure(self, call: Call, error: Exception) -> None:
        if isinstance(error, StoreError | AuditUnavailableError):
            return  # nothing happened, and nothing can be recorded: the answer is 503
        code = error.code if isinstance(error, SecureChatError | AuditError) else INTERNAL
        await self._authorizer.record_failure(call.caller, call.ruling, code, request_id=call.request_id)

    async def _record(self, call: Call) -> None:
        if self._route.recorded_by is RecordedBy.LAYER:
            await self._authorizer.record(call.event())
        elif not call.recorded:
            raise RuntimeError(f"{self._route.method} {self._route.path} acted without an audit event")


def _incoming(request: web.Request, route: AnyRoute) -> Incoming:
    return Incoming(request, request[_REQUEST_ID], max_body_bytes=route.max_body_bytes)


def _observer(services: Services) -> Middleware:
    logger = get_logger("web")

    @web.middleware
    async def observe(request: web.Request, handler: _Handle) -> web.StreamResponse:
        began = time.perf_counter()
        request_id = request[_REQUEST_ID] = _request_id(request, services.random_bytes)
        error: Exception | None = None
        try:
            response = await handler(request)
        except Exception as raised:
            error = _as_own_error(raised)
            response = _answer(request, error, services.problems, request_id)
        route = request.match_info.route.resource
        logger.log(
            _level(response.status),
            "request",
            request_id=request_id,
            method=request.method,
            route=route.canonical if route else "none",
            status=response.status,
            duration_ms=round((time.perf_counter() - began) * 1000, 1),
            exc_info=error,
        )
        return response

    return observe


def _answer(
    request: web.Request, error: Exception, table: ProblemTable, request_id: str
) -> web.StreamResponse:
    """Return the problem response; where an answer is already under way, cut the connection."""
    problem = problem_of(error, table, request_id)
    if request.writer.output_size and request.transport is not None:
        request.transport.abort()
    return problem_response(problem, headers=error.headers if isinstance(error, RateLimitedError) else ())


def _as_own_error(error: Exception) -> Exception:
    match error:
        case web.HTTPNotFound():
            return NotFoundError("there is no such route")
        case web.HTTPMethodNotAllowed():
            return MethodNotAllowedError("the route does not take this method")
        case web.HTTPRequestEntityTooLarge():
            return BodyTooLargeError("the body is too long")
        case web.HTTPClientError():
            return BadRequestError(f"the request is not acceptable (status {error.status})")
        case _:
            return error


def _level(status: int) -> int:
    return 40 if status == 500 else 30 if status > 500 else 20  # the standard library's levels


def _request_id(request: web.Request, random_bytes: RandomBytes) -> str:
    given = request.headers.get("X-Request-Id", "")
    return given if _is_opaque_id(given) else encode_base64url(random_bytes(12))


async def _finish_headers(request: web.Request, response: web.StreamResponse) -> None:
    given = request.headers.get("X-Request-Id", "")
    response.headers["X-Request-Id"] = given if _is_echoed(given) else request.get(_REQUEST_ID, "")
    response.headers["Server"] = "securechat"
    for name, value in _FIXED_HEADERS:
        response.headers.setdefault(name, value)


def _flusher(authorizer: Authorizer) -> Callable[[web.Application], AsyncIterator[None]]:
    """Write counted refusals every few seconds, and at the end."""
    logger = get_logger("web")

    async def flush() -> None:
        try:
            await authorizer.flush()
        except (StoreError, AuditUnavailableError) as error:
            logger.warning("refusals.kept", exc_info=error)

    async def run() -> None:
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await flush()

    async def context(app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(run())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await flush()

    return context
