"""The tables of the log: entries, checkpoints and head, and the triggers that stop mistakes.

Triggers stop the application and a careless hand: UPDATE, DELETE, a row out of order, and INSERT OR REPLACE
on the sequence number or on the id. They do not stop whoever owns the file; that is what the signed
checkpoints are for.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Connection,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    text,
)

from audit.errors import InconsistentLogError

metadata: Final = MetaData()

# SQLite makes a rowid alias of INTEGER PRIMARY KEY only, never of BIGINT.
_SEQ: Final = BigInteger().with_variant(Integer(), "sqlite")

entries: Final = Table(
    "audit_entries",
    metadata,
    Column("seq", _SEQ, primary_key=True, autoincrement=False),
    Column("t", BigInteger, nullable=False),
    Column("id", String(36), nullable=False),
    Column("type", String(64), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("actor", String(128), nullable=False),
    Column("patient", String(128)),
    Column("object_kind", String(64)),
    Column("object_id", String(128)),
    Column("org", String(128)),
    Column("body", LargeBinary, nullable=False),
    Column("leaf", LargeBinary(32), nullable=False),
    Column("chain", LargeBinary(32), nullable=False),
)

_PRESENT: Final = {name: text(f"{name} IS NOT NULL") for name in ("patient", "object_id", "org")}
_REFUSED: Final = text("outcome <> 'ok'")

Index("audit_entries_id", entries.c.id, unique=True)
Index("audit_entries_t", entries.c.t, entries.c.seq)
Index("audit_entries_actor", entries.c.actor, entries.c.seq)
Index("audit_entries_type", entries.c.type, entries.c.seq)
Index(
    "audit_entries_patient",
    entries.c.patient,
    entries.c.seq,
    sqlite_where=_PRESENT["patient"],
    postgresql_where=_PRESENT["patient"],
)
Index(
    "audit_entries_object",
    entries.c.object_id,
    entries.c.seq,
    sqlite_where=_PRESENT["object_id"],
    postgresql_where=_PRESENT["object_id"],
)
Index(
    "audit_entries_org",
    entries.c.org,
    entries.c.seq,
    sqlite_where=_PRESENT["org"],
    postgresql_where=_PRESENT["org"],
)
Index(
    "audit_entries_refused",
    entries.c.outcome,
    entries.c.seq,
    sqlite_where=_REFUSED,
    postgresql_where=_REFUSED,
)

checkpoints: Final = Table(
    "audit_checkpoints",
    metadata,
    Column("number", _SEQ, primary_key=True, autoincrement=False),  # 0, 1, 2 ...: a gap is a deleted one
    Column("size", BigInteger, nullable=False),
    Column("t", BigInteger, nullable=False),  # of the last entry that it covers
    Column("note", LargeBinary, nullable=False),  # the signed note
)

Index("audit_checkpoints_size", checkpoints.c.size, unique=True)

head: Final = Table(
    "audit_head",
    metadata,
    Column(
        "one",
        Integer,
        CheckConstraint("one = 1", name="audit_head_one"),
        primary_key=True,
        autoincrement=False,
    ),
    Column("origin", String(255), nullable=False),
    Column("vkey", String(512), nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("checkpoints", BigInteger, nullable=False),  # how many there are
    Column("t", BigInteger, nullable=False),  # of the last entry, 0 before the first
    Column("chain", LargeBinary(32), nullable=False),
    Column("edge", LargeBinary, nullable=False),  # 32 bytes for each set bit of size
)

SQLITE_TRIGGERS: Final = {
    "audit_entries_no_update": (
        "BEFORE UPDATE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit log: append only'); END"
    ),
    "audit_entries_no_delete": (
        "BEFORE DELETE ON audit_entries BEGIN SELECT RAISE(ABORT, 'audit log: append only'); END"
    ),
    "audit_entries_next": (
        "BEFORE INSERT ON audit_entries "
        "WHEN NEW.seq <> (SELECT coalesce(max(seq), -1) + 1 FROM audit_entries) "
        "OR EXISTS (SELECT 1 FROM audit_entries WHERE id = NEW.id) "
        "BEGIN SELECT RAISE(ABORT, 'audit log: not the next entry'); END"
    ),
    "audit_checkpoints_no_update": (
        "BEFORE UPDATE ON audit_checkpoints BEGIN SELECT RAISE(ABORT, 'audit log: append only'); END"
    ),
    "audit_checkpoints_no_delete": (
        "BEFORE DELETE ON audit_checkpoints BEGIN SELECT RAISE(ABORT, 'audit log: append only'); END"
    ),
    "audit_checkpoints_next": (
        "BEFORE INSERT ON audit_checkpoints "
        "WHEN NEW.number <> (SELECT coalesce(max(number), -1) + 1 FROM audit_checkpoints) "
        "OR NEW.size <= (SELECT coalesce(max(size), -1) FROM audit_checkpoints) "
        "BEGIN SELECT RAISE(ABORT, 'audit log: not the next checkpoint'); END"
    ),
    "audit_head_forward": (
        "BEFORE UPDATE ON audit_head "
        "WHEN NEW.size <= OLD.size OR NEW.origin <> OLD.origin OR NEW.t < OLD.t "
        "BEGIN SELECT RAISE(ABORT, 'audit log: the head only moves forward'); END"
    ),
    "audit_head_no_delete": (
        "BEFORE DELETE ON audit_head BEGIN SELECT RAISE(ABORT, 'audit log: append only'); END"
    ),
    "audit_head_single": (
        "BEFORE INSERT ON audit_head WHEN EXISTS (SELECT 1 FROM audit_head) "
        "BEGIN SELECT RAISE(ABORT, 'audit log: there is one head'); END"
    ),
}


def install_triggers(connection: Connection) -> None:
    """Create the append-only triggers. Raises InconsistentLogError on a database other than SQLite."""
    if connection.dialect.name != "sqlite":
        raise InconsistentLogError(f"no append-only triggers are known for {connection.dialect.name}")
    for name, definition in SQLITE_TRIGGERS.items():
        connection.exec_driver_sql(f"CREATE TRIGGER {name} {definition}")


def create_schema(connection: Connection) -> None:
    """Create tables, indexes and triggers in an empty database; the server does it by migration instead."""
    metadata.create_all(connection)
    install_triggers(connection)
