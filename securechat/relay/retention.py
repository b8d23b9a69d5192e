"""Expiry: range deletes below a sequence number, found by the day it was accepted or acknowledged."""

from dataclasses import dataclass
from typing import Final

from audit.catalogue import EventType
from audit.event import Actor, ActorKind, AuditEvent, ObjectRef, Outcome, uuid7
from securechat.ports import RandomBytes
from securechat.relay import statements as sql
from securechat.relay.mailbox import Quota, last_expired_day
from securechat.relay.store import MailboxStore
from securechat.sql.engine import Tx

DAYS_AT_ONCE: Final = 256  # rows of ``mailbox_days`` in one transaction, so that sends need not wait long


@dataclass(frozen=True, slots=True)
class Sweep:
    """What one step of the sweep did; ``more`` says that another step has work to do."""

    expired: int
    more: bool


class Retention:
    """Removes what is past its time. ``node`` names this process in the audit log."""

    def __init__(self, store: MailboxStore, quota: Quota, *, node: str, random_bytes: RandomBytes) -> None:
        self._store = store
        self._quota = quota
        self._node = node
        self._random_bytes = random_bytes

    def step(self, tx: Tx, now_ms: int) -> Sweep:
        """Expire messages of old days and forget the ids that no retry will bring any more."""
        quota = self._quota
        cursor = tx.cursor
        cursor.execute(sql.UNEXPIRED_DAYS, (last_expired_day(now_ms, quota.ttl_days), DAYS_AT_ONCE))
        unexpired = cursor.fetchall()
        expired = sum(self._expire(tx, mailbox, seq, now_ms) for _, mailbox, seq in unexpired)
        cursor.executemany(sql.MARK_EXPIRED, [(day, mailbox) for day, mailbox, _ in unexpired])
        cursor.execute(sql.UNFORGOTTEN_DAYS, (last_expired_day(now_ms, quota.retry_days), DAYS_AT_ONCE))
        unforgotten = cursor.fetchall()
        cursor.executemany(sql.FORGET_SENT, [(mailbox, seq) for _, mailbox, seq in unforgotten])
        cursor.executemany(sql.MARK_FORGOTTEN, [(day, mailbox) for day, mailbox, _ in unforgotten])
        oldest_kept = last_expired_day(now_ms, max(quota.ttl_days, quota.retry_days))
        cursor.execute(sql.DROP_DAYS, (oldest_kept,))
        return Sweep(expired, more=DAYS_AT_ONCE in (len(unexpired), len(unforgotten)))

    def _expire(self, tx: Tx, mailbox: int, seq: int, now_ms: int) -> int:
        box = self._store.load(tx, mailbox)
        if box is None:
            return 0
        expired = self._store.empty(tx, box, seq, now_ms)
        if expired:
            tx.record(self._event(f"{box.address.user}/{box.address.device}", expired, now_ms))
        return expired

    def _event(self, mailbox: str, n: int, now_ms: int) -> AuditEvent:
        return AuditEvent(
            id=uuid7(now_ms, self._random_bytes),
            type=EventType.MESSAGE_EXPIRED,
            outcome=Outcome.OK,
            actor=Actor(id=self._node, kind=ActorKind.SYSTEM),
            object=ObjectRef("mailbox", mailbox),
            n=n,
        )
