"""Events: kept until acknowledged, in order, through crashes; what passes is told in between."""

import asyncio
from pathlib import Path

import pytest
from support.clients import file_store, next_of, open_client, retrying_store, texts
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import (
    CaughtUp,
    Client,
    ClockSkew,
    DecryptFailed,
    Event,
    IdentityChanged,
    Message,
    SendFailed,
    StoreRestored,
    Unsupported,
)
from securechat.client.events import event_of, nothing_to_acknowledge
from securechat.client.records import EventKind, EventRecord
from securechat.errors import ServerError, TransportError

CANARY = "canary-text"


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


async def test_what_is_not_acknowledged_comes_again_in_order(server: FakeServer, tmp_path: Path) -> None:
    path = tmp_path / "lee.db"
    async with open_client(server, "ana") as ana:
        async with open_client(server, "lee", await file_store(path)) as lee:
            for number in range(6):
                await ana.send("lee", str(number))
            events = lee.events()
            for number in range(4):
                message = await next_of(events, Message)
                assert message.text == str(number)
                if number != 1:
                    await message.ack()
        async with open_client(server, "lee", await file_store(path), connect=False) as lee:
            assert await texts(lee.events(), 1) == ["1"]
        async with open_client(server, "lee", await file_store(path)) as lee:
            assert await texts(lee.events(), 2) == ["4", "5"]


async def test_acknowledging_twice_is_harmless(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await ana.send("lee", "one")
        await ana.send("lee", "two")
        events = lee.events()
        message = await next_of(events, Message)
        await message.ack()
        await message.ack()
        assert await texts(events, 1) == ["two"]


async def test_an_iterator_that_is_left_loses_nothing(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await ana.send("lee", "kept")
        assert (await next_of(lee.events(), Message)).text == "kept"
        assert (await next_of(lee.events(), Message)).text == "kept"
        waiting = asyncio.ensure_future(anext(lee.events()))
        await asyncio.sleep(0)
        waiting.cancel()
        assert await texts(lee.events(), 1) == ["kept"]


async def test_iterating_ends_with_the_client(server: FakeServer) -> None:
    async with open_client(server, "lee") as lee:
        events = lee.events()
        await next_of(events, CaughtUp)
        waiting = asyncio.ensure_future(anext(events, None))
        await asyncio.sleep(0)
        assert not waiting.done()
    assert await waiting is None
    assert [event async for event in lee.events()] == []


async def test_caught_up_is_told_once_for_each_connection(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        events = lee.events()
        await next_of(events, CaughtUp)
        await ana.send("lee", "live")
        await texts(events, 1)
        await lee.disconnect()
        await (await ana.send("lee", "meanwhile")).accepted()
        await lee.connect()
        told: list[Event] = [await anext(events), await anext(events)]
        assert [type(event) for event in told] == [Message, CaughtUp]


async def test_a_wrong_clock_is_told_once_and_does_no_harm(server: FakeServer) -> None:
    wrong = HandClock(server.clock() - 86_400_000)
    async with open_client(server, "ana", clock=wrong) as ana, open_client(server, "lee") as lee:
        skew = await next_of(ana.events(), ClockSkew)
        assert skew.skew_ms == 86_400_000
        await ana.send("lee", "one day late")
        message = await next_of(lee.events(), Message)
        assert message.sent_ms == server.clock(), "the corrected time is sent"
        await lee.send("ana", "answer")
        assert await texts(ana.events(), 1) == ["answer"]


async def test_a_final_failure_reaches_the_application(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        sent = await ana.send("lee", "waiting")
        await sent.accepted()
        await texts(lee.events(), 1)
        server.mailboxes[server.address_of("lee")].connection.cut(  # type: ignore[union-attr]
            ServerError("connected_elsewhere", status=4409, retryable=False)
        )
        with pytest.raises(ServerError) as caught:
            await next_of(lee.events(), Message)
        assert caught.value.server_code == "connected_elsewhere"
        unsent = await lee.send("ana", "kept in the outbox")
        with pytest.raises(ServerError):
            await unsent.accepted()
        await lee.connect()
        await unsent.accepted()
        assert await texts(ana.events(), 1) == ["kept in the outbox"]


async def test_a_device_opens_without_a_server_once_it_is_enrolled(server: FakeServer) -> None:
    store = await retrying_store()
    server.online = False
    with pytest.raises(TransportError):
        async with open_client(server, "ana", store):
            pass
    server.online = True
    store = await retrying_store()
    async with open_client(server, "lee"), open_client(server, "ana", store) as ana:
        await ana.disconnect()
        server.online = False
        await ana.connect()
        assert not ana.is_connected
        server.online = True
        await (await ana.send("lee", "text")).accepted()
        assert ana.is_connected


@pytest.mark.parametrize("kind", EventKind)
def test_no_event_shows_a_text_or_a_name(kind: EventKind) -> None:
    record = EventRecord(kind, "canary.user", 3, b"m" * 16, b"", 1, 2, 3, CANARY, "code")
    event = event_of(record, nothing_to_acknowledge)
    for shown in (repr(event), str(event), repr(record), f"{event}"):
        assert "canary" not in shown


def test_events_match_by_their_fields() -> None:
    seen: list[object] = []
    for kind in EventKind:
        record = EventRecord(kind, "lee", 3, b"m" * 16, b"r" * 16, 7, 2, 3, "text", "code")
        match event_of(record, nothing_to_acknowledge):
            case Message(sender=sender, text=text, reply_to=reply_to, counter=counter):
                seen.append((sender, text, reply_to, counter))
            case DecryptFailed(reason=reason) | SendFailed(reason=reason):
                seen.append(reason)
            case IdentityChanged(user=user):
                seen.append(user)
            case Unsupported(kind=number):
                seen.append(number)
            case StoreRestored():
                seen.append("restored")
    assert seen == [("lee", "text", b"r" * 16, 7), "code", "code", "lee", 7, "restored"]


async def test_nothing_that_an_application_holds_prints_a_secret(server: FakeServer) -> None:
    async with open_client(server, "canary.user") as ana, open_client(server, "lee") as lee:
        sent = await ana.send("lee", CANARY)
        conversation = await ana.direct("lee")
        message = await next_of(lee.events(), Message)
        shown = [repr(thing) for thing in (ana, sent, conversation, message, lee.events())]
        assert not [text for text in shown if "canary" in text]
        assert isinstance(ana, Client)
        assert repr(ana) == "<Client connected>"
        assert [reader.user for reader in conversation.readers()] == ["canary.user", "lee"]
