"""The guard around every route: deny by default, every decision recorded, or nothing happens."""

from dataclasses import replace

import pytest
from aiohttp import web
from support.guarded_server import CANARY, DOCS, Answer, World, greet, problem

from securechat.authz.model import Action, Resource
from securechat.errors import SettingsError, StoreFullError
from securechat.ids import org_id, user_id
from securechat.web.caller import Caller
from securechat.web.errors import NotFoundError, RateLimitedError
from securechat.web.routes import Auth, Call, Incoming, PublicRoute, RecordedBy, json_response


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


@pytest.mark.parametrize(
    ("given", "recorded"),
    [
        ("0b1e4c6a-91f2-4b1e-8a53-0c5ad0a4c1de", True),
        ("4bf92f3577b34da6a3ce929d0e0e4736", True),
        ("Ana-M", False),
    ],
)
async def test_only_an_opaque_request_id_is_recorded(world: World, given: str, recorded: bool) -> None:
    await world.start(world.route(greet))
    headers = {**await world.session(), "X-Request-Id": given}
    response = await world.client.get("/v1/thing", headers=headers)
    assert response.headers["X-Request-Id"] == given
    assert (world.journal.events[-1].request_id == given) is recorded


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


def test_a_route_without_an_action_cannot_be_built(world: World) -> None:
    with pytest.raises(SettingsError):
        world.route(greet, action="prekey.count")  # type: ignore[arg-type]  # what the check is for


def test_a_public_route_must_say_why(world: World) -> None:
    async def anybody(incoming: Incoming) -> web.Response:
        return json_response(Answer("hello"))

    with pytest.raises(SettingsError):
        PublicRoute("GET", "/", anybody, "", DOCS)
