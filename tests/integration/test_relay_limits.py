"""The relay against hostile, slow and late peers, and against a full disk."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from support.relay_peer import RelayPeer, until
from support.relay_server import RelayServer, TestDevice, enroll, make_device
from support.server_parts import HandClock

from securechat.relay.flood import FrameRate
from securechat.relay.limits import RelayLimits
from securechat.relay.mailbox import Quota
from securechat.relay.window import WindowLimits
from securechat.wire.frames import MAX_BODY_BYTES, MAX_FRAME_BYTES, Ack, Error, Ping, Pong, QueueEmpty, Send

PAT = make_device("pat", 1, "patient")
LEE = make_device("dr.lee")

Start = Callable[[RelayLimits], Awaitable[RelayServer]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    servers: list[RelayServer] = []

    async def run(limits: RelayLimits) -> RelayServer:
        server = RelayServer(tmp_path / "server.db", HandClock(), limits=limits)
        for device in (PAT, LEE):
            enroll(server.accounts, device)
        await server.start()
        servers.append(server)
        return server

    yield run
    for server in servers:
        await server.stop()


def peer(server: RelayServer, device: TestDevice, *, ttl_s: int = 600) -> RelayPeer:
    token = server.app.token(device.address.user, *device.roles, ttl_s=ttl_s)
    return RelayPeer(server.url, device, token)


# --- frames


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"\xc1", 4400),
        (b"", 4400),
        (b"\x91\x63", 4400),
        (b"\x92\x10\xc0", 4400),
        (bytes(MAX_FRAME_BYTES + 1), 4413),
    ],
)
async def test_a_frame_that_no_client_sends_ends_the_connection(
    start: Start, payload: bytes, code: int
) -> None:
    server = await start(RelayLimits())
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        await pat.socket.send_bytes(payload)
        assert await pat.closed() == code
        await lee.put(Ping(1))
        await lee.until(lambda frame: isinstance(frame, Pong))


async def test_a_text_message_ends_the_connection(start: Start) -> None:
    async with peer(await start(RelayLimits()), PAT) as pat:
        await pat.socket.send_str("hello")
        assert await pat.closed() == 4400


async def test_a_second_log_in_ends_the_connection(start: Start) -> None:
    async with peer(await start(RelayLimits()), PAT) as pat:
        await pat.put(pat.proof(bytes(32)))
        assert await pat.closed() == 4400


async def test_an_enormous_frame_is_refused_and_others_are_served(start: Start) -> None:
    server = await start(RelayLimits())
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        await pat.socket.send_bytes(bytes(8 * MAX_FRAME_BYTES))
        assert await pat.closed() in (1006, 1009)
        await lee.put(Ping(1))
        await lee.until(lambda frame: isinstance(frame, Pong))


async def test_a_flood_of_frames_ends_the_connection_and_others_are_served(start: Start) -> None:
    server = await start(RelayLimits(rate=FrameRate(burst=100, per_second=1)))
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        for number in range(101):
            await pat.put(Ping(number))
        assert await pat.closed() == 4429
        await lee.put(Ping(1))
        await lee.until(lambda frame: isinstance(frame, Pong))


async def test_the_largest_message_passes(start: Start) -> None:
    server = await start(RelayLimits())
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        body = os.urandom(MAX_BODY_BYTES)
        await pat.send(LEE.address, 1, body)
        assert (await lee.delivered(1))[0].body == body


# --- log-in


async def test_whoever_does_not_answer_the_challenge_is_shut_out(start: Start) -> None:
    server = await start(RelayLimits(login_s=0.05))
    silent = peer(server, PAT)
    await silent.open()
    assert await silent.closed() == 4401
    await silent.close()


async def test_a_stopping_server_does_not_wait_for_whoever_has_not_logged_in(start: Start) -> None:
    server = await start(RelayLimits())
    silent = peer(server, PAT)
    await silent.open()
    await silent.receive()
    await server.relay.stop()
    assert await silent.closed() == 1001
    late = peer(server, PAT)
    await late.open()
    assert await late.closed() == 1001
    await silent.close()
    await late.close()


async def test_a_first_frame_that_is_no_log_in_is_refused(start: Start) -> None:
    hasty = peer(await start(RelayLimits()), PAT)
    await hasty.open()
    await hasty.put(Send(bytes(16), "dr.lee", 1, b"x"))
    assert await hasty.closed() == 4401
    await hasty.close()


async def test_a_stolen_token_opens_nothing_without_the_devices_key(start: Start) -> None:
    server = await start(RelayLimits())
    thief = replace(LEE, address=PAT.address)
    stolen = RelayPeer(server.url, thief, server.app.token("pat", "patient"))
    await stolen.open()
    with pytest.raises(AssertionError, match="proof_invalid"):
        await stolen.log_in()
    assert await stolen.closed() == 4401
    assert ("auth.login-failed", "deny", "proof_invalid") in server.journal.told()
    await stolen.close()


async def test_a_suspended_account_may_not_open_its_mailbox(start: Start) -> None:
    server = await start(RelayLimits())
    enroll(server.accounts, PAT, status="suspended")
    suspended = peer(server, PAT)
    await suspended.open()
    with pytest.raises(AssertionError, match="access_denied"):
        await suspended.log_in()
    assert await suspended.closed() == 4403
    assert any(kind == "message.receive" and outcome == "deny" for kind, outcome, _ in server.journal.told())
    await suspended.close()


async def test_a_removed_device_is_cut_off_at_once(start: Start) -> None:
    server = await start(RelayLimits())
    async with peer(server, PAT) as pat:
        server.relay.access_ended(LEE.address.user, None)
        server.relay.access_ended(PAT.address.user, PAT.address.device)
        assert await pat.closed() == 4403


async def test_a_connection_ends_with_its_token(start: Start) -> None:
    server = await start(RelayLimits(tick_s=0.01))
    async with peer(server, PAT, ttl_s=60) as pat:
        await pat.put(Ping(1))
        await pat.until(lambda frame: isinstance(frame, Pong))
        server.clock.advance(60)
        assert await pat.closed() == 4408


# --- windows and quotas


async def test_no_more_than_the_window_is_delivered_before_an_acknowledgement(start: Start) -> None:
    server = await start(RelayLimits(window=WindowLimits(messages=10)))
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        for number in range(1, 31):
            await pat.send(LEE.address, number)
        await pat.accepted(30)
        assert [each.seq for each in await lee.delivered(10)] == list(range(1, 11))
        await lee.put(Ping(1))
        await lee.expect(Pong)
        await lee.ack(5)
        assert [each.seq for each in await lee.delivered(5)] == list(range(11, 16))
        await lee.ack(15)
        assert [each.seq for each in await lee.delivered(10)] == list(range(16, 26))
        await lee.ack(25)
        assert [each.seq for each in await lee.delivered(5)] == list(range(26, 31))


async def test_the_window_counts_bytes_and_lets_a_larger_message_through_alone(start: Start) -> None:
    server = await start(RelayLimits(window=WindowLimits(bytes=2500)))
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        for number, size in enumerate((1000, 1000, 1000, 5000, 10), 1):
            await pat.send(LEE.address, number, bytes(size))
        await pat.accepted(5)
        for seqs in ([1, 2], [3], [4], [5]):
            assert [each.seq for each in await lee.delivered(len(seqs))] == seqs
            await lee.put(Ping(1))
            await lee.until(lambda frame: isinstance(frame, Pong))
            await lee.ack(seqs[-1])


async def test_a_full_mailbox_refuses_for_now_and_keeps_the_order(start: Start) -> None:
    server = await start(RelayLimits(quota=Quota(messages=3)))
    async with peer(server, PAT) as pat:
        await pat.expect(QueueEmpty)
        for number in range(1, 6):
            await pat.send(LEE.address, number)
        assert len(await pat.accepted_until_error()) == 3
        assert [each.code for each in pat.errors] == ["mailbox_full"]
        assert (await pat.expect(Error)).code == "order_hold"
        async with peer(server, LEE) as lee:
            await lee.delivered(3)
            await lee.ack(3)
            while True:  # the acknowledgement makes room when its commit is done
                await pat.send(LEE.address, 4)
                frame = await pat.receive()
                if not isinstance(frame, Error):
                    break
                assert frame.code == "mailbox_full"
            await pat.send(LEE.address, 5)
            assert [int.from_bytes(each.message_id, "big") for each in await lee.delivered(2)] == [4, 5]
    assert ("message.send", "error", "mailbox_full") in server.journal.told()


async def test_a_mailbox_is_full_by_bytes_too(start: Start) -> None:
    server = await start(RelayLimits(quota=Quota(bytes=2500)))
    async with peer(server, PAT) as pat:
        await pat.expect(QueueEmpty)
        for number in range(1, 4):
            await pat.send(LEE.address, number, bytes(1000))
        assert len(await pat.accepted_until_error()) == 2
        assert [each.code for each in pat.errors] == ["mailbox_full"]


async def test_a_sender_waits_while_too_many_of_its_sends_are_on_their_way(start: Start) -> None:
    server = await start(RelayLimits(unanswered_sends=4))
    async with peer(server, PAT) as pat, peer(server, LEE) as lee:
        for number in range(1, 101):
            await pat.send(LEE.address, number)
        assert len(await pat.accepted(100)) == 100
        assert [each.seq for each in await lee.delivered(100)] == list(range(1, 101))


# --- health


async def test_a_silent_connection_is_pinged_and_lives_if_it_answers(start: Start) -> None:
    server = await start(RelayLimits(tick_s=0.01, ping_after_s=0.05, silent_s=0.5))
    async with peer(server, PAT) as pat:
        await pat.expect(QueueEmpty)
        reading = asyncio.create_task(pat.receive())
        server.clock.advance(1)
        done, _ = await asyncio.wait([reading], timeout=1.0)
        assert not done
        reading.cancel()


async def test_a_half_open_connection_is_noticed_and_its_messages_are_kept(start: Start) -> None:
    server = await start(RelayLimits(tick_s=0.01, ping_after_s=0.05, silent_s=0.2, close_s=0.1))
    dead = peer(server, LEE)
    await dead.open()
    await dead.log_in()
    await until(lambda: server.relay.connections == 0)  # it reads nothing, so it answers no ping
    await dead.close()
    async with peer(server, PAT) as pat:
        await pat.send(LEE.address, 1)
        await pat.accepted(1)
    async with peer(server, LEE) as lee:
        assert [each.seq for each in await lee.caught_up()] == [1]


async def test_a_consumer_that_never_reads_costs_no_more_than_its_window(start: Start) -> None:
    server = await start(RelayLimits(tick_s=0.05, ping_after_s=0.5, silent_s=1.5, close_s=0.1))
    lazy = peer(server, LEE)
    await lazy.open()
    await lazy.log_in()
    lazy.stop_reading()
    before = resident_bytes()
    async with peer(server, PAT) as pat:
        for number in range(1, 501):
            await pat.send(LEE.address, number, os.urandom(64 * 1024))
        await pat.accepted(500)
    await until(lambda: server.relay.connections == 0)
    assert resident_bytes() - before < 100 * 2**20  # 32 MB went through; the batches in flight are within it
    await lazy.close()
    async with peer(server, LEE) as lee:
        seen: list[int] = []
        while len(seen) < 500:
            seen += [each.seq for each in await lee.delivered(1)]
            if len(seen) % 8 == 0:
                await lee.ack(seen[-1])
        assert seen == list(range(1, 501))


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- disk


async def test_a_full_disk_refuses_sends_and_service_returns_with_space(tmp_path: Path) -> None:
    server = RelayServer(tmp_path / "server.db", HandClock(), quota_bytes=600_000)
    for device in (PAT, LEE):
        enroll(server.accounts, device)
    await server.start()
    async with peer(server, PAT) as pat:
        await pat.expect(QueueEmpty)
        stored = 0
        while True:
            await pat.send(LEE.address, stored + 1, bytes(40_000))
            frame = await pat.receive()
            if isinstance(frame, Error):
                break
            stored += 1
        assert (frame.code, frame.retryable) == ("store_full", True)
        assert stored > 5
        async with peer(server, LEE) as lee:
            assert len(await lee.caught_up()) == stored
            await lee.ack(stored)
            while isinstance(frame, Error):
                await pat.send(LEE.address, stored + 1, bytes(40_000))
                frame = await pat.receive()
            assert (await lee.delivered(1))[0].seq == stored + 1
    await server.stop()


async def test_an_ack_frame_of_the_wrong_form_is_malformed(start: Start) -> None:
    async with peer(await start(RelayLimits()), PAT) as pat:
        await pat.put(Ack(b"short", 1))
        assert await pat.closed() == 4400
