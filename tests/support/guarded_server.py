"""A server on a free port of this machine with a route to test, the shipped policies and a journal."""

from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from support.identities import RepeatableRandom, make_person
from support.server_parts import App, HandClock, Journal, MemoryAccounts, answer, b64, shipped_decisions

from securechat.authz.model import Action, Resource
from securechat.base64url import decode_base64url
from securechat.web.app import Services, build_app
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer
from securechat.web.caller import Caller
from securechat.web.errors import NotFoundError
from securechat.web.resources import Resources
from securechat.web.routes import Auth, Call, Docs, PublicRoute, RecordedBy, Route, json_response
from securechat.web.session_api import SessionApi, session_routes
from securechat.wire.auth import ChallengePurpose

ANA = make_person("ana", one_time=0)
LEE = make_person("lee", one_time=0)
DOCS = Docs(summary="a test")
CANARY = "canary-8841"
Handler = Callable[[Call], Awaitable[web.StreamResponse]]


class Answer(msgspec.Struct):
    """A body in both directions."""

    text: str


class World:
    """A server on a free port of this machine, with the shipped policies."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.random = RepeatableRandom("world")
        self.app = App(self.clock)
        self.journal = Journal()
        self.accounts = MemoryAccounts()
        self.accounts.add(ANA, "patient")
        self.accounts.add(LEE, "clinician")
        decisions = shipped_decisions()
        self.resources = Resources(decisions.roles)
        self.authenticator = Authenticator(
            tokens=self.app.verifier, accounts=self.accounts, clock=self.clock, random_bytes=self.random
        )
        self.authorizer = Authorizer(decisions, self.journal, clock=self.clock, random_bytes=self.random)
        self.ready_error: Exception | None = None
        self.client: TestClient[web.Request, web.Application]

    async def start(self, *routes: Route | PublicRoute) -> None:
        api = SessionApi(
            self.authenticator,
            self.authorizer,
            clock=self.clock,
            resources=self.resources,
            ready=self._ready,
        )
        services = Services(self.authenticator, self.authorizer, self.clock, self.random)
        self.client = TestClient(TestServer(build_app((*routes, *session_routes(api)), services)))
        await self.client.start_server()

    async def _ready(self) -> None:
        if self.ready_error is not None:
            raise self.ready_error

    def route(
        self,
        handler: Handler,
        *,
        method: str = "GET",
        action: Action = Action.PREKEY_COUNT,
        recorded_by: RecordedBy = RecordedBy.LAYER,
        resource: Callable[[web.Request, Caller], Awaitable[Resource]] | None = None,
        hidden: bool = False,
        auth: Auth = Auth.SESSION,
    ) -> Route:
        return Route(
            method,
            "/v1/thing",
            handler,
            action,
            auth,
            resource or self.resources.own_account_of,
            recorded_by,
            DOCS,
            max_body_bytes=100,
            hidden_as=(lambda: NotFoundError("there is no such thing")) if hidden else None,
        )

    async def session(self) -> dict[str, str]:
        token = self.app.token("ana", "patient")
        response = await self.client.post("/v1/sessions", json=await self.login_body(token))
        assert response.status == 201
        return {"Authorization": f"Session {(await response.json())['session']}"}

    async def login_body(self, token: str) -> dict[str, object]:
        asked = await (await self.client.post("/v1/challenges")).json()
        challenge = decode_base64url(asked["challenge"])
        signature = answer(ChallengePurpose.SESSION, ANA, challenge, token)
        return {
            "token": token,
            "user": "ana",
            "device": 1,
            "challenge": asked["challenge"],
            "signature": b64(signature),
        }

    def told(self) -> list[tuple[str, str, str]]:
        return self.journal.told()


async def greet(call: Call) -> web.Response:
    return json_response(Answer("hello"))


async def echo(call: Call) -> web.Response:
    return json_response(await call.json(Answer))


async def problem(response: ClientResponse) -> tuple[int, str, bool]:
    assert response.content_type == "application/problem+json"
    body = await response.json()
    assert body["type"] == f"urn:securechat:problem:{body['code']}"
    assert body["status"] == response.status
    assert body["request_id"] == response.headers["X-Request-Id"]
    return response.status, body["code"], body["retryable"]
