"""Logs to test with: a fixed clock, events by number, and a database as the server keeps it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from audit.catalogue import EventType
from audit.checkpoint import Checkpoint, Ed25519Signer
from audit.event import Actor, ActorKind, AuditEvent, ObjectRef, Outcome, PolicyRef, Purpose, uuid7
from audit.note import VerifierKey
from audit.report import Report
from audit.source import connect_read_only, read_log
from audit.store import AuditLog
from audit.tables import create_schema
from audit.verify import verify

ORIGIN = "clinic.example/audit"
SIGNER = Ed25519Signer(ORIGIN, b"\x07" * 32)
START_US = 1_795_000_000_000_000  # 2026-11-18
START_MS = START_US // 1000

_TYPES = (
    EventType.MESSAGE_SEND,
    EventType.SESSION_OPEN,
    EventType.PREKEY_FETCH,
    EventType.AUDIT_QUERY,
    EventType.BREAKGLASS_START,
)
_OUTCOMES = (Outcome.OK, Outcome.OK, Outcome.DENY, Outcome.OK, Outcome.ERROR, Outcome.OK, Outcome.OK)


class Clock:
    """Microseconds that pass only when told."""

    def __init__(self, now: int = START_US) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now

    def advance(self, microseconds: int) -> None:
        self.now += microseconds


def event_id(number: int) -> str:
    """Return the UUIDv7 of event ``number``."""
    return uuid7(START_MS + number, lambda size: number.to_bytes(size))


def make_event(number: int, **changes: object) -> AuditEvent:
    """Return event ``number``: fields vary, each at its own period."""
    fields: dict[str, object] = {
        "id": event_id(number),
        "type": _TYPES[number % len(_TYPES)],
        "outcome": _OUTCOMES[number % len(_OUTCOMES)],
        "actor": Actor(id=f"usr_{number % 4}", roles=("clinician",), device=f"dev_{number % 6}", mfa=True),
        "object": ObjectRef("mailbox", f"mbx_{number % 5}") if number % 3 else None,
        "patient": f"pat_{number % 3}" if number % 2 else None,
        "org": f"org_{number % 2}",
        "purpose": Purpose.TREATMENT if number % 2 else None,
        "policy": PolicyRef("9f2c1b7d", ("care-team",)) if number % 4 else None,
        "request_id": f"req_{number}",
    }
    return AuditEvent(**(fields | changes))  # type: ignore[arg-type]  # fields by name, checked at run time


def make_events(count: int, first: int = 0) -> list[AuditEvent]:
    return [make_event(number) for number in range(first, first + count)]


def system_event(number: int, event_type: EventType) -> AuditEvent:
    return AuditEvent(
        id=event_id(number), type=event_type, outcome=Outcome.OK, actor=Actor(id="n1", kind=ActorKind.SYSTEM)
    )


def make_engine(path: Path) -> Engine:
    """Return an engine as the server's: WAL, and transactions that begin as writers."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


class Server:
    """A database with an open log, as one server process holds it."""

    def __init__(self, path: Path, *, signer: Ed25519Signer = SIGNER, clock: Clock | None = None) -> None:
        self.path = path
        self.clock = clock if clock is not None else Clock()
        self.engine = make_engine(path)
        self.log = AuditLog(signer.key.name, signer, self.clock, "n1")

    def create(self) -> Checkpoint:
        with self.engine.begin() as connection:
            create_schema(connection)
            return self.log.open_log(connection)

    def open(self) -> Checkpoint:
        with self.engine.begin() as connection:
            return self.log.open_log(connection)

    def seal(self, events: Sequence[AuditEvent]) -> Checkpoint | None:
        with self.engine.begin() as connection:
            return self.log.seal(connection, events)

    def fill(self, count: int, *, group: int = 1, first: int = 0) -> None:
        """Seal ``count`` events in commits of ``group``, one millisecond apart."""
        for start in range(first, first + count, group):
            self.clock.advance(1000)
            self.seal(make_events(min(group, first + count - start), start))

    def close(self) -> None:
        self.engine.dispose()


@contextmanager
def running_server(path: Path, *, signer: Ed25519Signer = SIGNER) -> Iterator[Server]:
    server = Server(path, signer=signer)
    try:
        server.create()
        yield server
    finally:
        server.close()


def check(path: Path, *, key: VerifierKey | None = SIGNER.key, previous: bytes | None = None) -> Report:
    """Verify a database as the command line does."""
    with connect_read_only(path) as connection:
        return verify(read_log(connection), key=key, previous=previous)
