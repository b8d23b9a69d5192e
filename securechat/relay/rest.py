"""The REST twin of the connection, for bots and scripts: send, fetch, acknowledge.

The same mailbox rules, the same transactions; a send is answered once it is on the disk. Bytes are base64url
without padding.
"""

import asyncio
from collections import OrderedDict
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from audit.event import AuditEvent, Outcome
from securechat.authz.model import Resource
from securechat.base64url import decode_base64url, encode_base64url
from securechat.errors import AuthenticationError, StoreError, StoreFullError, WireError
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId, message_id
from securechat.relay.envelope import Envelope, Placed
from securechat.relay.errors import MailboxFullError, MessageTooLargeError, UnknownRecipientError
from securechat.relay.mailbox import Mailbox, Refusal
from securechat.relay.permits import Permit
from securechat.relay.ports import Directory
from securechat.relay.services import RelayServices
from securechat.relay.store import Ack, read_page
from securechat.sql.engine import Tx
from securechat.web.caller import Caller
from securechat.web.errors import BadRequestError
from securechat.web.resources import Resources
from securechat.web.routes import Call, Incoming, json_response
from securechat.wire.frames import (
    EPOCH_BYTES,
    FLAG_EPHEMERAL,
    FLAG_URGENT,
    MAX_BODY_BYTES,
    MAX_SEQ,
    Deliver,
    Device,
    Seq,
    User,
)

MAX_PAGE: Final = 256
DEFAULT_PAGE: Final = 64
PAGE_BYTES: Final = 2**20
MAX_SEND_BODY: Final = MAX_BODY_BYTES * 4 // 3 + 1024  # base64 and the other fields
_BOXES_KEPT: Final = 10_000

Text16 = Annotated[str, Meta(min_length=22, max_length=22, description="16 bytes, base64url without padding")]
BodyText = Annotated[
    str, Meta(max_length=MAX_BODY_BYTES * 4 // 3 + 3, description="base64url without padding")
]


class NewMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A sealed message; a retry has the same ``message_id`` and gets the same answer."""

    message_id: Text16
    user: User
    device: Device
    body: BodyText
    ephemeral: bool = False
    urgent: bool = False


class AcceptedMessage(msgspec.Struct, frozen=True):
    """When it was first accepted."""

    accepted_ms: int


class MessageSender(msgspec.Struct, frozen=True):
    """A device."""

    user: str
    device: int


class WaitingMessage(msgspec.Struct, frozen=True):
    """One message of the caller's mailbox."""

    seq: int
    message_id: str
    sender: MessageSender
    accepted_ms: int
    urgent: bool
    body: str


class MessagePage(msgspec.Struct, frozen=True):
    """Messages in order; ``queue_empty`` says that none follows now."""

    epoch: str
    acked_seq: int
    items: list[WaitingMessage]
    queue_empty: bool


class NewAck(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything up to ``seq`` is stored by the caller for good."""

    epoch: Text16
    seq: Seq


class Acknowledged(msgspec.Struct, frozen=True):
    """How many messages were removed."""

    released: int


_NEW_MESSAGE: Final = web.RequestKey("securechat_new_message", NewMessage)


class MessagesApi:
    """Handlers of ``/v1/messages``."""

    def __init__(self, services: RelayServices, directory: Directory, resources: Resources) -> None:
        self._services = services
        self._directory = directory
        self._resources = resources
        self._boxes: OrderedDict[ProtocolAddress, int] = OrderedDict()

    async def recipient(self, request: web.Request, caller: Caller) -> Resource:
        """Return the account a message is for. Raises UnknownRecipientError."""
        message = await Incoming(request, "", max_body_bytes=MAX_SEND_BODY).json(NewMessage)
        request[_NEW_MESSAGE] = message
        account = await self._directory.account(UserId(message.user))
        if account is None or message.device not in await self._directory.devices(UserId(message.user)):
            raise UnknownRecipientError
        return self._resources.account(account)

    async def own_mailbox(self, request: web.Request, caller: Caller) -> Resource:
        """Return the caller's own mailbox."""
        return self._resources.mailbox(_address(caller), caller.principal.org)

    async def send(self, call: Call) -> web.Response:
        """Accept one message."""
        message = call.request[_NEW_MESSAGE]
        sender = _address(call.caller)
        await self._services.intake.room()
        waiter = _Waiter()
        number = self._services.connections.add_sender(waiter)
        try:
            envelope = _envelope(message, sender, await self._own_box(sender), number, _CallPermit(call))
            self._services.intake.send(envelope)
            placed = await waiter.outcome
        finally:
            self._services.connections.remove_sender(number)
            self._services.intake.forget(number)
        return json_response(AcceptedMessage(placed.accepted_ms), status=201)

    async def fetch(self, call: Call) -> web.Response:
        """Return what waits after a number; nothing is removed by that."""
        after = _query(call.request, "after", 0, MAX_SEQ)
        limit = _query(call.request, "limit", DEFAULT_PAGE, MAX_PAGE)
        address, event = _address(call.caller), call.event()

        def work(tx: Tx) -> tuple[Mailbox, list[Deliver]]:
            tx.record(event)
            box = self._services.store.open(tx, address)
            if not limit:
                return box, []
            return box, read_page(tx.connection, box.id, after=after, limit=limit, max_bytes=PAGE_BYTES)

        box, page = await self._services.database.write(work)
        return json_response(_page(box, page, after))

    async def acknowledge(self, call: Call) -> web.Response:
        """Remove what the caller has stored."""
        body = await call.json(NewAck)
        epoch = decode_base64url(body.epoch)
        if len(epoch) != EPOCH_BYTES:
            raise WireError(f"an epoch has {EPOCH_BYTES} bytes")
        ack = Ack(await self._own_box(_address(call.caller)), epoch, body.seq, None)
        released = await self._services.intake.ack_now(ack, _CallPermit(call))
        return json_response(Acknowledged(released))

    async def _own_box(self, address: ProtocolAddress) -> int:
        """Return the row of the caller's mailbox; rows never change, so it is kept once it is committed."""
        known = self._boxes.get(address)
        if known is not None:
            return known
        box = await self._services.database.write(lambda tx: self._services.store.open(tx, address))
        self._boxes[address] = box.id
        if len(self._boxes) > _BOXES_KEPT:
            self._boxes.popitem(last=False)
        return box.id


class _CallPermit:
    """The Permit of a web call, whose shell records its failures by itself."""

    def __init__(self, call: Call) -> None:
        self._call = call
        call.event()  # marks the call as one whose event is in the hands of its transaction

    def event(
        self, *, n: int = 1, outcome: Outcome = Outcome.OK, reason: str | None = None
    ) -> AuditEvent | None:
        """See Permit."""
        return self._call.event(n=n) if outcome is Outcome.OK else None


class _Waiter:
    """A Sender of a single message."""

    def __init__(self) -> None:
        self.outcome: asyncio.Future[Placed] = asyncio.get_running_loop().create_future()

    def accepted(self, envelope: Envelope, placed: Placed) -> None:
        """See Sender."""
        if not self.outcome.done():
            self.outcome.set_result(placed)

    def refused(self, envelope: Envelope, refusal: Refusal) -> None:
        """See Sender."""
        if not self.outcome.done():
            self.outcome.set_exception(_error_of(refusal))

    def settled(self) -> None:
        """See Sender."""


def _envelope(
    message: NewMessage, sender: ProtocolAddress, box: int, number: int, permit: Permit
) -> Envelope:
    flags = (FLAG_EPHEMERAL if message.ephemeral else 0) | (FLAG_URGENT if message.urgent else 0)
    return Envelope(
        message=MessageId(message_id(decode_base64url(message.message_id))),
        sender=sender,
        sender_box=box,
        recipient=ProtocolAddress(UserId(message.user), DeviceId(message.device)),
        body=decode_base64url(message.body),
        flags=flags,
        connection=number,
        permit=permit,
    )


def _error_of(refusal: Refusal) -> Exception:
    match refusal:
        case Refusal.MAILBOX_FULL:
            return MailboxFullError("the recipient's mailbox is full")
        case Refusal.MESSAGE_TOO_LARGE:
            return MessageTooLargeError("the body is longer than a message may be")
        case Refusal.STORE_FULL:
            return StoreFullError("the disk is full; nothing was changed")
        case _:
            return StoreError("the message could not be stored; nothing was changed")


def _page(box: Mailbox, page: list[Deliver], after: int) -> MessagePage:
    items = [
        WaitingMessage(
            seq=each.seq,
            message_id=encode_base64url(each.message_id),
            sender=MessageSender(each.user, each.device),
            accepted_ms=each.accepted_ms,
            urgent=bool(each.flags & FLAG_URGENT),
            body=encode_base64url(each.body),
        )
        for each in page
    ]
    end = max(page[-1].seq if page else after, box.acked_seq)
    return MessagePage(encode_base64url(box.epoch), box.acked_seq, items, queue_empty=end >= box.last_seq)


def _query(request: web.Request, name: str, default: int, most: int) -> int:
    text = request.query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most):
        raise BadRequestError(f"{name} is a whole number from 0 to {most}")
    return int(text)


def _address(caller: Caller) -> ProtocolAddress:
    if caller.address is None:
        raise AuthenticationError("the session belongs to no device")
    return caller.address
