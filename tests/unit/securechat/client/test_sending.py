"""Sending: what is refused at once, what waits, what is sent again, and what is sent once."""

import asyncio

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.clients import QUICK, next_of, open_client, retrying_store, texts, until
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import Message, SendFailed
from securechat.client.chores import expire_unsent
from securechat.client.config import ClientConfig
from securechat.client.records import MessageState
from securechat.errors import (
    ClientClosedError,
    IdempotencyConflictError,
    InvalidIdError,
    MessageRefusedError,
    SendFailedError,
    ServerError,
)
from securechat.wire.frames import Error


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


def refusal(code: str, *, retryable: bool, after_ms: int = 0) -> Error:
    return Error(code, None, retryable, after_ms)


@pytest.mark.parametrize("text", ["", "x" * 65_537, "é" * 32_769, "canary \ud83d"])
async def test_a_text_that_cannot_be_sent_is_refused_at_once(server: FakeServer, text: str) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee"):
        with pytest.raises(MessageRefusedError) as caught:
            await ana.send("lee", text)
        assert "canary" not in str(caught.value)
        assert caught.value.__context__ is None
        assert server.accepted == []


@pytest.mark.parametrize("text", [" ", "\n", "\x00", "x" * 65_536, "\N{PILE OF POO}" * 16_384, "\u202etfel"])
async def test_odd_texts_arrive_as_they_are(server: FakeServer, text: str) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await ana.send("lee", text)
        assert await texts(lee.events(), 1) == [text]


async def test_background_chores_do_not_ask_again_what_a_send_is_asking(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana:
        idle = ana._engine._chores._wake

        async def wake_the_chores() -> None:
            idle.set()
            for _ in range(200):  # turns of the loop: enough for the chores to look at every queue
                await asyncio.sleep(0)
            await ana._engine._storage.read(lambda tx: tx.outbox.queued_users())
            for _ in range(200):
                await asyncio.sleep(0)

        server.while_listing = wake_the_chores
        requests = server.list_requests
        for number in range(20):  # a race: asked again in some of them, not in each
            with pytest.raises(ServerError):
                await ana.send(f"nobody-{number}", "text")
            await wake_the_chores()
        assert server.list_requests == requests + 20
        assert (
            await ana._engine._storage.read(lambda tx: tx.inbox.last_position()) == 0
        )  # and no event beside
        server.while_listing = None


async def test_an_unknown_user_is_an_error_and_leaves_nothing(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana:
        with pytest.raises(ServerError) as caught:
            await ana.send("nobody", "text")
        assert caught.value.server_code == "unknown_user"
        with pytest.raises(InvalidIdError):
            await ana.send("no such id!", "text")


async def test_nobody_writes_to_themselves(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana:
        with pytest.raises(SendFailedError) as caught:
            await ana.send("ana", "text")
        assert caught.value.reason == "no_device"


async def test_the_same_key_sends_once(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee"):
        first = await ana.send("lee", "text", idempotency_key="k-1")
        await first.accepted()
        again = await ana.send("lee", "text", idempotency_key="k-1")
        await again.accepted()
        assert again.message_id == first.message_id
        assert len(server.accepted) == 1


async def test_the_same_key_at_the_same_time_sends_once(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee"):
        sent = await asyncio.gather(*(ana.send("lee", "text", idempotency_key="k") for _ in range(8)))
        await asyncio.gather(*(one.accepted() for one in sent))
        assert len({one.message_id for one in sent}) == 1
        assert len(server.accepted) == 1


async def test_the_same_key_for_another_message_is_a_conflict(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee"), open_client(server, "kim"):
        await ana.send("lee", "text", idempotency_key="k")
        for user, text in (("lee", "other"), ("kim", "text")):
            with pytest.raises(IdempotencyConflictError):
                await ana.send(user, text, idempotency_key="k")
        with pytest.raises(MessageRefusedError):
            await ana.send("lee", "text", idempotency_key="")


async def test_a_key_whose_message_failed_may_be_tried_again(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana:
        with pytest.raises(ServerError):
            await ana.send("lee", "text", idempotency_key="k")
        async with open_client(server, "lee") as lee:
            await ana.send("lee", "text", idempotency_key="k")
            assert await texts(lee.events(), 1) == ["text"]


async def test_without_a_server_messages_wait_in_order_also_to_a_new_user(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        server.go_down()
        sent = [await ana.send("lee", str(number)) for number in range(10)]
        server.online = True
        await asyncio.gather(*(one.accepted() for one in sent))
        assert await texts(lee.events(), 10) == [str(number) for number in range(10)]


async def test_an_offline_client_keeps_what_it_is_given(server: FakeServer) -> None:
    async with open_client(server, "lee") as lee:
        async with open_client(server, "ana") as ana:
            await ana.send("lee", "before")
            await ana.disconnect()
            assert not ana.is_connected
            sent = await ana.send("lee", "while offline")
            await ana.connect()
            await sent.accepted()
        assert await texts(lee.events(), 2) == ["before", "while offline"]


async def test_a_retryable_refusal_is_tried_again_without_changing_the_order(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await (await ana.send("lee", "first")).accepted()
        server.refusals.extend([refusal("mailbox_full", retryable=True)] * 3)
        for number in range(20):
            await ana.send("lee", str(number))
        assert await texts(lee.events(), 21) == ["first", *map(str, range(20))]


async def test_a_full_mailbox_does_not_hold_up_others(server: FakeServer) -> None:
    async with (
        open_client(server, "ana") as ana,
        open_client(server, "lee"),
        open_client(server, "kim") as kim,
    ):
        server.refusals.append(refusal("mailbox_full", retryable=True, after_ms=3_600_000))
        await ana.send("lee", "waits")
        await until(lambda: not server.refusals)
        await (await ana.send("kim", "goes on")).accepted()
        assert await texts(kim.events(), 1) == ["goes on"]


async def test_a_final_refusal_fails_that_message_alone(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await (await ana.send("lee", "good")).accepted()
        server.refusals.append(refusal("denied", retryable=False))
        bad = await ana.send("lee", "bad")
        with pytest.raises(SendFailedError) as caught:
            await bad.accepted()
        assert caught.value.reason == "denied"
        await (await ana.send("lee", "also good")).accepted()
        event = await next_of(ana.events(), SendFailed)
        assert (event.reason, event.recipient, event.message_id) == ("denied", "lee", bad.message_id)
        assert await texts(lee.events(), 2) == ["good", "also good"]
        with pytest.raises(SendFailedError):
            await bad.accepted()


async def test_a_gap_in_the_counter_shows_what_failed(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        server.refusals.append(refusal("denied", retryable=False))
        await ana.send("lee", "lost")
        await ana.send("lee", "arrives")
        assert (await next_of(lee.events(), Message)).counter == 2


async def test_one_session_is_made_for_many_first_messages(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await asyncio.gather(*(ana.send("lee", str(number)) for number in range(20)))
        assert sorted(map(int, await texts(lee.events(), 20))) == list(range(20))
        assert server.claims == 1
        assert server.list_requests <= 2


async def test_nothing_is_sent_to_an_account_without_prekeys_until_it_has_some(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        stock = server.stocks.pop(server.address_of("lee"))
        sent = await ana.send("lee", "waits")
        server.stocks[server.address_of("lee")] = stock
        await sent.accepted()
        assert await texts(lee.events(), 1) == ["waits"]


async def test_waiting_ends_when_the_client_closes(server: FakeServer) -> None:
    async with open_client(server, "lee"):
        async with open_client(server, "ana") as ana:
            await ana.send("lee", "first")
            server.go_down()
            sent = await ana.send("lee", "never")
            waiting = asyncio.create_task(sent.accepted())
            await asyncio.sleep(0)
            await ana.disconnect()
        with pytest.raises(ClientClosedError):
            await waiting
        with pytest.raises(ClientClosedError):
            await sent.accepted()


async def test_an_envelope_that_nobody_takes_expires(server: FakeServer) -> None:
    store = await retrying_store()
    async with open_client(server, "ana", store) as ana, open_client(server, "lee"):
        await (await ana.send("lee", "first")).accepted()
        await ana.disconnect()
        sent = await ana.send("lee", "too late")
        found = await store.write(lambda tx: expire_unsent(tx, server.clock() + 1))
        assert found == [(sent.message_id, MessageState.FAILED)]
        with pytest.raises(SendFailedError) as caught:
            await sent.accepted()
        assert caught.value.reason == "expired"
        assert (await next_of(ana.events(), SendFailed)).reason == "expired"


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["send", "cut", "refuse", "down", "up", "both"]), max_size=30))
def test_whatever_happens_both_sides_get_everything_in_order(acts: list[str]) -> None:
    asyncio.run(_conversation(acts))


async def _conversation(acts: list[str]) -> None:
    server = FakeServer(HandClock())
    config = ClientConfig(window=3, backoff=QUICK.backoff)
    async with (
        open_client(server, "ana", config=config) as ana,
        open_client(server, "lee", config=config) as lee,
    ):
        sent: dict[str, list[str]] = {"ana": [], "lee": []}
        for number, act in enumerate(acts):
            if act == "cut":
                server.drop_connections()
            elif act == "refuse":
                server.refusals.append(refusal("mailbox_full", retryable=True))
            elif act in ("down", "up"):
                server.go_down()
                server.online = act == "up"
            else:
                writers = (("lee", ana), ("ana", lee)) if act == "both" else (("lee", ana),)
                for to, _ in writers:
                    sent[to].append(str(number))
                await asyncio.gather(*(writer.send(to, str(number)) for to, writer in writers))
        server.online = True
        async with asyncio.timeout(20):
            assert await texts(lee.events(), len(sent["lee"])) == sent["lee"]
            assert await texts(ana.events(), len(sent["ana"])) == sent["ana"]
        assert len(server.accepted) == len(sent["lee"]) + len(sent["ana"])
