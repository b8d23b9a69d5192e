"""Delivers one mailbox over one connection: finite catch-up, ``QueueEmpty``, then live.

The inbox in the database is the only buffer. A message goes out at once when everything before it has gone
and the window has room; otherwise it stays where it is and is read when an acknowledgement makes room.
"""

import asyncio
from collections.abc import Awaitable, Callable

from securechat.errors import StoreError
from securechat.ports import FaultHook, no_fault
from securechat.relay.frame_writer import FrameWriter
from securechat.relay.mailbox import Mailbox
from securechat.relay.window import Window, WindowLimits
from securechat.wire.frames import Deliver, FrameCodec, QueueEmpty

ReadPage = Callable[[int, int], Awaitable[list[Deliver]]]  # messages after a number, at most so many


class Delivery:
    """What one connection was and will be given. ``failed`` is called once if the mailbox cannot be read."""

    def __init__(
        self,
        mailbox: Mailbox,
        *,
        writer: FrameWriter,
        codec: FrameCodec,
        limits: WindowLimits,
        read_page: ReadPage,
        failed: Callable[[], None],
        fault: FaultHook,
    ) -> None:
        self._writer = writer
        self._codec = codec
        self._read_page = read_page
        self._failed = failed
        self._fault = fault
        self._window = Window(limits)
        self._sent = mailbox.acked_seq  # all up to here was delivered, or is gone
        self._last = mailbox.last_seq  # the newest message known to be committed
        self._waiting = mailbox.last_seq  # the end of the catch-up
        self._live = False
        self._stopped = False
        self._full = False  # the next message does not fit by its size
        self._reading: asyncio.Task[None] | None = None

    @property
    def last(self) -> int:
        """The newest message known to be committed: no acknowledgement can be above it."""
        return self._last

    @property
    def unacknowledged(self) -> bool:
        """Whether deliveries wait for an acknowledgement."""
        return not self._window.empty

    def start(self) -> None:
        """Begin to deliver what waits."""
        self._go_on()

    def stop(self) -> None:
        """Deliver nothing more."""
        self._stopped = True
        if self._reading is not None:
            self._reading.cancel()

    def offer(self, message: Deliver) -> None:
        """Take a message that was just committed."""
        self._last = max(self._last, message.seq)
        if self._stopped:
            return
        if self._live and self._reading is None and message.seq == self._sent + 1 and self._fits(message):
            self._send(message)
        else:
            self._go_on()

    def wake(self, last_seq: int) -> None:
        """Take notice that messages up to ``last_seq`` are committed."""
        self._last = max(self._last, last_seq)
        self._go_on()

    def acked(self, seq: int) -> None:
        """Make room: the device has stored all up to ``seq``, which is at most ``last``."""
        if self._window.acked(seq):
            self._full = False
        self._sent = max(self._sent, seq)
        self._go_on()

    def _go_on(self) -> None:
        if self._reading is not None or self._stopped:
            return
        if self._sent < self._last:
            if self._has_room:
                self._reading = asyncio.get_running_loop().create_task(self._read())
        elif not self._live:
            self._tell_empty()

    async def _read(self) -> None:
        try:
            while self._sent < self._last and self._has_room:
                last = self._last  # as of before the read: what is committed later may be missing in the page
                page = await self._read_page(self._sent, self._window.room)
                self._send_page(page, last)
        except StoreError:
            if not self._stopped:
                self._failed()
        finally:
            self._reading = None
        if self._sent >= self._waiting and not self._live:
            self._tell_empty()

    @property
    def _has_room(self) -> bool:
        return not self._full and self._window.room > 0

    def _send_page(self, page: list[Deliver], last: int) -> None:
        if not page:
            self._sent = max(self._sent, last)  # all of it was acknowledged or has expired meanwhile
        for message in page:
            if message.seq <= self._sent:
                continue
            if not self._fits(message):
                self._full = True
                return
            self._send(message)
            if not self._live and self._sent >= self._waiting:
                self._tell_empty()

    def _fits(self, message: Deliver) -> bool:
        return self._window.fits(len(message.body))

    def _send(self, message: Deliver) -> None:
        self._writer.send(self._codec.encode(message))
        self._window.delivered(message.seq, len(message.body))
        self._sent = message.seq
        if self._fault is not no_fault:
            asyncio.get_running_loop().call_soon(self._fault, "deliver.sent")  # after the writer's flush

    def _tell_empty(self) -> None:
        self._live = True
        self._writer.send(self._codec.encode(QueueEmpty(self._sent)))
