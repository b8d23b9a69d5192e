"""Everybody who is connected to this node, and who waits for the outcome of a send.

A newer connection of a device fences the older one, here and, by the bus, on other nodes. Looks at all
connections once a second, and now and then at their mailboxes, in case a wake-up got lost.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Protocol

from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.relay.envelope import Envelope, Outcome, Placed
from securechat.relay.mailbox import Refusal
from securechat.relay.ports import Bus, Wakeup
from securechat.wire.frames import CloseCode, Deliver


class Sender(Protocol):
    """Whoever sent envelopes and wants to know what became of them."""

    def accepted(self, envelope: Envelope, placed: Placed) -> None:
        """``envelope`` is on the disk."""
        ...

    def refused(self, envelope: Envelope, refusal: Refusal) -> None:
        """``envelope`` was not accepted."""
        ...

    def settled(self) -> None:
        """No more outcomes of this batch follow."""
        ...


class Receiver(Protocol):
    """A connected device."""

    @property
    def address(self) -> ProtocolAddress:
        """Which device it is."""
        ...

    @property
    def fence(self) -> int:
        """The number of this connection of the device."""
        ...

    def offer(self, message: Deliver) -> None:
        """Take a message that was just committed, or an ephemeral one."""
        ...

    def wake(self, last_seq: int) -> None:
        """Take notice that messages up to ``last_seq`` are committed."""
        ...

    def close(self, code: CloseCode) -> None:
        """End the connection."""
        ...

    def tick(self, now_ms: int) -> None:
        """Look after the connection."""
        ...


class Closable(Protocol):
    """A socket, logged in or not."""

    def close(self, code: CloseCode) -> None:
        """End the connection."""
        ...


class Connections:
    """The connections of this node, by mailbox; senders by their own number."""

    def __init__(self, node: str, bus: Bus) -> None:
        self._node = node
        self._bus = bus
        self._receivers: dict[int, Receiver] = {}
        self._senders: dict[int, Sender] = {}
        self._sockets: set[Closable] = set()
        self._next = 0
        self._stopping = False

    def __len__(self) -> int:
        return len(self._receivers)

    def enter(self, socket: Closable) -> None:
        """Know of a socket from its first moment, so that it can be told when the server stops."""
        self._sockets.add(socket)
        if self._stopping:
            socket.close(CloseCode.GOING_AWAY)

    def exit(self, socket: Closable) -> None:
        """Forget a socket."""
        self._sockets.discard(socket)

    def add_sender(self, sender: Sender) -> int:
        """Return the number under which ``sender`` gets its outcomes."""
        self._next += 1
        self._senders[self._next] = sender
        return self._next

    def remove_sender(self, number: int) -> None:
        """Forget a sender; outcomes for it are dropped from now on."""
        self._senders.pop(number, None)

    def add(self, mailbox: int, receiver: Receiver) -> None:
        """Deliver to ``receiver`` from now on; of two connections of a device the older is closed."""
        other = self._receivers.get(mailbox)
        if other is not None and other.fence > receiver.fence:
            receiver.close(CloseCode.CONNECTED_ELSEWHERE)
            return
        self._receivers[mailbox] = receiver
        if other is not None:
            other.close(CloseCode.CONNECTED_ELSEWHERE)

    def remove(self, mailbox: int, receiver: Receiver) -> None:
        """Deliver nothing more to ``receiver``."""
        if self._receivers.get(mailbox) is receiver:
            del self._receivers[mailbox]

    def settle(self, outcomes: Sequence[tuple[Envelope, Outcome]]) -> None:
        """Answer the senders of a committed batch and hand its messages on."""
        told: dict[int, Sender] = {}
        abroad: dict[str, list[Wakeup]] = defaultdict(list)
        for envelope, outcome in outcomes:
            sender = self._senders.get(envelope.connection)
            if sender is not None:
                told[envelope.connection] = sender
            if not isinstance(outcome, Placed):
                if sender is not None:
                    sender.refused(envelope, outcome)
                continue
            if sender is not None:
                sender.accepted(envelope, outcome)
            if outcome.new and outcome.node == self._node:
                self._hand_over(envelope, outcome)
            elif outcome.new and outcome.node is not None and outcome.seq:
                abroad[outcome.node].append(Wakeup(outcome.mailbox, outcome.seq, outcome.fence))
        for sender in told.values():
            sender.settled()
        for node, wakeups in abroad.items():
            self._bus.publish(node, wakeups)

    def woken(self, wakeups: Sequence[Wakeup]) -> None:
        """Act on what another node, or a look at the mailboxes, says."""
        for wakeup in wakeups:
            receiver = self._receivers.get(wakeup.mailbox)
            if receiver is None:
                continue
            if receiver.fence < wakeup.fence:
                receiver.close(CloseCode.CONNECTED_ELSEWHERE)
            else:
                receiver.wake(wakeup.last_seq)

    def access_ended(self, user: UserId, device: DeviceId | None) -> None:
        """Close the connections of ``device``, or of the whole account (see web.accounts.AccessListener)."""
        for receiver in list(self._receivers.values()):
            if receiver.address.user == user and device in (None, receiver.address.device):
                receiver.close(CloseCode.DENIED)

    def close_all(self) -> None:
        """Tell everybody that the server stops, also whoever comes from now on."""
        self._stopping = True
        for receiver in list(self._receivers.values()):
            receiver.close(CloseCode.GOING_AWAY)
        for socket in list(self._sockets):
            socket.close(CloseCode.GOING_AWAY)

    def tick(self, now_ms: int) -> None:
        """Look after every connection."""
        for receiver in list(self._receivers.values()):
            receiver.tick(now_ms)

    def _hand_over(self, envelope: Envelope, placed: Placed) -> None:
        receiver = self._receivers.get(placed.mailbox)
        if receiver is not None:
            receiver.offer(envelope.deliver(placed))
