"""The relay over real sockets: acceptance, delivery, acknowledgement, order, presence."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Connection
from support.relay_peer import RelayPeer
from support.relay_server import RelayServer, TestDevice, enroll, make_device
from support.server_parts import HandClock, MemoryAccounts

from securechat.errors import StoreError
from securechat.ids import UserId, org_id
from securechat.relay.limits import RelayLimits
from securechat.web.accounts import AccountInfo
from securechat.wire.frames import FLAG_EPHEMERAL, FLAG_URGENT, Deliver, Error, Ping, Pong, QueueEmpty

PAT = make_device("pat", 1, "patient")
LEE = make_device("dr.lee")
ROB = make_device("rob", 1, "patient")
FAR = make_device("far", org=org_id("org-2"))


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[RelayServer]:
    running = RelayServer(tmp_path / "server.db", HandClock())
    for device in (PAT, LEE, ROB, FAR):
        enroll(running.accounts, device)
    await running.start()
    yield running
    await running.stop()


def peer(server: RelayServer, device: TestDevice) -> RelayPeer:
    token = server.app.token(device.address.user, *device.roles, org=device.org)
    return RelayPeer(server.url, device, token)


class FlakyAccounts(MemoryAccounts):
    """Cannot be read once: at the look-up of dr.lee's account with the number ``fail_at``, from then on."""

    fail_at = 0

    async def account(self, user: UserId) -> AccountInfo | None:
        if user == LEE.address.user and self.fail_at:
            self.fail_at -= 1
            if not self.fail_at:
                raise StoreError("the database cannot be read")
        return await super().account(user)


async def rows(server: RelayServer, table: str) -> int:
    def count(connection: Connection) -> int:
        return int(connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one())

    return await server.db.read(count)


async def until_rows(server: RelayServer, table: str, expected: int) -> None:
    async with asyncio.timeout(10):
        while await rows(server, table) != expected:
            continue


async def test_a_message_is_accepted_and_delivered_live(server: RelayServer) -> None:
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        await lee.expect(QueueEmpty)
        message = await pat.send(LEE.address, 1, b"sealed", urgent=True)
        delivered = (await lee.delivered(1))[0]
        assert await pat.accepted(1) == [message]
        assert (delivered.seq, delivered.message_id, delivered.body) == (1, message, b"sealed")
        assert (delivered.user, delivered.device, delivered.flags) == ("pat", 1, FLAG_URGENT)
        assert delivered.accepted_ms == server.clock.now_ms


async def test_what_came_while_offline_is_delivered_first_and_then_the_queue_is_empty(
    server: RelayServer,
) -> None:
    async with peer(server, PAT) as pat:
        for number in range(1, 601):
            await pat.send(LEE.address, number)
        await pat.accepted(600)
        async with peer(server, LEE) as lee:
            got: list[int] = []
            while len(got) < 600:
                page = await lee.delivered(1)
                got.append(page[0].seq)
                if page[0].seq % 100 == 0:
                    await lee.ack(page[0].seq)
            assert got == list(range(1, 601))
            assert (await lee.expect(QueueEmpty)).seq == 600
            await pat.send(LEE.address, 601)
            assert (await lee.delivered(1))[0].seq == 601


async def test_an_empty_queue_is_told_at_once(server: RelayServer) -> None:
    async with peer(server, LEE) as lee:
        assert (await lee.expect(QueueEmpty)).seq == 0
        assert lee.ready is not None
        assert lee.ready.acked_seq == 0


async def test_what_is_acknowledged_is_deleted_and_not_delivered_again(server: RelayServer) -> None:
    async with peer(server, PAT) as pat:
        for number in range(1, 11):
            await pat.send(LEE.address, number)
        await pat.accepted(10)
    async with peer(server, LEE) as lee:
        assert len(await lee.caught_up()) == 10
        await lee.ack(7)
        await until_rows(server, "inbox", 3)
    async with peer(server, LEE) as lee:
        assert lee.ready is not None
        assert lee.ready.acked_seq == 7
        assert [each.seq for each in await lee.caught_up()] == [8, 9, 10]


async def test_stale_forged_and_reordered_acks_never_move_the_cursor_back_or_too_far(
    server: RelayServer,
) -> None:
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        for number in range(1, 6):
            await pat.send(LEE.address, number)
        await lee.delivered(5)
        await lee.ack(4)
        await until_rows(server, "inbox", 1)
        await lee.ack(2)
        for seq, epoch, code in (
            (6, None, "ack_beyond_end"),
            (5, bytes(16), "stale_epoch"),
            (2**50, None, "ack_beyond_end"),
        ):
            await lee.ack(seq, epoch)
            frame = (await lee.until(lambda each: isinstance(each, Error)))[-1]
            assert isinstance(frame, Error)
            assert (frame.code, frame.message_id, frame.retryable) == (code, None, False)
        await lee.put(Ping(1))
        await lee.until(lambda each: isinstance(each, Pong))
        assert await rows(server, "inbox") == 1
    async with peer(server, LEE) as lee:
        assert lee.ready is not None
        assert lee.ready.acked_seq == 4
        assert [each.seq for each in await lee.caught_up()] == [5]


async def test_a_device_cannot_acknowledge_for_another(server: RelayServer) -> None:
    async with peer(server, PAT) as pat, peer(server, LEE) as lee, peer(server, ROB) as rob:
        await pat.send(LEE.address, 1)
        await lee.delivered(1)
        assert lee.ready is not None
        await rob.ack(1, lee.ready.epoch)
        frame = (await rob.until(lambda each: isinstance(each, Error)))[-1]
        assert isinstance(frame, Error)
        assert frame.code == "stale_epoch"
        assert await rows(server, "inbox") == 1


async def test_the_same_message_sent_again_is_accepted_again_and_stored_once(server: RelayServer) -> None:
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        for _ in range(3):
            await pat.send(LEE.address, 1)
        await pat.accepted(3)
        await pat.send(LEE.address, 2)
        assert [each.seq for each in await lee.delivered(2)] == [1, 2]
        await lee.ack(2)
        await until_rows(server, "inbox", 0)
        await pat.send(LEE.address, 1)
        await pat.accepted(2)
        assert await rows(server, "inbox") == 0


async def test_the_same_message_over_two_connections_at_once_is_stored_once(server: RelayServer) -> None:
    async with peer(server, PAT) as first:
        for number in range(1, 51):
            await first.send(LEE.address, number)
        async with peer(server, PAT) as second:
            for number in range(1, 51):
                await second.send(LEE.address, number)
            await second.accepted(50)
    assert await rows(server, "inbox") == 50


async def test_two_senders_may_use_the_same_message_id(server: RelayServer) -> None:
    async with peer(server, PAT) as pat, peer(server, ROB) as rob, peer(server, LEE) as lee:
        await pat.send(LEE.address, 1)
        await rob.send(LEE.address, 1)
        assert {each.user for each in await lee.delivered(2)} == {"pat", "rob"}


async def test_a_newer_connection_of_a_device_ends_the_older(server: RelayServer) -> None:
    async with peer(server, LEE) as older:
        await older.expect(QueueEmpty)
        async with peer(server, LEE) as newer:
            assert await older.closed() == 4409
            async with peer(server, PAT) as pat:
                await pat.send(LEE.address, 1)
                assert (await newer.delivered(1))[0].seq == 1


async def test_of_many_connections_at_once_exactly_one_survives(server: RelayServer) -> None:
    peers = [peer(server, LEE) for _ in range(12)]
    for each in peers:
        await each.open()
    await asyncio.gather(*(each.log_in() for each in peers))
    assert server.relay.connections == 1
    async with peer(server, PAT) as pat:
        await pat.send(LEE.address, 1)
        await pat.accepted(1)

    async def ending(each: RelayPeer) -> int | None:
        frames = await each.until(lambda frame: isinstance(frame, QueueEmpty | Deliver))
        while not isinstance(frames[-1], Deliver):
            frames.append(await each.receive())
        return None

    results = await asyncio.gather(*(ending(each) for each in peers), return_exceptions=True)
    assert sum(result is None for result in results) == 1
    for each in peers:
        await each.close()


async def test_an_ephemeral_message_reaches_a_connected_device_and_is_never_stored(
    server: RelayServer,
) -> None:
    async with peer(server, PAT) as pat:
        await pat.send(LEE.address, 1, ephemeral=True)
        await pat.accepted(1)
        async with peer(server, LEE) as lee:
            assert await lee.caught_up() == []
            await pat.send(LEE.address, 2, ephemeral=True)
            got = (await lee.delivered(1))[0]
            assert (got.seq, got.flags, got.message_id) == (0, FLAG_EPHEMERAL, (2).to_bytes(16, "big"))
            assert await rows(server, "inbox") == 0
            assert await rows(server, "sent_ids") == 0


async def test_nobody_but_a_known_device_of_the_same_organisation_gets_messages(server: RelayServer) -> None:
    nobody = make_device("nobody").address
    other = make_device("dr.lee", 2).address
    async with peer(server, PAT) as pat:
        for number, address, code in (
            (1, nobody, "unknown_recipient"),
            (2, other, "unknown_recipient"),
            (3, FAR.address, "unknown_recipient"),
            (4, ROB.address, "denied"),
        ):
            await pat.send(address, number)
            frame = (await pat.until(lambda each: isinstance(each, Error)))[-1]
            assert isinstance(frame, Error)
            assert (frame.code, frame.retryable, frame.message_id) == (
                code,
                False,
                number.to_bytes(16, "big"),
            )
        await pat.send(LEE.address, 5)
        await pat.accepted(1)
    told = server.journal.told()
    assert any(kind == "message.send" and outcome == "deny" for kind, outcome, _ in told)
    assert ("message.send", "error", "unknown_recipient") in told


async def test_every_act_is_recorded_with_who_did_it(server: RelayServer) -> None:
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        await pat.send(LEE.address, 1)
        await lee.delivered(1)
        await lee.ack(1)
        await until_rows(server, "inbox", 0)
    events = {(each.type.value, each.actor.id): each for each in server.journal.events}
    assert set(events) == {
        ("message.receive", "pat"),
        ("message.receive", "dr.lee"),
        ("message.send", "pat"),
        ("message.ack", "dr.lee"),
    }
    sent = events["message.send", "pat"]
    assert sent.object is not None
    assert (sent.object.kind, sent.object.id, sent.actor.device) == ("account", "dr.lee", "1")
    assert sent.policy is not None
    assert sent.policy.ids


async def test_without_an_audit_log_nothing_is_accepted_and_afterwards_everything_in_order(
    server: RelayServer,
) -> None:
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        await lee.expect(QueueEmpty)
        await pat.expect(QueueEmpty)
        server.journal.broken = True
        for number in (1, 2, 3):
            await pat.send(LEE.address, number)
        refusals = [await pat.expect(Error) for _ in range(3)]
        assert all(each.retryable and each.retry_after_ms for each in refusals)
        assert await rows(server, "inbox") == 0
        server.journal.broken = False
        await pat.send(LEE.address, 3)
        assert (await pat.expect(Error)).code == "order_hold"
        for number in (1, 2, 3):
            await pat.send(LEE.address, number)
        await pat.accepted(3)
        assert [int.from_bytes(each.message_id, "big") for each in await lee.delivered(3)] == [1, 2, 3]


async def test_a_refused_permission_does_not_let_a_message_overtake_the_one_before_it(
    tmp_path: Path,
) -> None:
    accounts = FlakyAccounts()
    server = RelayServer(
        tmp_path / "server.db", HandClock(), accounts=accounts, limits=RelayLimits(permit_s=0)
    )
    enroll(accounts, PAT)
    enroll(accounts, LEE)
    await server.start()
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        await lee.expect(QueueEmpty)
        await pat.expect(QueueEmpty)
        accounts.fail_at = 2
        first, second = await pat.send(LEE.address, 1), await pat.send(LEE.address, 2)
        assert await pat.accepted_until_error() == [first]
        assert [(error.code, error.message_id) for error in pat.errors] == [("store_unavailable", second)]
        await pat.send(LEE.address, 2)
        assert await pat.accepted(1) == [second]
        assert [each.message_id for each in await lee.delivered(2)] == [first, second]
    await server.stop()


async def test_a_refusal_of_one_recipient_does_not_hold_up_another(server: RelayServer) -> None:
    async with peer(server, LEE) as lee:
        server.journal.broken = True
        await lee.send(PAT.address, 1)
        await lee.expect(QueueEmpty)
        assert (await lee.expect(Error)).code == "store_unavailable"
        server.journal.broken = False
        await lee.send(ROB.address, 2)
        assert await lee.accepted(1) == [(2).to_bytes(16, "big")]


async def test_a_restarted_server_goes_on_where_it_was(server: RelayServer) -> None:
    async with peer(server, PAT) as pat:
        await pat.send(LEE.address, 1)
        await pat.accepted(1)
    port = server.port
    await server.stop()
    await server.start(port)
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        await pat.send(LEE.address, 1)
        await pat.send(LEE.address, 2)
        await pat.accepted(2)
        assert [each.seq for each in await lee.delivered(2)] == [1, 2]


async def test_a_stopping_server_says_so(server: RelayServer) -> None:
    async with peer(server, LEE) as lee:
        await lee.expect(QueueEmpty)
        await server.relay.stop()
        assert await lee.closed() == 1001
