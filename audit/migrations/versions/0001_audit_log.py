"""The audit log: entries, checkpoints, head, and the triggers that keep them append-only."""

import sqlalchemy as sa
from alembic import op

revision = "audit_0001"
down_revision = None
branch_labels = None
depends_on = None

_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")  # SQLite: a rowid alias

_TRIGGERS = {
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


def upgrade() -> None:
    """Create the three tables, their indexes and triggers."""
    op.create_table(
        "audit_entries",
        sa.Column("seq", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("t", sa.BigInteger, nullable=False),
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("patient", sa.String(128)),
        sa.Column("object_kind", sa.String(64)),
        sa.Column("object_id", sa.String(128)),
        sa.Column("org", sa.String(128)),
        sa.Column("body", sa.LargeBinary, nullable=False),
        sa.Column("leaf", sa.LargeBinary(32), nullable=False),
        sa.Column("chain", sa.LargeBinary(32), nullable=False),
    )
    op.create_index("audit_entries_id", "audit_entries", ["id"], unique=True)
    op.create_index("audit_entries_t", "audit_entries", ["t", "seq"])
    op.create_index("audit_entries_actor", "audit_entries", ["actor", "seq"])
    op.create_index("audit_entries_type", "audit_entries", ["type", "seq"])
    _partial_index("audit_entries_patient", "patient", "patient IS NOT NULL")
    _partial_index("audit_entries_object", "object_id", "object_id IS NOT NULL")
    _partial_index("audit_entries_org", "org", "org IS NOT NULL")
    _partial_index("audit_entries_refused", "outcome", "outcome <> 'ok'")
    op.create_table(
        "audit_checkpoints",
        sa.Column("number", _NUMBER, primary_key=True, autoincrement=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("t", sa.BigInteger, nullable=False),
        sa.Column("note", sa.LargeBinary, nullable=False),
    )
    op.create_index("audit_checkpoints_size", "audit_checkpoints", ["size"], unique=True)
    op.create_table(
        "audit_head",
        sa.Column(
            "one",
            sa.Integer,
            sa.CheckConstraint("one = 1", name="audit_head_one"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("origin", sa.String(255), nullable=False),
        sa.Column("vkey", sa.String(512), nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("checkpoints", sa.BigInteger, nullable=False),
        sa.Column("t", sa.BigInteger, nullable=False),
        sa.Column("chain", sa.LargeBinary(32), nullable=False),
        sa.Column("edge", sa.LargeBinary, nullable=False),
    )
    for name, definition in _TRIGGERS.items():
        op.execute(f"CREATE TRIGGER {name} {definition}")


def downgrade() -> None:
    """Refuse: a log that a downgrade could drop would not be append-only."""
    raise RuntimeError("the audit log is never dropped by a migration; restore a backup instead")


def _partial_index(name: str, column: str, where: str) -> None:
    condition = sa.text(where)
    op.create_index(
        name, "audit_entries", [column, "seq"], sqlite_where=condition, postgresql_where=condition
    )
