"""Challenges, sessions and health: the routes by which every caller begins."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Final

import msgspec
from aiohttp import web

from audit.catalogue import EventType
from audit.errors import AuditUnavailableError
from securechat.authz.model import Action
from securechat.base64url import decode_base64url, encode_base64url
from securechat.errors import AuthenticationError, StoreError
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.ports import Clock
from securechat.tokens import MAX_TOKEN_CHARS
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer
from securechat.web.caller import Caller
from securechat.web.challenges import LIFETIME_MS
from securechat.web.resources import Resources
from securechat.web.routes import (
    AnyRoute,
    Auth,
    Call,
    Docs,
    InBandRoute,
    Incoming,
    PublicRoute,
    RecordedBy,
    Route,
    json_response,
)
from securechat.wire.auth import ChallengePurpose

READY_MS: Final = 1000  # anybody may ask, so asking must stay cheap

Base64Url = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9_-]*$", description="base64url without padding")]


class NewChallenge(msgspec.Struct, frozen=True):
    """32 bytes to sign, the server's clock, and when the challenge ends."""

    challenge: Base64Url
    server_time_ms: int
    expires_ms: int


class NewSession(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token, the device, and its signature over the challenge (docs/format.md, "Challenge")."""

    token: Annotated[str, msgspec.Meta(max_length=MAX_TOKEN_CHARS)]
    user: str
    device: int
    challenge: Base64Url
    signature: Base64Url

    def __repr__(self) -> str:
        return f"NewSession({self.user}, {self.device})"


class OpenedSession(msgspec.Struct, frozen=True):
    """The session's secret, for ``Authorization: Session ...``, and when it ends with its token."""

    session: str
    expires_ms: int

    def __repr__(self) -> str:
        return f"OpenedSession(until {self.expires_ms})"


class Health(msgspec.Struct, frozen=True):
    """The process answers."""

    status: str


class SessionApi:
    """Handlers; ``ready`` raises a SecureChatError or AuditError while the server cannot do its work."""

    def __init__(
        self,
        authenticator: Authenticator,
        authorizer: Authorizer,
        *,
        clock: Clock,
        resources: Resources,
        ready: Callable[[], Awaitable[None]],
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._clock = clock
        self.resources = resources
        self._ready = ready
        self._was_ready_ms = -READY_MS

    async def new_challenge(self, incoming: Incoming) -> web.Response:
        """Hand out a challenge; nothing is kept until it succeeds."""
        challenge, now_ms = self._authenticator.new_challenge(), self._clock()
        body = NewChallenge(encode_base64url(challenge), now_ms, now_ms + LIFETIME_MS)
        return json_response(body, status=201)

    async def open_session(self, incoming: Incoming) -> web.Response:
        """Open a session for a device that proved its key, if the policy permits its user one."""
        body = await incoming.json(NewSession)
        caller = await self._log_in(incoming, body)
        ruling = self._authorizer.decide(caller, Action.SESSION_OPEN, self.resources.own_account(caller))
        if not ruling.allowed:
            await self._authorizer.refuse(caller, ruling, request_id=incoming.request_id)
        session = self._authenticator.open_session(caller)
        event = self._authorizer.event(caller, ruling, request_id=incoming.request_id)
        try:
            await self._authorizer.record(event)
        except (StoreError, AuditUnavailableError):
            self._authenticator.close_session(session)
            raise
        return json_response(OpenedSession(session, caller.expires_ms), status=201)

    async def close_session(self, call: Call) -> web.Response:
        """End the session of the call."""
        await self._authorizer.record(call.event(type=EventType.SESSION_CLOSE))
        self._authenticator.close_session(call.credentials(Auth.SESSION))
        return web.Response(status=204)

    async def alive(self, incoming: Incoming) -> web.Response:
        """Answer as long as the process does."""
        return json_response(Health("ok"))

    async def ready(self, incoming: Incoming) -> web.Response:
        """Answer 200 while the server can do its work, 503 otherwise; looked at once a second at most."""
        now_ms = self._clock()
        if not 0 <= now_ms - self._was_ready_ms < READY_MS:
            await self._ready()
            self._was_ready_ms = now_ms
        return json_response(Health("ready"))

    async def _log_in(self, incoming: Incoming, body: NewSession) -> Caller:
        address = ProtocolAddress(user_id(body.user), device_id(body.device))
        challenge, signature = decode_base64url(body.challenge), decode_base64url(body.signature)
        try:
            return await self._authenticator.authenticate(
                ChallengePurpose.SESSION, body.token, address, challenge, signature
            )
        except AuthenticationError as error:
            request_id = incoming.request_id
            await self._authorizer.login_failed(error, source=incoming.source, request_id=request_id)
            raise


def session_routes(api: SessionApi) -> tuple[AnyRoute, ...]:
    """Return the routes of ``api``."""
    return (
        PublicRoute(
            "POST",
            "/v1/challenges",
            api.new_challenge,
            "a log-in begins here; the answer is random bytes",
            Docs(summary="Get a challenge to sign", answer=NewChallenge, status=201),
        ),
        InBandRoute(
            "POST",
            "/v1/sessions",
            api.open_session,
            Action.SESSION_OPEN,
            Docs(
                summary="Open a session of an enrolled device",
                body=NewSession,
                answer=OpenedSession,
                status=201,
                errors=(400, 401, 403, 503),
            ),
        ),
        Route(
            "DELETE",
            "/v1/sessions/current",
            api.close_session,
            Action.SESSION_OPEN,
            Auth.SESSION,
            api.resources.own_account_of,
            RecordedBy.HANDLER,
            Docs(summary="Log out", status=204),
        ),
        PublicRoute(
            "GET",
            "/healthz",
            api.alive,
            "a supervisor asks without credentials",
            Docs(summary="Is the process alive?", answer=Health),
        ),
        PublicRoute(
            "GET",
            "/readyz",
            api.ready,
            "a load balancer asks without credentials",
            Docs(summary="Can the server do its work?", answer=Health, errors=(503,)),
        ),
    )
