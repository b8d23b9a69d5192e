"""Connections that misbehave: malformed and enormous frames, floods, texts too long, two at once."""

import os

import msgspec
import pytest
from support.relay_peer import RelayPeer
from support.site import Site, Talk, all_accepted

from securechat.base64url import encode_base64url
from securechat.client import CaughtUp
from securechat.errors import MessageRefusedError, ServerError
from securechat.relay.flood import FrameRate
from securechat.wire.content import MAX_TEXT_BYTES
from securechat.wire.frames import MAX_BODY_BYTES, MAX_FRAME_BYTES, CloseCode, Ping, QueueEmpty, Send

MESSAGE_TOO_BIG = 1009  # RFC 6455, 7.4.1: the WebSocket layer itself did not read on
ABNORMAL = 1006  # its close frame may not be read past the rest of the frame
MALFORMED = {
    "empty": b"",
    "no array": b"\xc0",
    "cut short": msgspec.msgpack.encode([4])[:-1] + b"\x94",
    "unknown number": msgspec.msgpack.encode([99, 1]),
    "a field too many": msgspec.msgpack.encode([4, 1, 2]),
    "a frame of the server": msgspec.msgpack.encode([22, 1]),
    "endless nesting": b"\x91" * 5_000,
    "noise": os.urandom(64),
}


@pytest.mark.parametrize("kind", list(MALFORMED))
async def test_a_malformed_frame_ends_its_own_connection_alone(site: Site, talk: Talk, kind: str) -> None:
    async with site.client("dr-lee") as lee, site.client("sam") as sam:
        await all_accepted(await talk.say(lee, 2))
        async with RelayPeer(site.url, await site.device("pat"), site.mint("pat")) as pat:
            await pat.socket.send_bytes(MALFORMED[kind])
            assert await pat.closed() == CloseCode.MALFORMED
        assert lee.is_connected
        assert sam.is_connected
    await talk.end()


@pytest.mark.parametrize(
    ("size", "codes"),
    [(MAX_FRAME_BYTES + 1, [CloseCode.FRAME_TOO_LARGE]), (8 * MAX_FRAME_BYTES, [MESSAGE_TOO_BIG, ABNORMAL])],
)
async def test_a_frame_too_large_ends_its_own_connection_alone(
    site: Site, talk: Talk, size: int, codes: list[int]
) -> None:
    async with site.client("dr-lee") as lee:
        await all_accepted(await talk.say(lee, 2))
        async with RelayPeer(site.url, await site.device("pat"), site.mint("pat")) as pat:
            await pat.socket.send_bytes(bytes(size))
            assert await pat.closed() in codes
        assert lee.is_connected
    await talk.end()


async def test_a_flood_of_frames_ends_its_own_connection_alone(site: Site, talk: Talk) -> None:
    async with site.client("dr-lee") as lee:
        await all_accepted(await talk.say(lee, 2))
        async with RelayPeer(site.url, await site.device("pat"), site.mint("pat")) as pat:
            try:
                for number in range(3 * FrameRate().burst):
                    await pat.put(Ping(number))
            except ConnectionError:
                pass  # it was closed meanwhile
            assert await pat.closed() == CloseCode.FLOOD
        assert lee.is_connected
    await talk.end()


async def test_a_text_too_long_is_refused_before_anything_is_stored(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        await talk.say(pat)
        for text in ("", "x" * (MAX_TEXT_BYTES + 1), "\ud800"):
            with pytest.raises(MessageRefusedError) as caught:
                await pat.send(lee.user, text)
            assert caught.value.code == "message_refused"
        await talk.say(pat)
        await talk.hear(lee)
    await talk.end()


async def test_the_longest_text_arrives(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        longest = "\U0001fa7a" * (MAX_TEXT_BYTES // 4)
        await all_accepted([await pat.send(lee.user, longest)])
        async for event in lee.events():
            if not isinstance(event, CaughtUp):
                assert getattr(event, "text", "") == longest
                await event.ack()
                break
    await talk.end()


async def test_a_body_too_large_is_refused_over_both_ways_in(site: Site, talk: Talk) -> None:
    lee = (await site.device("dr-lee")).address
    too_large = bytes(MAX_BODY_BYTES + 1)
    async with site.client("pat") as pat:
        body = {
            "message_id": encode_base64url(bytes(16)),
            "user": lee.user,
            "device": lee.device,
            "body": encode_base64url(too_large),
        }
        with pytest.raises(ServerError) as caught:
            await pat.request("POST", "/v1/messages", body=msgspec.json.encode(body))
        assert (caught.value.status, caught.value.retryable) == (413, False)
        assert caught.value.server_code == "message_too_large"
    async with RelayPeer(site.url, await site.device("pat"), site.mint("pat")) as peer:
        await peer.expect(QueueEmpty)
        await peer.put(Send(bytes(16), lee.user, lee.device, too_large))
        assert await peer.closed() == CloseCode.MALFORMED
    assert site.sql("SELECT count(*) FROM inbox") == [(0,)]
    await talk.end()


async def test_of_two_connections_of_a_device_the_newer_stays_and_the_older_is_told(
    site: Site, talk: Talk
) -> None:
    device = await site.device("pat")
    older = RelayPeer(site.url, device, site.mint("pat"))
    async with older, site.client("dr-lee") as lee, site.client("pat") as pat:
        assert await older.closed() == CloseCode.CONNECTED_ELSEWHERE
        await talk.say(lee, 2)
        await talk.hear(pat)
        async with RelayPeer(site.url, device, site.mint("pat")):
            with pytest.raises(ServerError) as caught:
                await talk.hear_nothing(pat)
            assert caught.value.server_code == "connected_elsewhere"
            waiting = await talk.say(pat, 2)
            await talk.say(lee, 2)
        await pat.connect()
        await all_accepted(waiting)
        await talk.hear(pat)
    await talk.end()
