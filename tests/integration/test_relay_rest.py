"""The REST twin over a real server, and two nodes that share one database."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from support.relay_peer import RelayPeer
from support.relay_server import RelayServer, TestDevice, enroll, make_device
from support.server_parts import HandClock, b64

from securechat.base64url import decode_base64url
from securechat.ids import org_id
from securechat.relay.bus import InProcessBus
from securechat.relay.limits import RelayLimits
from securechat.relay.mailbox import Quota
from securechat.wire.auth import ChallengePurpose, challenge_message
from securechat.wire.frames import Error, QueueEmpty

PAT = make_device("pat", 1, "patient")
LEE = make_device("dr.lee")
ROB = make_device("rob", 1, "patient")


@dataclass
class Bot:
    """A device with a session."""

    http: aiohttp.ClientSession
    url: str
    session: str

    async def call(self, method: str, path: str, body: object = None) -> tuple[int, dict[str, Any]]:
        headers = {"Authorization": f"Session {self.session}"}
        async with self.http.request(method, self.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def send(
        self, to: TestDevice, number: int, body: bytes = b"sealed", **more: object
    ) -> tuple[int, Any]:
        address = to.address
        content = {
            "message_id": b64(number.to_bytes(16, "big")),
            "user": address.user,
            "device": address.device,
        }
        return await self.call("POST", "/v1/messages", {**content, "body": b64(body), **more})


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RelayServer]:
    limits = RelayLimits(quota=Quota(messages=5))
    running = RelayServer(tmp_path / "server.db", HandClock(), limits=limits)
    for device in (PAT, LEE, ROB):
        enroll(running.accounts, device)
    await running.start()
    yield running
    await running.stop()


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def log_in(http: aiohttp.ClientSession, server: RelayServer, device: TestDevice) -> Bot:
    token = server.app.token(device.address.user, *device.roles)
    async with http.post(server.url + "/v1/challenges") as answer:
        challenge = decode_base64url((await answer.json())["challenge"])
    message = challenge_message(ChallengePurpose.SESSION, device.address, challenge, token)
    body = {
        "token": token,
        "user": device.address.user,
        "device": device.address.device,
        "challenge": b64(challenge),
        "signature": b64(device.signing.sign(message)),
    }
    async with http.post(server.url + "/v1/sessions", json=body) as answer:
        return Bot(http, server.url, (await answer.json())["session"])


def peer(server: RelayServer, device: TestDevice) -> RelayPeer:
    return RelayPeer(server.url, device, server.app.token(device.address.user, *device.roles))


async def test_a_bot_sends_fetches_and_acknowledges(server: RelayServer, http: aiohttp.ClientSession) -> None:
    pat, lee = await log_in(http, server, PAT), await log_in(http, server, LEE)
    for number in (1, 2, 3):
        assert await pat.send(LEE, number, b"sealed %d" % number) == (
            201,
            {"accepted_ms": server.clock.now_ms},
        )
    status, page = await lee.call("GET", "/v1/messages?limit=2")
    assert (status, page["queue_empty"], page["acked_seq"]) == (200, False, 0)
    assert [(item["seq"], decode_base64url(item["body"])) for item in page["items"]] == [
        (1, b"sealed 1"),
        (2, b"sealed 2"),
    ]
    assert page["items"][0]["sender"] == {"user": "pat", "device": 1}
    status, rest = await lee.call("GET", "/v1/messages?after=2")
    assert (status, rest["queue_empty"], [item["seq"] for item in rest["items"]]) == (200, True, [3])
    ack = {"epoch": page["epoch"], "seq": 2}
    assert await lee.call("POST", "/v1/messages/ack", ack) == (200, {"released": 2})
    assert await lee.call("POST", "/v1/messages/ack", ack) == (200, {"released": 0})
    status, rest = await lee.call("GET", "/v1/messages")
    assert ([item["seq"] for item in rest["items"]], rest["acked_seq"]) == ([3], 2)


async def test_a_repeated_send_gets_the_first_answer(
    server: RelayServer, http: aiohttp.ClientSession
) -> None:
    pat = await log_in(http, server, PAT)
    first = await pat.send(LEE, 1)
    server.clock.advance(5)
    again = await asyncio.gather(*(pat.send(LEE, 1) for _ in range(5)))
    assert [*again] == [first] * 5
    assert server.journal.told().count(("message.send", "ok", "")) == 1


async def test_what_a_bot_sends_reaches_a_connected_device_at_once(
    server: RelayServer, http: aiohttp.ClientSession
) -> None:
    pat = await log_in(http, server, PAT)
    async with peer(server, LEE) as lee:
        await lee.expect(QueueEmpty)
        await pat.send(LEE, 1, urgent=True)
        assert (await lee.delivered(1))[0].message_id == (1).to_bytes(16, "big")
        await pat.send(LEE, 2, ephemeral=True)
        assert (await lee.delivered(1))[0].seq == 0


async def test_an_account_of_another_organisation_looks_exactly_like_none(
    server: RelayServer, http: aiohttp.ClientSession
) -> None:
    pat, far = await log_in(http, server, PAT), make_device("far", org=org_id("org-2"))
    enroll(server.accounts, far)
    status, known = await pat.send(far, 1)
    assert (status, known["code"]) == (404, "unknown_recipient")
    unknown = (await pat.send(make_device("nobody"), 1))[1]
    assert {**known, "request_id": ""} == {**unknown, "request_id": ""}


async def test_refusals_are_problems_with_stable_codes(
    server: RelayServer, http: aiohttp.ClientSession
) -> None:
    pat = await log_in(http, server, PAT)
    nobody = make_device("nobody")
    answers = [await pat.send(nobody, 1), await pat.send(ROB, 1)]
    for number in range(1, 7):
        answers.append(await pat.send(LEE, number))
    found = [(status, body.get("code"), body.get("retryable")) for status, body in answers]
    assert found[0] == (404, "unknown_recipient", False)
    assert found[1] == (403, "access_denied", False)
    assert found[-1] == (507, "mailbox_full", True)
    told = server.journal.told()
    assert ("message.send", "error", "unknown_recipient") in told
    assert ("message.send", "error", "mailbox_full") in told
    assert any(kind == "message.send" and outcome == "deny" for kind, outcome, _ in told)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/messages", {"message_id": "x"}, 400, "bad_request"),
        ("POST", "/v1/messages/ack", {"epoch": "A" * 22, "seq": -1}, 400, "bad_request"),
        ("POST", "/v1/messages/ack", {"epoch": "A" * 22, "seq": 0}, 409, "stale_epoch"),
        ("POST", "/v1/messages/ack", {"epoch": "!" * 22, "seq": 0}, 400, "malformed"),
        ("GET", "/v1/messages?after=-1", None, 400, "bad_request"),
        ("GET", "/v1/messages?after=+1", None, 400, "bad_request"),
        ("GET", "/v1/messages?limit=257", None, 400, "bad_request"),
        ("GET", "/v1/messages?limit=" + "9" * 5000, None, 400, "bad_request"),
    ],
)
async def test_a_malformed_request_is_refused(
    server: RelayServer,
    http: aiohttp.ClientSession,
    method: str,
    path: str,
    body: object,
    status: int,
    code: str,
) -> None:
    lee = await log_in(http, server, LEE)
    got, problem = await lee.call(method, path, body)
    assert (got, problem["code"]) == (status, code)


async def test_without_a_session_nothing_is_sent_or_read(
    server: RelayServer, http: aiohttp.ClientSession
) -> None:
    stranger = Bot(http, server.url, "A" * 43)
    for answer in (await stranger.send(LEE, 1), await stranger.call("GET", "/v1/messages")):
        assert (answer[0], answer[1]["code"]) == (401, "session_unknown")


async def test_without_an_audit_log_nothing_is_sent_or_read(
    server: RelayServer, http: aiohttp.ClientSession
) -> None:
    pat = await log_in(http, server, PAT)
    server.journal.broken = True
    for status, problem in (await pat.send(LEE, 1), await pat.call("GET", "/v1/messages")):
        assert (status, problem["retryable"]) == (503, True)
    server.journal.broken = False
    assert (await pat.send(LEE, 1))[0] == 201


async def test_two_nodes_wake_each_other_and_fence_each_others_connections(tmp_path: Path) -> None:
    bus, clock = InProcessBus(), HandClock()
    one = RelayServer(tmp_path / "server.db", clock, node="node-1", bus=bus)
    for device in (PAT, LEE):
        enroll(one.accounts, device)
    await one.start()
    two = RelayServer(
        tmp_path / "server.db", clock, node="node-2", bus=bus, database=one.database, accounts=one.accounts
    )
    await two.start()
    async with peer(one, PAT) as pat, peer(two, LEE) as lee:
        await lee.expect(QueueEmpty)
        await pat.send(LEE.address, 1)
        assert (await lee.delivered(1))[0].seq == 1
        async with peer(one, LEE) as newer:
            assert await lee.closed() == 4409
            await pat.send(LEE.address, 2)
            assert [each.seq for each in await newer.delivered(2)] == [1, 2]
    await two.stop()
    await one.stop()


async def test_a_lost_wake_up_is_found_by_the_next_look(tmp_path: Path) -> None:
    clock, limits = HandClock(), RelayLimits(poll_s=0.05)
    one = RelayServer(tmp_path / "server.db", clock, node="node-1", bus=InProcessBus(), limits=limits)
    for device in (PAT, LEE):
        enroll(one.accounts, device)
    await one.start()
    two = RelayServer(
        tmp_path / "server.db",
        clock,
        node="node-2",
        bus=InProcessBus(),
        limits=limits,
        database=one.database,
        accounts=one.accounts,
    )
    await two.start()
    async with peer(one, PAT) as pat, peer(two, LEE) as lee:
        await lee.expect(QueueEmpty)
        await pat.send(LEE.address, 1)
        assert (await lee.delivered(1))[0].seq == 1
        assert not isinstance(await pat.receive(), Error)
    await two.stop()
    await one.stop()
