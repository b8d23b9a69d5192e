"""Writing the log: ``AuditLog.seal`` adds entries and a signed checkpoint inside the caller's transaction.

Sealed last, just before COMMIT, by the one writer of the database: no act commits without its entry, and no
entry without its act. Reading is ``audit.reader``.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import StatementError

from audit.chain import HASH_SIZE, leaf_hash, link
from audit.checkpoint import Checkpoint, Signer, open_checkpoint, sign_checkpoint
from audit.entry import parse_entry
from audit.errors import AuditError, AuditUnavailableError, ChainBrokenError, InconsistentLogError
from audit.event import AuditEvent, require_tag
from audit.merkle import Edge, root_of
from audit.reader import LogReader
from audit.sequencing import (
    CLOCK_STEP_US,
    Head,
    SealedEntry,
    clock_step,
    merge,
    require_same_act,
    seal_entries,
    sequence,
)

START_UP_ROWS: Final = 4096  # newest entries that are hashed again at every start; ``verify`` checks them all
_IDS_AT_ONCE: Final = 500  # parameters of one statement

# The driver's own SQL: on this path it is a third faster than compiled statements. ``_in_style`` adapts the
# marks.
_SELECT_KNOWN: Final = "SELECT id, body FROM audit_entries WHERE id IN (?)"
_SELECT_HEAD: Final = "SELECT origin, size, checkpoints, t, chain, edge FROM audit_head"
_INSERT_HEAD: Final = (
    "INSERT INTO audit_head (one, origin, vkey, size, checkpoints, t, chain, edge) "
    "VALUES (1, ?, ?, 0, 1, 0, ?, ?)"
)
_MOVE_HEAD: Final = (
    "UPDATE audit_head SET size = ?, checkpoints = ?, t = ?, chain = ?, edge = ? "
    "WHERE one = 1 AND size = ? AND chain = ?"
)
_INSERT_ENTRY: Final = (
    "INSERT INTO audit_entries "
    "(seq, t, id, type, outcome, actor, patient, object_kind, object_id, org, body, leaf, chain) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_INSERT_CHECKPOINT: Final = "INSERT INTO audit_checkpoints (number, size, t, note) VALUES (?, ?, ?, ?)"


class AuditLog:
    """The one writer of a log.

    ``origin`` names the log and is the name of the signer's key; ``clock_us`` tells microseconds since 1970;
    ``node`` is the tag of this process. Keeps nothing of the database in memory, so a rollback needs no care.
    """

    def __init__(self, origin: str, signer: Signer, clock_us: Callable[[], int], node: str) -> None:
        require_tag("node", node)
        if signer.key.name != origin:
            raise InconsistentLogError("the signer's key has another name than the log's origin")
        self._origin = origin
        self._signer = signer
        self._clock_us = clock_us
        self._node = node
        # The chain value after which a step of the clock was recorded, and the clock then: one entry a step.
        self._stepped: tuple[bytes, int] | None = None

    def open_log(self, connection: Connection) -> Checkpoint:
        """Check the end of the log, or begin an empty one; return the newest checkpoint.

        To be called once at start, in a transaction. Recomputes the newest entries (up to 4096) and the part
        of the tree above them, and compares head, edge and checkpoint. Raises InconsistentLogError: do not
        start then.
        """
        try:
            reader = LogReader(connection)
            head = reader.head()
            if head is None:
                return self._begin(connection, reader)
            return self._check_end(reader, head)
        except InconsistentLogError:
            raise
        except AuditError as exc:
            raise InconsistentLogError(f"the end of the audit log does not hold: {exc}") from exc

    def seal(self, connection: Connection, events: Sequence[AuditEvent]) -> Checkpoint | None:
        """Append ``events`` in the running transaction; return the checkpoint, None if nothing is new.

        Events whose id is in the log already are skipped. INVARIANT: the checkpoint is published only after
        COMMIT, since after a rollback another one of the same size will be signed. Raises
        AuditUnavailableError on any failure: the caller rolls the whole transaction back.
        """
        if not events:
            return None
        try:
            return self._seal(connection, events)
        except Exception as exc:  # whatever went wrong, the act must not commit without its entry
            if isinstance(exc, StatementError):
                exc.hide_parameters = True
            raise AuditUnavailableError(f"the audit log could not be written ({type(exc).__name__})") from exc

    def _seal(self, connection: Connection, events: Sequence[AuditEvent]) -> Checkpoint | None:
        head = self._load_head(connection)
        new = self._without_known(connection, merge(events))
        if not new:
            return None
        clock = self._clock_us()
        placed = [each if each.node is not None else replace(each, node=self._node) for each in new]
        stepped = self._step(head, clock)
        if stepped is not None:
            placed.insert(0, stepped)
        after, sealed = seal_entries(head, sequence(head, placed, clock_us=clock))
        _insert_entries(connection, sealed)
        checkpoint = self._commit_to(connection, head, after)
        if self._stepped is not None or stepped is not None:
            self._stepped = (after.chain, clock)
        return checkpoint

    def _load_head(self, connection: Connection) -> Head:
        row = connection.exec_driver_sql(_SELECT_HEAD).one_or_none()
        if row is None:
            raise InconsistentLogError("the log was not opened: it has no head")
        origin, size, checkpoints, t, chain, edge = row
        if origin != self._origin:
            raise InconsistentLogError("the log in this database has another origin")
        return Head(Edge.decode(size, bytes(edge)), bytes(chain), t, checkpoints)

    def _without_known(self, connection: Connection, events: Sequence[AuditEvent]) -> list[AuditEvent]:
        """Drop what the log holds already: the retry of a lost reply is not a second entry."""
        known: dict[str, AuditEvent] = {}
        ids = iter([event.id for event in events])
        while batch := tuple(islice(ids, _IDS_AT_ONCE)):
            sql = _SELECT_KNOWN.replace("?", ", ".join("?" * len(batch)))
            rows = connection.exec_driver_sql(_in_style(connection, sql), batch)
            known.update((row[0], parse_entry(bytes(row[1])).event) for row in rows)
        if not known:
            return list(events)
        for event in events:
            if event.id in known:
                named = event if event.node is not None else replace(event, node=self._node)
                require_same_act(known[event.id], named)
        return [event for event in events if event.id not in known]

    def _step(self, head: Head, clock: int) -> AuditEvent | None:
        """Return the event for a clock that went back by more than 5 s since it was last right."""
        reference = head.t
        if self._stepped is not None:
            chain, clock_then = self._stepped
            if chain == head.chain:
                reference = clock_then
            if chain != head.chain or clock >= head.t:
                self._stepped = None
        if clock >= reference - CLOCK_STEP_US:
            return None
        return clock_step(head, self._node, clock_us=clock)

    def _commit_to(self, connection: Connection, before: Head, after: Head) -> Checkpoint:
        """Write the checkpoint over ``after`` and move the head, if it still stands where it was read."""
        checkpoint = Checkpoint(self._origin, after.size, after.edge.root())
        note = sign_checkpoint(checkpoint, self._signer)
        moved = connection.exec_driver_sql(
            _in_style(connection, _MOVE_HEAD),
            (
                *(after.size, before.checkpoints + 1, after.t, after.chain, after.edge.encode()),
                *(before.size, before.chain),
            ),
        )
        if moved.rowcount != 1:
            raise InconsistentLogError(
                f"the head moved away from size {before.size}: there is a second writer"
            )
        _insert_checkpoint(connection, before.checkpoints, after, note)
        return checkpoint

    def _begin(self, connection: Connection, reader: LogReader) -> Checkpoint:
        """Write head and checkpoint of a log without entries."""
        if reader.newest() is not None or reader.newest_checkpoint() is not None:
            raise InconsistentLogError("the log has entries or checkpoints, but no head")
        empty = Head.empty(self._origin)
        checkpoint = Checkpoint(self._origin, 0, empty.edge.root())
        note = sign_checkpoint(checkpoint, self._signer)
        connection.exec_driver_sql(
            _in_style(connection, _INSERT_HEAD), (self._origin, self._signer.key.encode(), empty.chain, b"")
        )
        _insert_checkpoint(connection, 0, empty, note)
        return checkpoint

    def _check_end(self, reader: LogReader, head: Head) -> Checkpoint:
        if reader.origin() != self._origin:
            raise InconsistentLogError("the log in this database has another origin")
        _check_newest_entries(reader, head)
        stored = reader.newest_checkpoint()
        if stored is None or stored.number != head.checkpoints - 1:
            raise InconsistentLogError(f"the newest of {head.checkpoints} checkpoints is missing")
        checkpoint = open_checkpoint(stored.note, self._signer.key)
        if (checkpoint.size, checkpoint.root) != (head.size, head.edge.root()):
            raise InconsistentLogError(
                f"the newest checkpoint does not cover the {head.size} entries of the head"
            )
        return checkpoint


def _check_newest_entries(reader: LogReader, head: Head) -> None:
    """Hash the newest entries again and compare them with chain, time and edge of the head."""
    newest = reader.newest()
    if head.size == 0 and newest is None:
        return
    if newest is None or newest.entry.seq != head.size - 1 or newest.entry.t != head.t:
        raise InconsistentLogError(f"the last entry is not number {head.size - 1}, at the time of the head")
    first = max(0, head.size - START_UP_ROWS)
    leaves = []
    chain = b""
    for row in reader.rows(first):
        leaf = leaf_hash(row.body)
        if (chain and row.chain != link(chain, leaf)) or row.leaf != leaf or len(row.chain) != HASH_SIZE:
            raise ChainBrokenError(f"entry {row.seq} does not follow from the entry before it")
        chain = row.chain
        leaves.append(leaf)
    if len(leaves) != head.size - first or chain != head.chain:
        raise InconsistentLogError(f"the last {head.size - first} entries do not lead to the head")
    _check_edge(head.edge, leaves)


def _check_edge(edge: Edge, newest: list[bytes]) -> None:
    """Compare the smallest subtrees of ``edge`` with the newest leaves, as far back as these reach."""
    end = len(newest)
    width = 1
    for stored in reversed(edge.hashes):
        while not edge.size & width:
            width <<= 1
        if width > end:
            return
        if root_of(newest[end - width : end]) != stored:
            raise InconsistentLogError(
                f"the tree over the last {len(newest) - end + width} entries is another one"
            )
        end -= width
        width <<= 1


def _insert_entries(connection: Connection, sealed: Sequence[SealedEntry]) -> None:
    rows = [(*each.entry.columns(), each.body, each.leaf, each.chain) for each in sealed]
    connection.exec_driver_sql(_in_style(connection, _INSERT_ENTRY), rows)


def _insert_checkpoint(connection: Connection, number: int, head: Head, note: bytes) -> None:
    connection.exec_driver_sql(_in_style(connection, _INSERT_CHECKPOINT), (number, head.size, head.t, note))


def _in_style(connection: Connection, sql: str) -> str:
    """Return ``sql`` with the parameter marks of the connection's driver: ``?`` or ``%s``."""
    return sql if connection.dialect.paramstyle == "qmark" else sql.replace("?", "%s")
