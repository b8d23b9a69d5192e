"""Two clients and a server in memory: the main path, in every order of who is there."""

import asyncio

import pytest
from support.clients import next_of, open_client, texts
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import CaughtUp, Message


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


async def test_a_text_arrives_as_it_was_sent(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        sent = await ana.send("lee", "Potassium 6.1 \N{ZERO WIDTH JOINER} كيف")
        await sent.accepted()
        message = await next_of(lee.events(), Message)
        assert message.text == "Potassium 6.1 \N{ZERO WIDTH JOINER} كيف"
        assert (message.sender, message.device) == (ana.user, ana.device)
        assert message.message_id == sent.message_id
        assert message.counter == 1


async def test_a_conversation_goes_back_and_forth(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        to_ana, to_lee = lee.events(), ana.events()
        for number in range(30):
            await ana.send("lee", f"question {number}")
            assert await texts(to_ana, 1) == [f"question {number}"]
            await lee.send("ana", f"answer {number}")
            assert await texts(to_lee, 1) == [f"answer {number}"]


async def test_what_waited_comes_before_caught_up(server: FakeServer) -> None:
    async with open_client(server, "lee", connect=False) as lee:
        async with open_client(server, "ana") as ana:
            await lee.connect()
            await lee.disconnect()
            for number in range(5):
                await (await ana.send("lee", str(number))).accepted()
        await lee.connect()
        events = lee.events()
        seen = []
        async for event in events:
            if isinstance(event, CaughtUp):
                break
            assert isinstance(event, Message)
            seen.append(event.text)
        assert seen == ["0", "1", "2", "3", "4"]


async def test_both_may_begin_at_once(server: FakeServer) -> None:
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await asyncio.gather(ana.send("lee", "first"), lee.send("ana", "also first"))
        assert await texts(lee.events(), 1) == ["first"]
        assert await texts(ana.events(), 1) == ["also first"]
        await ana.send("lee", "second")
        await lee.send("ana", "also second")
        assert await texts(lee.events(), 1) == ["second"]
        assert await texts(ana.events(), 1) == ["also second"]
