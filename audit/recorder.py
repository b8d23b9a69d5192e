"""What a service needs of the audit log: a place to put an event, inside its own transaction."""

from typing import Protocol

from audit.event import AuditEvent


class AuditRecorder(Protocol):
    """Takes the events of one transaction: they are sealed when it commits, or vanish with it."""

    def record(self, event: AuditEvent) -> None:
        """Note ``event`` for the commit of the running transaction."""
        ...


class PendingEvents:
    """An AuditRecorder that keeps events, in order, until the writer seals them just before COMMIT."""

    __slots__ = ("_events",)

    def __init__(self) -> None:
        self._events: list[AuditEvent] = []

    def record(self, event: AuditEvent) -> None:
        """Keep ``event``."""
        self._events.append(event)

    def take(self) -> tuple[AuditEvent, ...]:
        """Return what was recorded since the last call, and start anew."""
        events = tuple(self._events)
        self._events.clear()
        return events
