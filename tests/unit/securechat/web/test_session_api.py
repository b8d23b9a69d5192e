"""Log-in, log-out, and what is left of them."""

import json
from dataclasses import replace

from support.guarded_server import CANARY, World, greet, problem
from support.server_parts import b64

from securechat.authz.model import AccountStatus
from securechat.ids import user_id
from securechat.web.session_api import NewSession, OpenedSession


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
