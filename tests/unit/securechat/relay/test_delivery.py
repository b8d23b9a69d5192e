"""Delivery of one mailbox: catch-up, live, windows, and messages that come in between."""

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from securechat.errors import StoreError
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.ports import no_fault
from securechat.relay.delivery import Delivery
from securechat.relay.mailbox import Mailbox
from securechat.relay.window import WindowLimits
from securechat.wire.frames import Deliver, FrameCodec, QueueEmpty

LEE = ProtocolAddress(user_id("dr.lee"), device_id(1))
CODEC = FrameCodec()


class FakeWriter:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.frames: list[Deliver | QueueEmpty] = []

    buffered = 0

    def send(self, payload: bytes) -> None:
        frame = CODEC.decode_server(payload)
        assert isinstance(frame, Deliver | QueueEmpty)
        self.frames.append(frame)

    def ping(self) -> None: ...

    def pong(self, payload: bytes) -> None: ...

    def close(self, code: int) -> None: ...

    def flush(self) -> None: ...

    def told(self) -> list[int | str]:
        return [frame.seq if isinstance(frame, Deliver) else f"empty {frame.seq}" for frame in self.frames]


class Inbox:
    """A mailbox in a dictionary, with a delivery in front of it; a read takes a turn of the event loop."""

    def __init__(
        self, waiting: int, *, window: int = 1000, window_bytes: int = 2**20, acked: int = 0
    ) -> None:
        self.rows: dict[int, Deliver] = {}
        self.last = acked
        self.writer = FakeWriter()
        self.failures = 0
        self.broken = False
        self.reads = 0
        for _ in range(waiting):
            self.commit()
        self.delivery = Delivery(
            Mailbox(1, LEE, bytes(16), last_seq=self.last, acked_seq=acked),
            writer=self.writer,
            codec=CODEC,
            limits=WindowLimits(messages=window, bytes=window_bytes),
            read_page=self.page,
            failed=self.fail,
            fault=no_fault,
        )

    def commit(self, size: int = 10) -> Deliver:
        self.last += 1
        row = Deliver(self.last, self.last.to_bytes(16, "big"), "pat", 1, 0, 0, bytes(size))
        self.rows[self.last] = row
        return row

    async def page(self, after: int, limit: int) -> list[Deliver]:
        self.reads += 1
        rows = [self.rows[seq] for seq in sorted(self.rows) if seq > after][: min(limit, 4)]
        await asyncio.sleep(0)
        if self.broken:
            raise StoreError("gone")
        return rows

    def fail(self) -> None:
        self.failures += 1

    async def rest(self) -> list[int | str]:
        for _ in range(60):
            await asyncio.sleep(0)
        return self.writer.told()


async def test_what_waits_comes_first_then_the_end_of_the_queue_then_live_messages_without_a_read() -> None:
    inbox = Inbox(6)
    inbox.delivery.start()
    assert await inbox.rest() == [1, 2, 3, 4, 5, 6, "empty 6"]
    reads = inbox.reads
    inbox.delivery.offer(inbox.commit())
    assert inbox.writer.told()[-1] == 7
    assert inbox.reads == reads


async def test_a_message_committed_during_the_catch_up_comes_once_and_after_the_end_of_the_queue() -> None:
    inbox = Inbox(6)
    inbox.delivery.start()
    await asyncio.sleep(0)
    inbox.delivery.offer(inbox.commit())
    assert await inbox.rest() == [1, 2, 3, 4, 5, 6, "empty 6", 7]


async def test_delivery_begins_after_the_cursor() -> None:
    inbox = Inbox(2, acked=10)
    inbox.delivery.start()
    assert await inbox.rest() == [11, 12, "empty 12"]


async def test_what_is_gone_meanwhile_is_skipped() -> None:
    inbox = Inbox(5)
    inbox.rows.clear()
    inbox.delivery.start()
    assert await inbox.rest() == ["empty 5"]
    inbox.delivery.offer(inbox.commit())
    assert (await inbox.rest())[-1] == 6


async def test_a_gap_after_expiry_is_no_obstacle() -> None:
    inbox = Inbox(5)
    del inbox.rows[1], inbox.rows[2]
    inbox.delivery.start()
    assert await inbox.rest() == [3, 4, 5, "empty 5"]


async def test_a_full_window_waits_for_acknowledgements_and_reads_nothing_meanwhile() -> None:
    inbox = Inbox(9, window=3)
    inbox.delivery.start()
    assert await inbox.rest() == [1, 2, 3]
    assert inbox.delivery.unacknowledged
    reads = inbox.reads
    for _ in range(5):
        inbox.delivery.offer(inbox.commit())
    assert await inbox.rest() == [1, 2, 3]
    assert inbox.reads == reads
    inbox.delivery.acked(2)
    assert await inbox.rest() == [1, 2, 3, 4, 5]


async def test_a_window_full_of_bytes_reads_nothing_for_every_new_message() -> None:
    inbox = Inbox(0, window_bytes=25)
    inbox.delivery.start()
    for _ in range(8):
        inbox.delivery.offer(inbox.commit())
    assert await inbox.rest() == ["empty 0", 1, 2]
    assert inbox.reads == 1
    inbox.delivery.acked(2)
    assert await inbox.rest() == ["empty 0", 1, 2, 3, 4]


async def test_an_acknowledgement_from_an_earlier_connection_skips_what_it_names() -> None:
    inbox = Inbox(9, window=2)
    inbox.delivery.start()
    inbox.delivery.acked(8)
    assert [each for each in await inbox.rest() if isinstance(each, int)][-1] == 9


async def test_a_wake_up_makes_it_look_and_a_stale_one_does_nothing() -> None:
    inbox = Inbox(1)
    inbox.delivery.start()
    await inbox.rest()
    inbox.commit()
    inbox.delivery.wake(2)
    assert (await inbox.rest())[-1] == 2
    inbox.delivery.wake(1)
    assert (await inbox.rest())[-1] == 2
    assert inbox.delivery.last == 2


async def test_a_mailbox_that_cannot_be_read_ends_the_connection() -> None:
    inbox = Inbox(1)
    inbox.broken = True
    inbox.delivery.start()
    await inbox.rest()
    assert inbox.failures == 1


async def test_nothing_is_sent_after_the_stop() -> None:
    inbox = Inbox(3)
    inbox.delivery.start()
    inbox.delivery.stop()
    inbox.delivery.offer(inbox.commit())
    inbox.delivery.acked(1)
    assert await inbox.rest() == []
    assert inbox.failures == 0


acts = st.lists(st.sampled_from(["offer", "wake", "ack", "turn"]), max_size=60)


@given(st.integers(0, 9), st.integers(1, 4), acts)
@settings(deadline=None)
async def test_whatever_happens_every_message_comes_once_and_in_order(
    waiting: int, window: int, run: list[str]
) -> None:
    inbox = Inbox(waiting, window=window)
    inbox.delivery.start()
    for act in run:
        if act == "turn":
            await asyncio.sleep(0)
        elif act == "ack":
            numbers = [each for each in inbox.writer.told() if isinstance(each, int)]
            inbox.delivery.acked(max(numbers, default=0))
        elif act == "offer":
            inbox.delivery.offer(inbox.commit())
        else:
            inbox.commit()
            inbox.delivery.wake(inbox.last)
    for _ in range(inbox.last + 1):
        numbers = [each for each in await inbox.rest() if isinstance(each, int)]
        inbox.delivery.acked(max(numbers, default=0))
    told = await inbox.rest()
    assert [each for each in told if isinstance(each, int)] == list(range(1, inbox.last + 1))
    assert sum(isinstance(each, str) for each in told) == 1
