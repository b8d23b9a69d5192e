"""The application: deny by default, every decision recorded, every error a problem response."""

import asyncio
import io
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest
import structlog
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer
from support.identities import RepeatableRandom, make_person
from support.server_parts import App, HandClock, Journal, MemoryAccounts, answer, b64, shipped_decisions

from securechat.authz.model import AccountStatus, Action, Resource
from securechat.base64url import decode_base64url
from securechat.errors import SettingsError, StoreFullError
from securechat.ids import org_id, user_id
from securechat.logs import configure_logging
from securechat.web.app import Services, build_app
from securechat.web.authentication import Authenticator
from securechat.web.authorization import Authorizer
from securechat.web.caller import Caller
from securechat.web.errors import NotFoundError, RateLimitedError
from securechat.web.resources import Resources
from securechat.web.routes import Auth, Call, Docs, Incoming, PublicRoute, RecordedBy, Route, json_response
from securechat.web.session_api import NewSession, OpenedSession, SessionApi, session_routes
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


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    if hasattr(world, "client"):
        await world.client.close()


async def greet(call: Call) -> web.Response:
    return json_response(Answer("hello"))


async def problem(response: ClientResponse) -> tuple[int, str, bool]:
    assert response.content_type == "application/problem+json"
    body = await response.json()
    assert body["type"] == f"urn:securechat:problem:{body['code']}"
    assert body["status"] == response.status
    assert body["request_id"] == response.headers["X-Request-Id"]
    return response.status, body["code"], body["retryable"]


async def test_an_allowed_call_is_answered_and_recorded_with_its_policies(world: World) -> None:
    await world.start(world.route(greet))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert (response.status, await response.json()) == (200, {"text": "hello"})
    assert world.told() == [("session.open", "ok", ""), ("prekey.count", "ok", "")]
    event = world.journal.events[-1]
    assert event.policy is not None
    assert event.policy.ids == ("keys-own",)
    assert len(event.policy.set_hash) == 64
    assert event.actor.id == "ana"
    assert event.actor.roles == ("patient",)
    assert event.actor.device == "1"
    assert event.actor.session is not None
    assert event.request_id == response.headers["X-Request-Id"]
    assert event.org == "org-1"


async def test_a_denied_call_is_a_403_that_names_the_rule_and_is_recorded(world: World) -> None:
    async def lee(request: web.Request, caller: Caller) -> Resource:
        return world.resources.account(world.accounts.accounts[user_id("lee")])

    await world.start(world.route(greet, resource=lee))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (403, "access_denied", False)
    assert "guard-own-keys" in (await response.json())["detail"]
    assert world.told()[-1] == ("prekey.count", "deny", "guard-own-keys")
    assert world.journal.events[-1].policy is not None
    assert world.journal.events[-1].policy.ids == ("guard-own-keys",)


async def test_another_organisation_s_resource_looks_as_if_it_did_not_exist(world: World) -> None:
    async def foreign(request: web.Request, caller: Caller) -> Resource:
        info = world.accounts.accounts[user_id("lee")]
        return world.resources.account(replace(info, org=org_id("org-2")))

    await world.start(world.route(greet, resource=foreign, hidden=True, action=Action.PREKEY_FETCH))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (404, "not_found", False)
    assert world.told()[-1] == ("prekey.fetch", "deny", "guard-organisation")


async def test_a_resource_that_does_not_exist_is_recorded_too(world: World) -> None:
    async def missing(request: web.Request, caller: Caller) -> Resource:
        raise NotFoundError("there is no such thing")

    await world.start(world.route(greet, resource=missing))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (404, "not_found", False)
    assert world.told()[-1] == ("prekey.count", "error", "not_found")


@pytest.mark.parametrize(
    "header",
    [{}, {"Authorization": "Session"}, {"Authorization": "Session wrong"}, {"Authorization": "Bearer x"},
     {"Authorization": "Basic YTpi"}],
)  # fmt: skip
async def test_without_a_session_nothing_is_done_and_the_attempt_is_recorded(
    world: World, header: dict[str, str]
) -> None:
    await world.start(world.route(greet))
    response = await world.client.get("/v1/thing", headers=header)
    assert await problem(response) == (401, "session_unknown", False)
    assert response.headers["WWW-Authenticate"] == "Session, Bearer"
    assert world.told() == [("auth.login-failed", "deny", "session_unknown")]


async def test_a_token_alone_opens_only_the_routes_that_say_so(world: World) -> None:
    token = world.app.token("ana", "patient")
    await world.start(world.route(greet, auth=Auth.TOKEN))
    for header, status in ((f"Bearer {token}", 200), (f"bearer {token}", 200), (f"Session {token}", 401)):
        response = await world.client.get("/v1/thing", headers={"Authorization": header})
        assert response.status == status


async def test_a_suspended_account_is_denied_at_once_in_an_open_session(world: World) -> None:
    await world.start(world.route(greet))
    header = await world.session()
    user = user_id("ana")
    world.accounts.accounts[user] = replace(world.accounts.accounts[user], status=AccountStatus.SUSPENDED)
    assert await problem(await world.client.get("/v1/thing", headers=header)) == (403, "access_denied", False)
    token = world.app.token("ana", "patient")
    refused = await world.client.post("/v1/sessions", json=await world.login_body(token))
    assert await problem(refused) == (403, "access_denied", False)
    assert world.told()[-1] == ("session.open", "deny", "guard-suspended")


async def test_a_role_that_no_policy_knows_is_denied(world: World) -> None:
    await world.start()
    token = world.app.token("ana", "superuser")
    refused = await world.client.post("/v1/sessions", json=await world.login_body(token))
    assert await problem(refused) == (403, "access_denied", False)
    assert world.told()[-1] == ("session.open", "deny", "policy-error")


async def test_when_the_record_cannot_be_written_nothing_is_answered(world: World) -> None:
    await world.start(world.route(greet))
    header = await world.session()
    world.journal.broken = True
    response = await world.client.get("/v1/thing", headers=header)
    assert await problem(response) == (503, "audit_unavailable", True)
    assert "hello" not in await response.text()
    refused = await world.client.get("/v1/thing", headers={"Authorization": "Session wrong"})
    assert await problem(refused) == (503, "audit_unavailable", True)
    body = await world.login_body(world.app.token("ana", "patient"))
    assert await problem(await world.client.post("/v1/sessions", json=body)) == (
        503,
        "audit_unavailable",
        True,
    )


async def test_an_act_that_its_handler_did_not_record_is_a_fault(world: World) -> None:
    await world.start(world.route(greet, recorded_by=RecordedBy.HANDLER))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (500, "internal", False)


async def test_a_handler_that_records_is_not_recorded_twice(world: World) -> None:
    async def act(call: Call) -> web.Response:
        await world.authorizer.record(call.event())
        return json_response(Answer("done"))

    await world.start(world.route(act, recorded_by=RecordedBy.HANDLER))
    await world.client.get("/v1/thing", headers=await world.session())
    assert world.told()[1:] == [("prekey.count", "ok", "")]


async def test_an_allowed_act_that_fails_is_recorded_with_its_code(world: World) -> None:
    async def fail(call: Call) -> web.Response:
        raise RateLimitedError(1500, (("RateLimit", '"x";r=0;t=2'),))

    await world.start(world.route(fail))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (429, "rate_limited", True)
    assert response.headers["Retry-After"] == "2"
    assert response.headers["RateLimit"] == '"x";r=0;t=2'
    assert (await response.json())["retry_after_ms"] == 1500
    assert world.told()[1:] == [("prekey.count", "error", "rate_limited")]


async def test_a_further_permission_that_is_refused_is_recorded_once(world: World) -> None:
    async def more(call: Call) -> web.Response:
        await call.require(Action.AUDIT_QUERY, world.resources.audit_log(call.caller.principal.org))
        return json_response(Answer("never"))

    await world.start(world.route(more))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (403, "access_denied", False)
    assert [(kind, outcome) for kind, outcome, _ in world.told()[1:]] == [("audit.query", "deny")]


async def test_a_full_disk_is_a_503_that_may_be_tried_again(world: World) -> None:
    async def full(call: Call) -> web.Response:
        raise StoreFullError(CANARY)

    await world.start(world.route(full))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (503, "store_full", True)
    assert CANARY not in await response.text()


async def test_an_unforeseen_error_says_nothing_of_itself(world: World) -> None:
    async def crash(call: Call) -> web.Response:
        raise ValueError(CANARY)

    await world.start(world.route(crash))
    response = await world.client.get("/v1/thing", headers=await world.session())
    assert await problem(response) == (500, "internal", False)
    assert CANARY not in await response.text()
    assert world.told()[-1] == ("prekey.count", "error", "internal")


async def echo(call: Call) -> web.Response:
    return json_response(await call.json(Answer))


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"text":"a"}', "application/json", (200, "")),
        (b'{"text":1}', "application/json", (400, "bad_request")),
        (b'{"text":', "application/json", (400, "bad_request")),
        (b"", "application/json", (400, "bad_request")),
        (b'{"text":"\xff"}', "application/json", (400, "bad_request")),
        (b"[" * 90, "application/json", (400, "bad_request")),
        (b'{"text":"a"}', "text/plain", (415, "unsupported_media_type")),
        (b'{"text":"' + b"a" * 100 + b'"}', "application/json", (413, "body_too_large")),
    ],
)
async def test_a_body_is_taken_only_in_its_form_and_size(
    world: World, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    await world.start(world.route(echo, method="POST"))
    header = {**await world.session(), "Content-Type": kind}
    response = await world.client.post("/v1/thing", data=body, headers=header)
    assert (response.status, (await response.json()).get("code", "")) == expected


async def test_a_body_without_a_length_is_cut_at_the_limit(world: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a" * 50

    await world.start(world.route(echo, method="POST"))
    header = {**await world.session(), "Content-Type": "application/json"}
    response = await world.client.post("/v1/thing", data=endless(), headers=header)
    assert await problem(response) == (413, "body_too_large", False)


async def test_a_bad_body_is_described_without_being_repeated(world: World) -> None:
    await world.start(world.route(echo, method="POST"))
    header = {**await world.session(), "Content-Type": "application/json"}
    for body in (f'{{"text":["{CANARY}"]}}', f'{{"{CANARY}":1}}', CANARY):
        response = await world.client.post("/v1/thing", data=body, headers=header)
        assert response.status == 400
        assert CANARY not in await response.text()


@pytest.mark.parametrize("given", ["abc-123", "A.b_c", "x" * 64])
async def test_a_request_id_is_echoed(world: World, given: str) -> None:
    await world.start()
    response = await world.client.get("/healthz", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "<script>", "é"])
async def test_a_request_id_that_is_no_tag_is_replaced(world: World, given: str) -> None:
    await world.start()
    response = await world.client.get("/healthz", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] not in ("", given)


async def test_every_answer_forbids_caching_and_names_no_software(world: World) -> None:
    await world.start()
    for path in ("/healthz", "/nowhere"):
        response = await world.client.get(path)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Server"] == "securechat"


async def test_what_is_no_route_is_a_404_and_a_wrong_method_a_405(world: World) -> None:
    await world.start(world.route(greet))
    assert await problem(await world.client.get("/v1/nothing")) == (404, "not_found", False)
    assert await problem(await world.client.delete("/v1/thing")) == (405, "method_not_allowed", False)


async def test_health_is_told_without_credentials(world: World) -> None:
    await world.start()
    assert (await world.client.get("/healthz")).status == 200
    assert (await world.client.get("/readyz")).status == 200
    world.ready_error = StoreFullError("the disk is full")
    assert (await world.client.get("/readyz")).status == 200
    world.clock.advance(1)
    assert (await world.client.get("/healthz")).status == 200
    assert await problem(await world.client.get("/readyz")) == (503, "store_full", True)


async def test_a_log_out_ends_the_session_and_is_recorded(world: World) -> None:
    await world.start(world.route(greet))
    header = await world.session()
    assert (await world.client.delete("/v1/sessions/current", headers=header)).status == 204
    assert world.told()[-1] == ("session.close", "ok", "")
    assert (await world.client.get("/v1/thing", headers=header)).status == 401


async def test_a_log_in_without_the_device_key_is_refused_and_recorded(world: World) -> None:
    await world.start()
    token = world.app.token("ana", "patient")
    body = {**await world.login_body(token), "signature": b64(b"\0" * 64)}
    assert await problem(await world.client.post("/v1/sessions", json=body)) == (401, "proof_invalid", False)
    assert world.told() == [("auth.login-failed", "deny", "proof_invalid")]
    assert token not in json.dumps([str(event) for event in world.journal.events])


async def test_a_flood_of_failed_log_ins_is_recorded_as_counts(world: World) -> None:
    await world.start(world.route(greet))
    for _ in range(60):
        await world.client.get("/v1/thing", headers={"Authorization": "Session wrong"})
    assert len(world.journal.events) == 20
    await world.client.close()
    assert sum(event.n for event in world.journal.events) == 60


async def test_a_session_that_cannot_be_recorded_is_not_left_open(world: World) -> None:
    await world.start()
    body = await world.login_body(world.app.token("ana", "patient"))
    world.journal.broken = True
    assert (await world.client.post("/v1/sessions", json=body)).status == 503
    assert not world.authenticator._sessions._open


def test_what_carries_a_secret_does_not_print_it() -> None:
    asked = NewSession(CANARY, "ana", 1, CANARY, CANARY)
    assert CANARY not in f"{asked!r} {asked} {OpenedSession(CANARY, 1)!r}"


async def test_hostile_bytes_leave_no_text_of_theirs_in_the_log(world: World) -> None:
    handlers, out = logging.root.handlers[:], io.StringIO()
    configure_logging(out)
    try:
        await world.start()
        server = world.client.server
        for raw in (f"GET /{CANARY} HTTP/9.9\r\n{CANARY}\r\n\r\n", f"\x00{CANARY}\r\n\r\n"):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(raw.encode())
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        await world.client.get(f"/{CANARY}")
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
    assert CANARY not in out.getvalue()
    assert "Traceback" not in out.getvalue()


async def test_bytes_that_are_no_http_get_a_400_and_end_the_connection(world: World) -> None:
    await world.start()
    for raw in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"):
        server = world.client.server
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(raw + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.") or answer == b""
        assert b"Traceback" not in answer
        writer.close()


@pytest.mark.parametrize(("key", "accepted"), [("abc", True), ("x" * 128, True), ("x" * 129, False)])
async def test_an_idempotency_key_is_1_to_128_visible_characters(
    world: World, key: str, accepted: bool
) -> None:
    async def show(call: Call) -> web.Response:
        return json_response(Answer(call.idempotency_key or "none"))

    await world.start(world.route(show, method="POST"))
    header = {**await world.session(), "Idempotency-Key": key}
    response = await world.client.post("/v1/thing", headers=header)
    assert response.status == (200 if accepted else 400)


def test_a_route_without_an_action_cannot_be_built(world: World) -> None:
    with pytest.raises(SettingsError):
        world.route(greet, action="prekey.count")  # type: ignore[arg-type]  # what the check is for


def test_a_public_route_must_say_why(world: World) -> None:
    async def anybody(incoming: Incoming) -> web.Response:
        return json_response(Answer("hello"))

    with pytest.raises(SettingsError):
        PublicRoute("GET", "/", anybody, "", DOCS)
