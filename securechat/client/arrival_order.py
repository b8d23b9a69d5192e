"""Whether a message is older than others that its sender's device has sent: the counter in its content tells.

A relay may hold a message back for weeks. It is told all the same, but the session that it came in, which a
thief of that time may know, must not become the one that sends (docs/format/records.md, "Which session
sends").

A counter is believed for a few days alone: whoever has posed as a device once, with a counter out of this
world, would else keep the sessions that it makes afterwards from ever becoming current.
"""

from dataclasses import replace
from typing import Final

from securechat.client.clock import MAX_CORRECTION_MS
from securechat.client.ports import Transaction
from securechat.client.records import PeerDeviceRecord
from securechat.ids import ProtocolAddress
from securechat.protocol.choice import unswayed
from securechat.protocol.records import SessionRecord
from securechat.protocol.session import adopt
from securechat.wire.content import Content, ContentKind, UnknownContent

LATE_FOR_MS: Final = 2 * MAX_CORRECTION_MS  # what a lying server can put between the two devices' clocks


def with_choice(
    tx: Transaction,
    address: ProtocolAddress,
    held: SessionRecord | None,
    opened: SessionRecord,
    content: Content | UnknownContent,
    *,
    raw: bytes,
    now_ms: int,
) -> SessionRecord:
    """Return the record after ``raw``, with the session current that its content calls for; note its counter.

    ``held`` is the record before the message, ``opened`` as the ratchet left it.
    """
    counters = tx.peers.device(address)
    if held is not None and held.peer == opened.peer and is_overtaken(counters, content):
        return unswayed(held, opened)
    tx.peers.save_device(with_newest(counters, content, now_ms))
    return adopt(opened, raw) if content.kind == ContentKind.SESSION_REFRESH else opened


def is_overtaken(counters: PeerDeviceRecord, content: Content | UnknownContent) -> bool:
    """Say whether ``content`` is older than the newest: its counter is lower, its time not days later."""
    lower = content.counter < counters.received
    return lower and content.sent_ms <= counters.received_ms + LATE_FOR_MS


def with_newest(
    counters: PeerDeviceRecord, content: Content | UnknownContent, now_ms: int
) -> PeerDeviceRecord:
    """Return what is counted for a device with ``content`` as its newest, dated not after ``now_ms``."""
    return replace(counters, received=content.counter, received_ms=min(content.sent_ms, now_ms))
