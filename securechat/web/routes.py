"""Routes and calls: what a handler is mounted with and what it is given.

A ``Route`` names its action and the resource it is done to, and is authenticated, authorized and recorded by
``securechat.web.app``. An ``InBandRoute`` names its action too but finds its caller by itself (a log-in, a
WebSocket). A ``PublicRoute`` serves nobody's data and says why. There is no fourth kind.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeVar

import msgspec
from aiohttp import web

from audit.catalogue import EventType
from audit.event import AuditEvent, ObjectRef, Outcome
from securechat.authz.model import Action, Resource
from securechat.errors import SecureChatError, SettingsError
from securechat.web.authorization import Authorizer, Ruling
from securechat.web.caller import Caller
from securechat.web.errors import BadRequestError, BodyTooLargeError, BodyTooSlowError, UnsupportedMediaError

DEFAULT_MAX_BODY: Final = 64 * 1024  # bytes
MAX_IDEMPOTENCY_KEY: Final = 128  # characters
BODY_SECONDS: Final = 30.0  # for a whole body
_READ_BYTES: Final = 64 * 1024

T = TypeVar("T")


class Auth(Enum):
    """What a route wants to see."""

    TOKEN = "Bearer"  # noqa: S105 (the scheme's name): an app's token alone; the handler asks for a proof
    SESSION = "Session"  # a session of an enrolled device


class RecordedBy(Enum):
    """Who writes the audit event of an allowed act."""

    HANDLER = "handler"  # in the transaction of the act; an act without its event is a fault
    LAYER = "layer"  # the web shell, in a transaction of its own, before the answer leaves


class Incoming:
    """One request."""

    def __init__(
        self, request: web.Request, request_id: str, *, max_body_bytes: int = DEFAULT_MAX_BODY
    ) -> None:
        self.request = request
        self.request_id = request_id
        self._max_body_bytes = max_body_bytes

    @property
    def source(self) -> str:
        """The network peer, for limits; never recorded."""
        return self.request.remote or "unknown"

    @property
    def idempotency_key(self) -> str | None:
        """The Idempotency-Key header: 1 to 128 visible characters, or None. Raises BadRequestError."""
        key = self.request.headers.get("Idempotency-Key")
        if key is None:
            return None
        if not 1 <= len(key) <= MAX_IDEMPOTENCY_KEY or not key.isascii() or not key.isprintable():
            raise BadRequestError(f"an Idempotency-Key has 1 to {MAX_IDEMPOTENCY_KEY} visible characters")
        return key

    def credentials(self, scheme: Auth) -> str:
        """Return what follows ``scheme`` in the Authorization header, empty if there is nothing such."""
        name, _, value = self.request.headers.get("Authorization", "").partition(" ")
        return value if name.lower() == scheme.value.lower() else ""

    async def json(self, kind: type[T]) -> T:
        """Return the body as ``kind``.

        Raises UnsupportedMediaError, BadRequestError, whose text names the field, and as ``body``.
        """
        if self.request.content_type != "application/json":
            raise UnsupportedMediaError("the body must be application/json")
        body = await self.body()
        try:
            return msgspec.json.decode(body, type=kind)
        except msgspec.ValidationError as error:
            raise BadRequestError(f"the body does not fit: {_where(error)}") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise BadRequestError("the body is not JSON") from error

    async def body(self) -> bytes:
        """Return the body, at most as long as the route allows.

        Raises BodyTooLargeError, and BodyTooSlowError unless it is complete within ``BODY_SECONDS``: a peer
        that sends a byte now and then would hold its connection for ever.
        """
        if (self.request.content_length or 0) > self._max_body_bytes:
            raise BodyTooLargeError(f"the body is longer than {self._max_body_bytes} bytes")
        try:
            async with asyncio.timeout(BODY_SECONDS):
                return await self._read_body()
        except TimeoutError as error:
            raise BodyTooSlowError(f"the body did not arrive within {BODY_SECONDS:g} seconds") from error

    async def _read_body(self) -> bytes:
        body = bytearray()
        async for chunk in self.request.content.iter_chunked(_READ_BYTES):
            body += chunk
            if len(body) > self._max_body_bytes:
                raise BodyTooLargeError(f"the body is longer than {self._max_body_bytes} bytes")
        return bytes(body)


class Call(Incoming):
    """One request of an authenticated caller whom the policy permits it."""

    def __init__(
        self,
        incoming: Incoming,
        caller: Caller,
        ruling: Ruling,
        authorizer: Authorizer,
        *,
        max_body_bytes: int,
    ) -> None:
        super().__init__(incoming.request, incoming.request_id, max_body_bytes=max_body_bytes)
        self.caller = caller
        self.ruling = ruling
        self._authorizer = authorizer
        self._recorded = False

    @property
    def recorded(self) -> bool:
        """Whether the handler took the event of its act."""
        return self._recorded

    def event(
        self,
        *,
        outcome: Outcome = Outcome.OK,
        object: ObjectRef | None = None,
        n: int = 1,
        type: EventType | None = None,
        ruling: Ruling | None = None,
    ) -> AuditEvent:
        """Return the event of this act, to be recorded in its transaction (``tx.record``)."""
        self._recorded = True
        return self._authorizer.event(
            self.caller,
            ruling or self.ruling,
            outcome=outcome,
            object=object,
            request_id=self.request_id,
            n=n,
            type=type,
        )

    async def require(self, action: Action, resource: Resource) -> Ruling:
        """Ask for one more permission in the same call. Raises AccessDeniedError, recorded."""
        ruling = self._authorizer.decide(self.caller, action, resource)
        if not ruling.allowed:
            await self._authorizer.refuse(self.caller, ruling, request_id=self.request_id)
        return ruling


Handler = Callable[[Call], Awaitable[web.StreamResponse]]
InBandHandler = Callable[[Incoming], Awaitable[web.StreamResponse]]
ResourceOf = Callable[[web.Request, Caller], Awaitable[Resource]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Docs:
    """What the OpenAPI document says of a route."""

    summary: str
    body: type | None = None
    answer: type | None = None
    status: int = 200
    errors: tuple[int, ...] = ()
    query: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """A route of an authenticated caller.

    ``hidden_as`` makes what is raised in place of AccessDeniedError where the resource lies in another
    organisation, so that the answer does not tell whether it exists.
    """

    method: str
    path: str
    handler: Handler
    action: Action
    auth: Auth
    resource: ResourceOf
    recorded_by: RecordedBy
    docs: Docs
    max_body_bytes: int = DEFAULT_MAX_BODY
    hidden_as: Callable[[], SecureChatError] | None = None

    def __post_init__(self) -> None:
        _check_action(self.method, self.path, self.action)


@dataclass(frozen=True, slots=True)
class InBandRoute:
    """A route whose handler authenticates, decides and records by itself."""

    method: str
    path: str
    handler: InBandHandler
    action: Action
    docs: Docs
    max_body_bytes: int = DEFAULT_MAX_BODY

    def __post_init__(self) -> None:
        _check_action(self.method, self.path, self.action)


@dataclass(frozen=True, slots=True)
class PublicRoute:
    """A route without a caller; ``why`` says why it may be one."""

    method: str
    path: str
    handler: InBandHandler
    why: str
    docs: Docs
    max_body_bytes: int = DEFAULT_MAX_BODY

    def __post_init__(self) -> None:
        if not self.why:
            raise SettingsError(f"the public route {self.method} {self.path} must say why it is public")


AnyRoute = Route | InBandRoute | PublicRoute


def json_response(value: msgspec.Struct, *, status: int = 200) -> web.Response:
    """Return ``value`` as JSON."""
    return web.Response(status=status, body=msgspec.json.encode(value), content_type="application/json")


def _check_action(method: str, path: str, action: object) -> None:
    if not isinstance(action, Action):
        raise SettingsError(f"the route {method} {path} names no action")


def _where(error: msgspec.ValidationError) -> str:
    """The field that does not fit; msgspec's own text may repeat the value that was sent."""
    text = str(error)
    return text[text.rindex("`$") :].strip("`") if "`$" in text else "the top level"
