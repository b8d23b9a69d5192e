"""The registry of connections: fences, wake-ups across nodes, answers to senders."""

import asyncio

from securechat.ids import MessageId, ProtocolAddress, device_id, user_id
from securechat.relay.bus import InProcessBus
from securechat.relay.connections import Connections
from securechat.relay.envelope import Envelope, Placed
from securechat.relay.mailbox import Refusal
from securechat.relay.ports import Wakeup
from securechat.wire.frames import CloseCode, Deliver

PAT = ProtocolAddress(user_id("pat"), device_id(1))
LEE = ProtocolAddress(user_id("dr.lee"), device_id(1))


class FakeReceiver:
    """Notes what a connection is told."""

    def __init__(self, address: ProtocolAddress, fence: int) -> None:
        self.address = address
        self.fence = fence
        self.offered: list[Deliver] = []
        self.woken: list[int] = []
        self.closed: list[CloseCode] = []
        self.ticks = 0

    def offer(self, message: Deliver) -> None:
        self.offered.append(message)

    def wake(self, last_seq: int) -> None:
        self.woken.append(last_seq)

    def close(self, code: CloseCode) -> None:
        self.closed.append(code)

    def tick(self, now_ms: int) -> None:
        self.ticks += 1


class FakeSender:
    """Notes what a sender is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def accepted(self, envelope: Envelope, placed: Placed) -> None:
        self.told.append(f"accepted {placed.seq}")

    def refused(self, envelope: Envelope, refusal: Refusal) -> None:
        self.told.append(refusal.value)

    def settled(self) -> None:
        self.told.append("settled")


class NoPermit:
    """Never asked here."""

    def event(self, **_: object) -> None:
        return None


def envelope(connection: int, number: int = 1) -> Envelope:
    return Envelope(
        message=MessageId(number.to_bytes(16, "big")),
        sender=PAT,
        sender_box=1,
        recipient=LEE,
        body=b"body",
        flags=0,
        connection=connection,
        permit=NoPermit(),
    )


def placed(seq: int, node: str | None = "node-1", *, new: bool = True) -> Placed:
    return Placed(7, seq, 1000, node, 3, new)


def test_a_newer_connection_closes_the_older_and_an_older_one_does_not_get_in() -> None:
    connections = Connections("node-1", InProcessBus())
    first, second, late = (FakeReceiver(LEE, fence) for fence in (3, 4, 2))
    connections.add(7, first)
    connections.add(7, second)
    connections.add(7, late)
    codes = [CloseCode.CONNECTED_ELSEWHERE]
    assert (first.closed, second.closed, late.closed) == (codes, [], codes)
    connections.remove(7, first)
    assert len(connections) == 1
    connections.remove(7, second)
    assert len(connections) == 0


def test_a_batch_is_answered_in_order_and_handed_to_whoever_is_connected_here() -> None:
    connections = Connections("node-1", InProcessBus())
    sender, receiver = FakeSender(), FakeReceiver(LEE, 3)
    number = connections.add_sender(sender)
    connections.add(7, receiver)
    connections.settle(
        [
            (envelope(number, 1), placed(1)),
            (envelope(number, 2), Refusal.MAILBOX_FULL),
            (envelope(number, 3), placed(1, new=False)),
            (envelope(99, 4), placed(2)),
        ]
    )
    assert sender.told == ["accepted 1", "mailbox_full", "accepted 1", "settled"]
    assert [(each.seq, each.user, each.body) for each in receiver.offered] == [
        (1, "pat", b"body"),
        (2, "pat", b"body"),
    ]


def test_an_absent_recipient_and_a_gone_sender_are_no_trouble() -> None:
    connections = Connections("node-1", InProcessBus())
    number = connections.add_sender(FakeSender())
    connections.remove_sender(number)
    connections.settle([(envelope(number), placed(1)), (envelope(number), placed(2, None))])


async def test_a_message_for_another_node_becomes_one_wake_up_for_each_commit_there() -> None:
    bus = InProcessBus()
    here, there = Connections("node-1", bus), Connections("node-2", bus)
    stop = bus.subscribe("node-2", there.woken)
    receiver = FakeReceiver(LEE, 3)
    there.add(7, receiver)
    here.settle([(envelope(1, 1), placed(1, "node-2")), (envelope(1, 2), placed(2, "node-2"))])
    assert receiver.woken == []
    await asyncio.sleep(0)
    assert receiver.woken == [1, 2]
    stop()
    here.settle([(envelope(1, 3), placed(3, "node-2"))])
    await asyncio.sleep(0)
    assert receiver.woken == [1, 2]


def test_a_wake_up_with_a_newer_fence_closes_the_connection() -> None:
    connections = Connections("node-1", InProcessBus())
    receiver = FakeReceiver(LEE, 3)
    connections.add(7, receiver)
    connections.woken([Wakeup(7, 9, 3), Wakeup(8, 1, 1), Wakeup(7, 9, 4)])
    assert (receiver.woken, receiver.closed) == ([9], [CloseCode.CONNECTED_ELSEWHERE])


def test_the_end_of_access_closes_the_device_or_the_whole_account() -> None:
    connections = Connections("node-1", InProcessBus())
    second = ProtocolAddress(LEE.user, device_id(2))
    receivers = [FakeReceiver(LEE, 1), FakeReceiver(second, 1), FakeReceiver(PAT, 1)]
    for number, receiver in enumerate(receivers):
        connections.add(number, receiver)
    connections.access_ended(LEE.user, second.device)
    assert [len(each.closed) for each in receivers] == [0, 1, 0]
    connections.access_ended(LEE.user, None)
    assert [len(each.closed) for each in receivers] == [1, 2, 0]
    connections.tick(1)
    connections.close_all()
    assert [each.ticks for each in receivers] == [1, 1, 1]
    assert receivers[2].closed == [CloseCode.GOING_AWAY]
