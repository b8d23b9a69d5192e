"""Accepts a batch of sends in one transaction: order, repetition, quota, then a few bulk statements."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from audit.event import Outcome as Ending
from securechat.ids import ProtocolAddress
from securechat.ports import FaultHook
from securechat.relay import statements as sql
from securechat.relay.envelope import Envelope, Outcome, Placed
from securechat.relay.mailbox import Mailbox, OrderHolds, Quota, Refusal, accept, day_of
from securechat.relay.permits import Permit
from securechat.relay.store import MailboxStore
from securechat.sql.engine import Tx

SentKey = tuple[int, int, bytes]  # mailbox, sender's mailbox, message id


@dataclass(frozen=True, slots=True)
class Rules:
    """What a batch is accepted by."""

    store: MailboxStore
    quota: Quota
    fault: FaultHook


def accept_batch(
    tx: Tx, envelopes: Sequence[Envelope], holds: OrderHolds, now_ms: int, rules: Rules
) -> list[Outcome]:
    """Put ``envelopes`` into their mailboxes, in order; return what became of each.

    A repetition gets the answer of the first attempt. Every accepted and every refused send is an event of
    this transaction, except repetitions and sends that wait for an earlier one. Does not change ``holds``.
    """
    rules.fault("accept.begun")
    batch = _Batch(tx, holds.copy(), now_ms, rules)
    outcomes = [batch.add(envelope) for envelope in envelopes]
    batch.write()
    rules.fault("accept.written")
    return outcomes


@dataclass(slots=True)
class _Batch:
    """The state of one transaction's sends; lives as long as its ``accept_batch``."""

    tx: Tx
    holds: OrderHolds
    now_ms: int
    rules: Rules
    mailboxes: dict[ProtocolAddress, Mailbox] = field(default_factory=dict)
    changed: set[ProtocolAddress] = field(default_factory=set)
    messages: list[tuple[object, ...]] = field(default_factory=list)
    sent: dict[SentKey, tuple[int, int]] = field(default_factory=dict)  # -> number, accepted_ms
    events: dict[tuple[Permit, Refusal | None], int] = field(default_factory=dict)

    def add(self, envelope: Envelope) -> Outcome:
        """Decide one send and plan its rows."""
        if envelope.ephemeral:
            return self._pass_on(envelope)
        if self.holds.blocks(envelope.lane, envelope.message):
            return Refusal.ORDER_HOLD
        outcome = self._place(envelope)
        self.holds.note(envelope.lane, envelope.message, outcome if isinstance(outcome, Refusal) else None)
        return outcome

    def write(self) -> None:
        """Write what was planned."""
        cursor = self.tx.cursor
        boxes = [self.mailboxes[address] for address in self.changed]
        if self.messages:
            cursor.executemany(sql.INSERT_MESSAGE, self.messages)
            cursor.executemany(sql.INSERT_SENT, [(*key, *value) for key, value in self.sent.items()])
            cursor.executemany(sql.SAVE_LAST, [(box.last_seq, box.bytes_in, box.id) for box in boxes])
            day = day_of(self.now_ms)
            cursor.executemany(sql.NOTE_ACCEPTED, [(day, box.id, box.last_seq) for box in boxes])
        for (permit, refusal), n in self.events.items():
            ending = Ending.OK if refusal is None else Ending.ERROR
            event = permit.event(n=n, outcome=ending, reason=refusal)
            if event is not None:
                self.tx.record(event)

    def _pass_on(self, envelope: Envelope) -> Outcome:
        if len(envelope.body) > self.rules.quota.body_bytes:
            return self._refused(envelope, Refusal.MESSAGE_TOO_LARGE)
        box = self._mailbox(envelope.recipient)
        self._count(envelope.permit, None)
        return Placed(box.id, 0, self.now_ms, box.node, box.fence, new=True)

    def _place(self, envelope: Envelope) -> Outcome:
        box = self._mailbox(envelope.recipient)
        key = (box.id, envelope.sender_box, envelope.message)
        known = self.sent.get(key) or self._known(key)
        if known is not None:
            return Placed(box.id, known[0], known[1], box.node, box.fence, new=False)
        after = accept(box, len(envelope.body), self.rules.quota)
        if isinstance(after, Refusal):
            return self._refused(envelope, after)
        self.mailboxes[envelope.recipient] = after
        self.changed.add(envelope.recipient)
        self.sent[key] = (after.last_seq, self.now_ms)
        self.messages.append(self._row(envelope, after))
        self._count(envelope.permit, None)
        return Placed(box.id, after.last_seq, self.now_ms, box.node, box.fence, new=True)

    def _row(self, envelope: Envelope, box: Mailbox) -> tuple[object, ...]:
        return (
            box.id,
            box.last_seq,
            envelope.message,
            envelope.sender_box,
            self.now_ms,
            envelope.flags,
            box.bytes_in,
            envelope.body,
        )

    def _mailbox(self, address: ProtocolAddress) -> Mailbox:
        found = self.mailboxes.get(address)
        if found is None:
            found = self.mailboxes[address] = self.rules.store.open(self.tx, address)
        return found

    def _known(self, key: SentKey) -> tuple[int, int] | None:
        self.tx.cursor.execute(sql.FIND_SENT, key)
        found: tuple[int, int] | None = self.tx.cursor.fetchone()
        return found

    def _refused(self, envelope: Envelope, refusal: Refusal) -> Refusal:
        self._count(envelope.permit, refusal)
        return refusal

    def _count(self, permit: Permit, refusal: Refusal | None) -> None:
        self.events[permit, refusal] = self.events.get((permit, refusal), 0) + 1
