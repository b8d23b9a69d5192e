"""Records refusals in transactions of their own, without letting a flood of them fill the audit log.

Refusals of one kind (actor, act, reason) beyond a budget are counted, and the count goes into ``n`` of the
next entry of their kind; nothing is dropped. Such an entry says of object, device and request only what all
of them share. A crash loses at most the counts of the last few seconds, never the first refusals of a kind.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, Protocol, TypeVar

from audit.event import AuditEvent
from audit.recorder import AuditRecorder
from securechat.ports import Clock
from securechat.web.errors import RateLimitedError
from securechat.web.rate_limits import RateLimit, RateLimiter

BUDGET: Final = RateLimit("refusals", burst=20, window_s=20)  # entries of one kind, of one source
MAX_KINDS: Final = 10_000

T = TypeVar("T")


class EventWriter(Protocol):
    """The database, as far as a refusal needs it: one durable transaction that records."""

    async def write(self, work: Callable[[AuditRecorder], T]) -> T:
        """Run ``work`` in a transaction; return once it is on the disk."""
        ...


class RefusalLog:
    """Writes refusals; ``flush`` writes what was only counted.

    INVARIANT: a count is either held or on its way to the disk, never both and, unless the process ends,
    never neither.
    """

    def __init__(self, writer: EventWriter, clock: Clock) -> None:
        self._writer = writer
        self._budget = RateLimiter(BUDGET, clock, max_keys=MAX_KINDS)
        self._held: OrderedDict[str, AuditEvent] = OrderedDict()  # kind -> the counted events, as one

    async def record(self, event: AuditEvent, *, source: str = "") -> None:
        """Record ``event`` before returning, or count it if many like it came from ``source`` lately.

        Raises StoreError and AuditUnavailableError when it cannot be recorded.
        """
        kind = f"{source}|{event.actor.id}|{event.type}|{event.outcome}|{event.reason}"
        try:
            self._budget.take(kind)
        except RateLimitedError:
            self._hold(kind, event)
            if len(self._held) > MAX_KINDS:
                await self._write_counts(dict([self._held.popitem(last=False)]))
        else:
            held = self._held.pop(kind, None)
            counted = {} if held is None else {kind: held}
            await self._write_counts(counted, event if held is None else _joined(held, event))

    async def flush(self) -> None:
        """Write every count. Raises StoreError and AuditUnavailableError, and then keeps the counts."""
        counted, self._held = self._held, OrderedDict()
        if counted:
            await self._write_counts(counted)

    async def _write_counts(self, counted: Mapping[str, AuditEvent], one: AuditEvent | None = None) -> None:
        """Write ``counted``, which is held no longer, or ``one`` in its place; hold it again on failure.

        Whoever is cancelled meanwhile leaves a transaction behind that is carried out all the same.
        """
        events = tuple(counted.values()) if one is None else (one,)

        def work(tx: AuditRecorder) -> None:
            for event in events:
                tx.record(event)

        try:
            await self._writer.write(work)
        except Exception:
            for kind, event in counted.items():
                later = self._held.get(kind)
                self._held[kind] = event if later is None else _joined(event, later)
            raise

    def _hold(self, kind: str, event: AuditEvent) -> None:
        held = self._held.get(kind)
        self._held[kind] = event if held is None else _joined(held, event)


def _joined(first: AuditEvent, event: AuditEvent) -> AuditEvent:
    """Tell both as one entry, which states only what both share: never one object for the acts on many."""
    a, b = first.actor, event.actor
    return replace(
        event,
        n=first.n + event.n,
        actor=replace(
            b,
            roles=b.roles if a.roles == b.roles else (),
            device=_shared(a.device, b.device),
            session=_shared(a.session, b.session),
            mfa=_shared(a.mfa, b.mfa),
        ),
        object=_shared(first.object, event.object),
        org=_shared(first.org, event.org),
        policy=_shared(first.policy, event.policy),
        request_id=_shared(first.request_id, event.request_id),
    )


def _shared(first: T | None, second: T | None) -> T | None:
    return second if first == second else None
