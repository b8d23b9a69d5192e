"""A session that its peer has never answered: the prekeys that it names do not last for ever."""

import pytest
from support.clients import open_client, texts, until
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import Client
from securechat.protocol.choice import MAX_UNANSWERED_MS


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


def lose_all(server: FakeServer, user: str) -> None:
    """Let what waits for ``user`` expire at the relay."""
    server.mailbox(server.address_of(user)).items.clear()


async def renewed_prekeys(server: FakeServer, client: Client) -> None:
    """Connect ``client``, and wait until its signed prekey is of today."""
    await client.connect()
    await until(lambda: server.stocks[server.address_of(client.user)].signed.created_ms == server.clock())


async def test_a_session_unanswered_for_thirty_days_is_started_anew_at_the_next_send(
    server: FakeServer,
) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await lee.disconnect()
        await (await ana.send("lee", "expires")).accepted()
        clock.advance(MAX_UNANSWERED_MS / 1_000)
        await (await ana.send("lee", "expires too")).accepted()
        assert server.claims == 1, "thirty days are not over yet"
        lose_all(server, "lee")
        clock.advance(1)
        await renewed_prekeys(server, lee)
        await (await ana.send("lee", "opens")).accepted()
        await (await ana.send("lee", "as well")).accepted()
        assert server.claims == 2
        assert await texts(lee.events(), 2) == ["opens", "as well"]


async def test_an_answered_session_serves_for_ever(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await ana.send("lee", "hello")
        assert await texts(lee.events(), 1) == ["hello"]
        await lee.send("ana", "answer")
        assert await texts(ana.events(), 1) == ["answer"]
        clock.advance(10 * MAX_UNANSWERED_MS / 1_000)
        await ana.send("lee", "still there")
        assert await texts(lee.events(), 1) == ["still there"]
        assert server.claims == 1


async def test_without_the_server_the_message_waits_for_the_new_session(server: FakeServer) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await lee.disconnect()
        await (await ana.send("lee", "expires")).accepted()
        clock.advance(MAX_UNANSWERED_MS / 1_000 + 1)
        lose_all(server, "lee")
        await renewed_prekeys(server, lee)
        server.directory_online = False
        waiting = await ana.send("lee", "waits")
        assert not server.mailbox(server.address_of("lee")).items
        server.directory_online = True
        await waiting.accepted()
        assert await texts(lee.events(), 1) == ["waits"]


async def test_a_device_that_has_left_its_prekeys_to_expire_delays_nothing_and_is_asked_once_a_day(
    server: FakeServer,
) -> None:
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "ana") as ana, open_client(server, "lee") as lee:
        await lee.disconnect()
        await (await ana.send("lee", "expires")).accepted()
        clock.advance(MAX_UNANSWERED_MS / 1_000 + 1)
        for _ in range(3):
            await (await ana.send("lee", "as before")).accepted()
        assert server.claims == 2
        clock.advance(86_400)
        await (await ana.send("lee", "as before")).accepted()
        assert server.claims == 3
