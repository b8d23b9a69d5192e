"""A relay that holds messages back and delivers them weeks later, together with a thief of an old state."""

from dataclasses import replace

import pytest
from support.clients import next_of, open_client, retrying_store, texts, until
from support.fake_server import FakeServer
from support.server_parts import HandClock

from securechat.client import Client, Message
from securechat.client.arrival_order import LATE_FOR_MS, is_overtaken, with_newest
from securechat.client.ports import Storage
from securechat.client.records import PeerDeviceRecord
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId
from securechat.protocol.records import SessionRecord, parse_record
from securechat.wire.content import Content, ContentKind
from securechat.wire.messages import RATCHET_PREFIX, MessageKind, message_kind, parse_ratchet_part

NOW = 1_800_000_000_000
ANA = ProtocolAddress(UserId("ana"), DeviceId(1))
Deliveries = list[tuple[ProtocolAddress, ProtocolAddress, bytes, bytes]]


@pytest.fixture
def server() -> FakeServer:
    return FakeServer(HandClock())


class Withholding:
    """Makes the relay keep what is sent until it is told to go on; it notes what passes afterwards."""

    def __init__(self, server: FakeServer) -> None:
        self.kept: Deliveries = []
        self.passed: Deliveries = []
        self.keeping = True
        self._deliver = server.deliver
        server.deliver = self._take  # type: ignore[method-assign]

    def _take(self, sender: ProtocolAddress, to: ProtocolAddress, message_id: bytes, body: bytes) -> None:
        (self.kept if self.keeping else self.passed).append((sender, to, message_id, body))
        if not self.keeping:
            self._deliver(sender, to, message_id, body)

    def deliver_kept(self) -> None:
        for delivery in self.kept:
            self._deliver(*delivery)


async def record_of(store: Storage, address: ProtocolAddress) -> SessionRecord:
    body = await store.read(lambda tx: tx.sessions.load(address))
    return parse_record(body or b"")


async def make_anew(store: Storage, client: Client, address: ProtocolAddress) -> None:
    """Have ``client`` make its session with one device anew, as after a message that did not open."""
    await store.write(lambda tx: tx.peers.save_device(replace(tx.peers.device(address), refresh_due=True)))
    await client.disconnect()
    await client.connect()


@pytest.mark.parametrize("withheld", [1, 12])
async def test_a_withheld_first_message_does_not_undo_healing(server: FakeServer, withheld: int) -> None:
    """The session it starts is one that a thief knows: it must not become the one that sends."""
    relay, ana_store, lee_store = Withholding(server), await retrying_store(), await retrying_store()
    clock = server.clock
    assert isinstance(clock, HandClock)
    async with open_client(server, "ana", ana_store) as ana, open_client(server, "lee", lee_store) as lee:
        ana_address, lee_address = server.address_of("ana"), server.address_of("lee")
        for number in range(withheld):
            await (await ana.send("lee", f"held back {number}")).accepted()
        stolen = await record_of(ana_store, lee_address)
        relay.keeping = False
        await make_anew(ana_store, ana, lee_address)
        await until(lambda: server.mailbox(lee_address).acked == 1)
        ana_events, lee_events = ana.events(), lee.events()
        for number in range(3):
            await ana.send("lee", f"talk {number}")
            assert await texts(lee_events, 1) == [f"talk {number}"]
            await lee.send("ana", f"answer {number}")
            assert await texts(ana_events, 1) == [f"answer {number}"]
        healed = (await record_of(lee_store, ana_address)).current.session_id
        clock.advance(20 * 86_400)
        relay.deliver_kept()
        assert await texts(lee_events, withheld) == [f"held back {number}" for number in range(withheld)]
        after = await record_of(lee_store, ana_address)
        assert after.current.session_id == healed
        assert stolen.current.session_id in [session.session_id for session in after.archived]
        await lee.send("ana", "secret")
        message = await next_of(ana_events, Message)
        assert message.text == "secret"
        raw = relay.passed[-1][3]
        assert message_kind(raw) is MessageKind.RATCHET
        header = parse_ratchet_part(raw[len(RATCHET_PREFIX) :]).header
        assert header.ratchet_key == after.current.ratchet.public, "sent in the healed session"


def content(counter: int, sent_ms: int) -> Content:
    return Content(ContentKind.SESSION_REFRESH, MessageId(bytes(16)), counter, sent_ms, None, b"")


def test_a_lower_counter_is_overtaken_unless_it_was_sent_days_after_the_newest() -> None:
    held = with_newest(PeerDeviceRecord(ANA, sent=3), content(10, NOW), NOW)
    assert held == PeerDeviceRecord(ANA, sent=3, received=10, received_ms=NOW)
    assert is_overtaken(held, content(9, NOW - 1))
    assert is_overtaken(held, content(9, NOW + LATE_FOR_MS))
    assert not is_overtaken(held, content(9, NOW + LATE_FOR_MS + 1)), "the counter has fallen back"
    assert not is_overtaken(held, content(11, 0)), "the clock was put back"


def test_a_number_out_of_this_world_makes_later_messages_late_for_days_alone() -> None:
    """Whoever poses as a device once cannot make all that it sends later look old for ever."""
    held = with_newest(PeerDeviceRecord(ANA), content(2**63 - 1, 2**63 - 1), NOW)
    assert held.received_ms == NOW
    later = content(4, NOW + LATE_FOR_MS + 1)
    assert not is_overtaken(held, later)
    assert not is_overtaken(
        with_newest(held, later, NOW + LATE_FOR_MS + 1), content(5, NOW + LATE_FOR_MS + 2)
    )
