"""Records refusals in transactions of their own, without letting a flood of them fill the audit log.

Equal refusals beyond a budget are counted, and the count goes into ``n`` of the next entry of their kind;
nothing is dropped. A crash loses at most the counts of the last few seconds, never the first refusals of a
kind.
"""

from collections import OrderedDict
from collections.abc import Callable
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
    """Writes refusals; ``flush`` writes what was only counted."""

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
                await self._write((self._held.popitem(last=False)[1],))
        else:
            await self._write((self._joined(self._held.pop(kind, None), event),))

    async def flush(self) -> None:
        """Write every count. Raises StoreError and AuditUnavailableError, and then keeps the counts."""
        counted = dict(self._held)
        if counted:
            await self._write(tuple(counted.values()))
        for kind, event in counted.items():
            if self._held.get(kind) is event:
                del self._held[kind]
            elif kind in self._held:
                self._held[kind] = replace(self._held[kind], n=self._held[kind].n - event.n)

    def _hold(self, kind: str, event: AuditEvent) -> None:
        self._held[kind] = self._joined(self._held.get(kind), event)

    @staticmethod
    def _joined(held: AuditEvent | None, event: AuditEvent) -> AuditEvent:
        return event if held is None else replace(event, n=held.n + event.n)

    async def _write(self, events: tuple[AuditEvent, ...]) -> None:
        def work(tx: AuditRecorder) -> None:
            for event in events:
                tx.record(event)

        await self._writer.write(work)
