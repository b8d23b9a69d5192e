"""Giving events their place: merging, time, numbers, bytes, chain and tree. Pure; the store writes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from audit.catalogue import AuditClass, EventType, audit_class
from audit.chain import genesis, leaf_hash, link
from audit.entry import Entry, encode_entry
from audit.errors import EventError
from audit.event import Actor, ActorKind, AuditEvent, Outcome, uuid7
from audit.merkle import Edge

CLOCK_STEP_US: Final = 5_000_000  # a step back of the clock beyond this is an entry of its own


@dataclass(frozen=True, slots=True)
class Head:
    """Where a log stands: right edge, last chain value, time of the last entry, checkpoints so far."""

    edge: Edge
    chain: bytes
    t: int
    checkpoints: int

    @property
    def size(self) -> int:
        """Number of entries; the next sequence number."""
        return self.edge.size

    @classmethod
    def empty(cls, origin: str) -> "Head":
        """Return the head of a log without entries and checkpoints."""
        return cls(Edge(), genesis(origin), 0, 0)


@dataclass(frozen=True, slots=True)
class SealedEntry:
    """An entry with its bytes and the two hashes that are stored beside them."""

    entry: Entry
    body: bytes
    leaf: bytes
    chain: bytes


def content(event: AuditEvent) -> tuple[object, ...]:
    """Return all of an event but its id, times and count: what makes two events tell the same."""
    return (
        event.type, event.outcome, event.actor, event.reason, event.object, event.patient, event.org,
        event.site, event.purpose, event.grant, event.policy, event.node, event.request_id,
    )  # fmt: skip


def merge(events: Iterable[AuditEvent]) -> list[AuditEvent]:
    """Tell equal class-C events once, at the place and with the id of the first, ``n`` being how many.

    An event that comes twice with one id counts once. Raises EventError if one id names two different acts.
    """
    by_id: dict[str, AuditEvent] = {}
    merged: dict[tuple[object, ...], AuditEvent] = {}
    for event in events:
        known = by_id.setdefault(event.id, event)
        if known is not event:
            require_same_act(known, event)
            continue
        key = content(event) if audit_class(event.type) is AuditClass.C else (event.id,)
        first = merged.get(key)
        merged[key] = event if first is None else replace(first, n=first.n + event.n)
    return list(merged.values())


def require_same_act(known: AuditEvent, event: AuditEvent) -> None:
    """Raise EventError unless two events of one id tell the same act."""
    if content(known) != content(event):
        raise EventError("one event id names two different acts")


def sequence(head: Head, events: Sequence[AuditEvent], *, clock_us: int) -> list[Entry]:
    """Return entries for ``events`` after ``head``, all at max(clock, time of the last entry)."""
    t = max(clock_us, head.t)
    return [Entry(head.size + at, t, event) for at, event in enumerate(events)]


def clock_step(head: Head, node: str, *, clock_us: int) -> AuditEvent:
    """Return the event that says that the clock went back; ``te`` is what it shows now.

    Its id is derived from the chain, so the log needs no randomness.
    """
    digest = sha256(b"clock.step" + head.chain).digest()
    return AuditEvent(
        id=uuid7(max(clock_us, head.t) // 1000, lambda size: digest[:size]),
        type=EventType.CLOCK_STEP,
        outcome=Outcome.OK,
        actor=Actor(id=node, kind=ActorKind.SYSTEM),
        node=node,
        te=max(clock_us, 0),
    )


def seal_entries(head: Head, entries: Iterable[Entry]) -> tuple[Head, list[SealedEntry]]:
    """Encode and hash entries; return the head after them, its checkpoint still to be counted, and them."""
    chain, t = head.chain, head.t
    sealed = []
    for entry in entries:
        body = encode_entry(entry)
        leaf = leaf_hash(body)
        chain = link(chain, leaf)
        t = entry.t
        sealed.append(SealedEntry(entry, body, leaf, chain))
    edge = head.edge.extend(each.leaf for each in sealed)
    return Head(edge, chain, t, head.checkpoints), sealed
