"""A server in memory for client tests: key directory and mailboxes, with the relay's rules, and faults.

It speaks the real frames, checks what the real server checks of keys, and keeps the order rule: after a
retryable refusal it refuses every later send to the same device until the first one is sent again.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from securechat.client.ports import ClaimedBundle, LinkReady
from securechat.crypto.keys import SigningKeyPair
from securechat.errors import ServerError, StalePreKeyError, TransportError
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.ports import Clock
from securechat.protocol.prekeys import PreKeyCounts
from securechat.wire.devices import SignedDeviceList, check_device_list, parse_signed_device_list
from securechat.wire.frames import (
    Accepted,
    Ack,
    ClientFrame,
    Deliver,
    Error,
    Ping,
    Pong,
    QueueEmpty,
    Send,
    ServerFrame,
)
from securechat.wire.prekeys import (
    PreKeyBundle,
    SignedDhPreKey,
    SignedKemPreKey,
    check_upload,
    encode_bundle,
    parse_upload,
)

ORDER_HOLD = "order_hold"


@dataclass
class Mailbox:
    """One device's inbox: what waits, and the cursor."""

    epoch: bytes = b"e" * 16
    next_seq: int = 1
    acked: int = 0
    items: deque[Deliver] = field(default_factory=deque)
    ids: set[tuple[ProtocolAddress, bytes]] = field(default_factory=set)
    connection: "FakeConnection | None" = None


@dataclass
class PreKeyStock:
    """What one device has published and not given out."""

    signed: SignedDhPreKey
    last_resort: SignedKemPreKey
    one_time: deque[SignedDhPreKey] = field(default_factory=deque)
    kem_one_time: deque[SignedKemPreKey] = field(default_factory=deque)
    known: set[int] = field(default_factory=set)


class FakeServer:
    """Accounts, prekeys and mailboxes. ``online`` False makes every call fail as an unreachable server."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.online = True
        self.directory_online = True
        self.lists: dict[UserId, SignedDeviceList] = {}
        self.stocks: dict[ProtocolAddress, PreKeyStock] = {}
        self.mailboxes: dict[ProtocolAddress, Mailbox] = {}
        self.refusals: deque[Error] = deque()  # each refuses one send; its message id is filled in
        self.accepted: list[tuple[ProtocolAddress, ProtocolAddress, bytes]] = []
        self.gone: set[ProtocolAddress] = set()  # devices that are refused as unknown
        self.links: dict[UserId, FakeLink] = {}  # the newest link of each user
        self.claims = 0
        self.list_requests = 0
        self.while_listing: Callable[[], Awaitable[None]] | None = None  # what happens during such a request

    def mailbox(self, address: ProtocolAddress) -> Mailbox:
        """The mailbox of a device, made at the first use."""
        return self.mailboxes.setdefault(address, Mailbox())

    def address_of(self, user: str) -> ProtocolAddress:
        """The only device of a user."""
        value = self.lists[UserId(user)].value
        return ProtocolAddress(value.user, value.devices[0].device)

    def directory(self, own: ProtocolAddress) -> "FakeDirectory":
        """The key directory as ``own`` sees it."""
        return FakeDirectory(self, own)

    def link(self, own: ProtocolAddress) -> "FakeLink":
        """The link of ``own``."""
        link = FakeLink(self, own)
        self.links[own.user] = link
        return link

    def drop_connections(self) -> None:
        """Cut every connection."""
        for mailbox in self.mailboxes.values():
            if mailbox.connection is not None:
                mailbox.connection.cut(TransportError("cut"))

    def go_down(self) -> None:
        """Stop answering."""
        self.online = False
        self.drop_connections()

    def deliver(self, sender: ProtocolAddress, to: ProtocolAddress, message_id: bytes, body: bytes) -> None:
        """Put a message into a mailbox and hand it to the connection."""
        mailbox = self.mailbox(to)
        if (sender, message_id) in mailbox.ids:
            return
        mailbox.ids.add((sender, message_id))
        frame = Deliver(mailbox.next_seq, message_id, sender.user, sender.device, self.clock(), 0, body)
        mailbox.next_seq += 1
        mailbox.items.append(frame)
        self.accepted.append((sender, to, message_id))
        if mailbox.connection is not None:
            mailbox.connection.put(frame)

    def check_online(self) -> None:
        """Raise as an unreachable server."""
        if not self.online:
            raise TransportError("the server cannot be reached")

    def check_directory(self) -> None:
        """Raise as an unreachable key server, which may be another one."""
        self.check_online()
        if not self.directory_online:
            raise TransportError("the key server cannot be reached")


class FakeDirectory:
    """The KeyDirectory port."""

    def __init__(self, server: FakeServer, own: ProtocolAddress) -> None:
        self._server = server
        self._own = own

    async def enroll(self, address: ProtocolAddress, signing: SigningKeyPair, device_list: bytes) -> None:
        self._server.check_directory()
        signed = parse_signed_device_list(device_list)
        check_device_list(signed)
        held = self._server.lists.get(address.user)
        same = held is not None and held.body == signed.body
        if held is not None and not same and signed.value.previous_hash != held.hash():
            raise ServerError("device_list_conflict", status=409, retryable=False)
        self._server.lists[address.user] = signed

    async def device_list(self, user: UserId) -> bytes:
        self._server.check_directory()
        self._server.list_requests += 1
        await asyncio.sleep(0)
        if self._server.while_listing is not None:
            await self._server.while_listing()
        if user not in self._server.lists:
            raise ServerError("unknown_user", status=404, retryable=False)
        return self._server.lists[user].encode()

    async def upload_prekeys(self, upload: bytes) -> PreKeyCounts:
        self._server.check_directory()
        value = parse_upload(upload)
        devices = self._server.lists[self._own.user].value.devices
        signing = next(record.signing for record in devices if record.device == self._own.device)
        try:
            check_upload(value, self._own, signing, self._server.clock())
        except StalePreKeyError as error:
            raise ServerError(error.code, status=422, retryable=False) from error
        stock = self._server.stocks.setdefault(self._own, PreKeyStock(value.signed, value.last_resort))
        stock.signed, stock.last_resort = value.signed, value.last_resort
        stock.one_time.extend(key for key in value.one_time if key.id not in stock.known)
        stock.kem_one_time.extend(key for key in value.kem_one_time if key.id not in stock.known)
        stock.known |= {key.id for key in value.one_time} | {key.id for key in value.kem_one_time}
        return await self.prekey_counts()

    async def prekey_counts(self) -> PreKeyCounts:
        self._server.check_directory()
        stock = self._server.stocks.get(self._own)
        return (
            PreKeyCounts(0, 0)
            if stock is None
            else PreKeyCounts(len(stock.one_time), len(stock.kem_one_time))
        )

    async def claim_bundle(self, address: ProtocolAddress, idempotency_key: str) -> ClaimedBundle:
        self._server.check_directory()
        self._server.claims += 1
        stock = self._server.stocks.get(address)
        if stock is None:
            raise ServerError("no_prekeys", status=409, retryable=True)
        while stock.kem_one_time and stock.kem_one_time[0].expires_ms <= self._server.clock():
            stock.kem_one_time.popleft()
        while stock.one_time and stock.one_time[0].expires_ms <= self._server.clock():
            stock.one_time.popleft()
        bundle = PreKeyBundle(
            address=address,
            signed=stock.signed,
            kem=stock.kem_one_time.popleft() if stock.kem_one_time else stock.last_resort,
            one_time=stock.one_time.popleft() if stock.one_time else None,
        )
        return ClaimedBundle(self._server.lists[address.user].encode(), encode_bundle(bundle))


class FakeLink:
    """The RelayLink port; counts its attempts."""

    def __init__(self, server: FakeServer, own: ProtocolAddress) -> None:
        self._server = server
        self._own = own
        self.attempts = 0

    async def connect(self) -> "FakeConnection":
        self.attempts += 1
        self._server.check_online()
        return FakeConnection(self._server, self._own)


class FakeConnection:
    """The RelayConnection port: what waits, then QueueEmpty, then live."""

    def __init__(self, server: FakeServer, own: ProtocolAddress) -> None:
        self._server = server
        self._own = own
        self._out: deque[ServerFrame] = deque()
        self._change = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._end: Exception | None = None
        self._held: dict[ProtocolAddress, bytes] = {}
        mailbox = server.mailbox(own)
        if mailbox.connection is not None:
            error = ServerError("connected_elsewhere", status=4409, retryable=False)
            mailbox.connection.cut(error)
        mailbox.connection = self
        self.ready = LinkReady(mailbox.epoch, mailbox.acked, server.clock())
        for item in mailbox.items:
            self.put(item)
        self.put(QueueEmpty(mailbox.next_seq - 1))

    def put(self, frame: ServerFrame) -> None:
        """Hand a frame to the client."""
        self._out.append(frame)
        self._wake()

    def cut(self, error: Exception) -> None:
        """End the connection; what was not read is lost."""
        self._end = error
        self._wake()
        if self._server.mailbox(self._own).connection is self:
            self._server.mailbox(self._own).connection = None

    def _wake(self) -> None:
        """Wake the reader, whose loop may run in another thread and may be gone."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._change.set)

    async def receive(self) -> ServerFrame:
        while True:
            if self._end is not None:
                raise self._end
            if self._out:
                return self._out.popleft()
            self._change.clear()
            await self._change.wait()

    async def send(self, frames: Sequence[ClientFrame]) -> None:
        for frame in frames:
            if self._end is not None:
                raise self._end
            self._take(frame)
        await asyncio.sleep(0)

    async def close(self) -> None:
        self.cut(TransportError("closed"))

    def _take(self, frame: ClientFrame) -> None:
        if isinstance(frame, Send):
            self._accept(frame)
        elif isinstance(frame, Ack):
            self._acknowledge(frame)
        elif isinstance(frame, Ping):
            self.put(Pong(frame.number))

    def _accept(self, frame: Send) -> None:
        to = ProtocolAddress(UserId(frame.user), DeviceId(frame.device))
        if to in self._held and self._held[to] != frame.message_id:
            self.put(Error(ORDER_HOLD, frame.message_id, True, 0))
            return
        self._held.pop(to, None)
        if to.user not in self._server.lists or to in self._server.gone:
            self.put(Error("unknown_recipient", frame.message_id, False, 0))
            return
        if self._server.refusals:
            refusal = self._server.refusals.popleft()
            if refusal.retryable:
                self._held[to] = frame.message_id
            self.put(Error(refusal.code, frame.message_id, refusal.retryable, refusal.retry_after_ms))
            return
        self._server.deliver(self._own, to, frame.message_id, frame.body)
        self.put(Accepted([frame.message_id]))

    def _acknowledge(self, frame: Ack) -> None:
        mailbox = self._server.mailbox(self._own)
        if frame.epoch != mailbox.epoch or frame.seq >= mailbox.next_seq:
            self.put(Error("ack_out_of_range", None, False, 0))
            return
        mailbox.acked = max(mailbox.acked, frame.seq)
        while mailbox.items and mailbox.items[0].seq <= frame.seq:
            mailbox.items.popleft()
