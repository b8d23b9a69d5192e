"""The auditor's check of a whole log: rows, chain, tree, checkpoints, head, and what the auditor kept.

Pure: it reads a ``LogCopy`` once, in order, and returns a ``Report``. It never stops at the first problem,
and it names the first entry that is wrong. It shares the hashes and the entry parser with the writer, and
nothing of the writer's store.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from audit.chain import HASH_SIZE, genesis, leaf_hash, link
from audit.checkpoint import Checkpoint, open_checkpoint, read_checkpoint
from audit.entry import QUERY_COLUMNS, Entry, parse_entry
from audit.errors import CheckpointError, EventError, SourceError
from audit.merkle import EMPTY_ROOT, Edge
from audit.note import VerifierKey, parse_vkey
from audit.report import Caveat, Finding, Kind, LogCopy, Report, StoredCheckpoint, StoredHead, StoredRow

MAX_FINDINGS: Final = 100  # more are counted, not listed
_CHUNK: Final = 4096  # leaves hashed into the tree at once


def verify(copy: LogCopy, *, key: VerifierKey | None = None, previous: bytes | None = None) -> Report:
    """Check the whole of ``copy``, against ``key`` and the note ``previous`` kept from an earlier check.

    Raises CheckpointError if ``previous`` itself is no checkpoint note; all else ends in the report.
    """
    kept = None if previous is None else read_checkpoint(previous)
    run = _Run(copy, key)
    if kept is not None and previous is not None:
        run.expect_previous(kept, previous)
    run.read_all()
    caveats = [Caveat.OWN_KEY] if key is None else []
    if previous is None:
        caveats.append(Caveat.NO_PREVIOUS)
    if not copy.is_database:
        caveats.append(Caveat.NO_COLUMNS)
    return run.report(tuple(caveats))


@dataclass(slots=True)
class _Findings:
    """Findings in the order in which they were met, at most MAX_FINDINGS of them."""

    listed: list[Finding] = field(default_factory=list)
    more: int = 0

    def add(self, kind: Kind, text: str, seq: int | None = None) -> None:
        """Keep one finding, or count it."""
        self._keep(Finding(kind, text, seq))

    def add_range(self, kind: Kind, text: str, first: int, end: int) -> None:
        """Keep a finding about the entries from ``first`` up to ``end`` as a whole.

        It points at its first entry, unless one of the range is known to be wrong by itself.
        """
        known = any(each.seq is not None and first <= each.seq < end for each in self.listed)
        self._keep(Finding(kind, text, None if known else first, exact=end - first == 1))

    def _keep(self, finding: Finding) -> None:
        if len(self.listed) < MAX_FINDINGS:
            self.listed.append(finding)
        else:
            self.more += 1


class _Run:
    """State of one pass: where chain and tree stand, and which checkpoint comes next."""

    def __init__(self, copy: LogCopy, key: VerifierKey | None) -> None:
        self._copy = copy
        self._findings = _Findings()
        self._key = key if key is not None else self._own_key()
        self._chain = self._start()
        self._edge = Edge()
        self._leaves: list[bytes] = []  # not yet in the edge
        self._count = 0  # rows seen, and the next sequence number unless some are missing
        self._next = 0
        self._whole = True  # no row is missing so far, so the tree can still be compared
        self._first_t: int | None = None
        self._last_t: int | None = None
        self._checkpoints_seen = 0
        self._newest: StoredCheckpoint | None = None
        self._good_size = 0  # the tree matched a checkpoint of this size
        self._root_reported = False
        self._previous: Checkpoint | None = None
        if key is not None and not self._headless:
            self._compare_names(key)

    @property
    def _headless(self) -> bool:
        """Whether the row that tells origin and key is missing from a database."""
        return self._copy.is_database and self._copy.head is None

    def _start(self) -> bytes:
        """Return the chain value before the first entry; nothing if the origin is not known."""
        if not self._headless:
            return genesis(self._copy.origin)
        return b"" if self._key is None else genesis(self._key.name)

    def _own_key(self) -> VerifierKey | None:
        if self._headless:
            return None
        try:
            return parse_vkey(self._copy.vkey)
        except CheckpointError as exc:
            self._findings.add(Kind.KEY_MISMATCH, f"the log's own verifier key is malformed: {exc}")
            return None

    def _compare_names(self, key: VerifierKey) -> None:
        if key.name != self._copy.origin:
            self._findings.add(Kind.ORIGIN_MISMATCH, "the log has another origin than the given key")
        if self._copy.vkey != key.encode():
            self._findings.add(Kind.KEY_MISMATCH, "the log names another verifier key than the given one")

    def expect_previous(self, kept: Checkpoint, note: bytes) -> None:
        """Take the checkpoint that the auditor kept; it is compared when the tree reaches its size."""
        if kept.origin != self._copy.origin:
            self._findings.add(Kind.ORIGIN_MISMATCH, "the kept checkpoint is of a log with another origin")
            return
        self._previous = kept
        if self._key is None:
            return
        try:
            open_checkpoint(note, self._key)
        except CheckpointError as exc:
            self._findings.add(
                Kind.PREVIOUS_SIGNATURE, f"the kept checkpoint is not signed by the log's key: {exc}"
            )

    def read_all(self) -> None:
        """Read every row and checkpoint once, then compare the ends."""
        pending = self._readable_checkpoints()
        upcoming = next(pending, None)
        upcoming = self._pass_checkpoints(upcoming, pending)
        try:
            for row in self._copy.rows:
                self._read_row(row)
                if upcoming is not None and upcoming.size <= self._next:
                    upcoming = self._pass_checkpoints(upcoming, pending)
                if self._previous is not None and self._previous.size == self._next:
                    self._compare_previous()
        except SourceError as exc:
            self._whole = False
            self._findings.add(Kind.ENTRY_UNREADABLE, f"entry {self._next} cannot be read: {exc}", self._next)
        self._settle()
        while upcoming is not None:
            self._checkpoint_beyond(upcoming)
            upcoming = next(pending, None)
        self._compare_ends()

    def _readable_checkpoints(self) -> Iterator[StoredCheckpoint]:
        try:
            yield from self._copy.checkpoints
        except SourceError as exc:
            self._findings.add(Kind.CHECKPOINT_INVALID, f"the checkpoints cannot be read on: {exc}")

    def _read_row(self, row: StoredRow) -> None:
        """Check one row against its predecessor and take it into chain and tree."""
        seq = self._next
        if row.seq < seq:
            self._findings.add(
                Kind.ENTRY_SURPLUS, f"a row stands at {row.seq}, where none belongs", max(row.seq, 0)
            )
            self._whole = False
            return
        if row.seq > seq:
            self._findings.add(Kind.ENTRY_MISSING, _missing(seq, row.seq - 1), seq)
            self._whole = False
            self._chain = b""
        leaf = leaf_hash(row.body)
        chain = link(self._chain, leaf) if self._chain else row.chain
        problem = self._problem(row, leaf, chain)
        if problem is not None:
            self._findings.add(*problem, row.seq)
        # A broken row must not condemn all that follow: go on from what it states.
        self._chain = row.chain if len(row.chain) == HASH_SIZE else chain
        self._count += 1
        self._next = row.seq + 1
        self._leaves.append(leaf)
        if len(self._leaves) >= _CHUNK:
            self._settle()

    def _problem(self, row: StoredRow, leaf: bytes, chain: bytes) -> tuple[Kind, str] | None:
        """Return the first thing wrong with a row by itself, or None."""
        if not row.body:
            self._last_t = None
            return Kind.ENTRY_NOT_CANONICAL, f"entry {row.seq} is empty, or is not stored as bytes"
        try:
            entry = parse_entry(row.body)
        except EventError as exc:
            self._last_t = None
            return Kind.ENTRY_NOT_CANONICAL, f"entry {row.seq} is no entry: {exc}"
        backwards = self._time_problem(entry)
        if row.columns is None:
            if entry.seq != row.seq:
                return Kind.COLUMN_MISMATCH, f"entry {row.seq} says that it is another: seq"
        elif row.columns != entry.columns():
            names = _differing(row.columns, entry)
            return (
                Kind.COLUMN_MISMATCH,
                f"entry {row.seq} is filed under something else than it says: {names}",
            )
        if row.leaf is not None and row.leaf != leaf:
            return Kind.LEAF_MISMATCH, f"entry {row.seq} is not what was hashed when it was written"
        if row.chain != chain:
            return Kind.CHAIN_MISMATCH, f"entry {row.seq} does not follow from the entry before it"
        return backwards

    def _time_problem(self, entry: Entry) -> tuple[Kind, str] | None:
        earlier, self._last_t = self._last_t, entry.t
        if self._first_t is None:
            self._first_t = entry.t
        if earlier is None or entry.t >= earlier:
            return None
        return (
            Kind.TIME_BACKWARDS,
            f"entry {entry.seq} is {earlier - entry.t} µs earlier than its predecessor",
        )

    def _time_is(self, t: int) -> bool:
        """Whether ``t`` is the time of the last entry, as head and checkpoint state it; 0 for none."""
        if self._next == 0:
            return t == 0
        return self._last_t is None or t == self._last_t

    def _settle(self) -> None:
        """Take the leaves that were put aside into the tree."""
        self._edge = self._edge.extend(self._leaves)
        self._leaves.clear()

    def _root(self) -> bytes:
        self._settle()
        return self._edge.root()

    def _pass_checkpoints(
        self, upcoming: StoredCheckpoint | None, pending: Iterator[StoredCheckpoint]
    ) -> StoredCheckpoint | None:
        """Check the checkpoints up to the present size and return the first one beyond it."""
        while upcoming is not None and upcoming.size <= self._next:
            self._check_checkpoint(upcoming)
            upcoming = next(pending, None)
        return upcoming

    def _check_checkpoint(self, stored: StoredCheckpoint) -> None:
        opened = self._open(stored)
        if opened is None:
            return
        if stored.size != self._next:
            self._findings.add(
                Kind.CHECKPOINT_INVALID, f"the checkpoint of size {stored.size} stands out of order"
            )
        elif self._whole and not self._root_reported:
            if opened.root == self._root():
                self._good_size = stored.size
                self._newest = stored
            else:
                self._root_reported = True
                text = _not_signed(self._good_size, stored.size)
                self._findings.add_range(Kind.ROOT_MISMATCH, text, self._good_size, stored.size)

    def _open(self, stored: StoredCheckpoint) -> Checkpoint | None:
        """Check what a checkpoint says of itself: number, note, signature, size and time."""
        where = f"the checkpoint of size {stored.size}"
        expected = self._checkpoints_seen
        self._checkpoints_seen = expected + 1
        if stored.number is not None and stored.number != expected:
            text = f"{where} has number {stored.number} instead of {expected}: others are gone"
            self._findings.add(Kind.CHECKPOINT_MISSING, text)
            self._checkpoints_seen = stored.number + 1
        if self._key is None:
            return None
        try:
            opened = open_checkpoint(stored.note, self._key)
        except CheckpointError as exc:
            self._findings.add(Kind.CHECKPOINT_INVALID, f"{where} is not the log's: {exc}")
            return None
        if opened.size != stored.size or opened.extensions:
            self._findings.add(Kind.CHECKPOINT_INVALID, f"{where} says something else")
            return None
        if stored.t is not None and stored.size == self._next and not self._time_is(stored.t):
            self._findings.add(Kind.CHECKPOINT_INVALID, f"{where} is filed under another time")
        return opened

    def _checkpoint_beyond(self, stored: StoredCheckpoint) -> None:
        """A signed checkpoint covers more entries than there are: the end was cut off."""
        if self._open(stored) is not None:
            self._findings.add(Kind.TAIL_MISSING, _missing(self._next, stored.size - 1), self._next)

    def _compare_previous(self) -> None:
        if self._previous is None or not self._whole:
            return
        if self._previous.root == self._root():
            self._good_size = max(self._good_size, self._previous.size)
        else:
            text = f"the first {self._previous.size} entries are not those of the kept checkpoint"
            self._findings.add(Kind.PREVIOUS_MISMATCH, text)

    def _compare_ends(self) -> None:
        kept = self._previous
        if kept is not None and kept.size == 0 and kept.root != EMPTY_ROOT:
            self._findings.add(Kind.PREVIOUS_MISMATCH, "the kept checkpoint of size 0 has no empty root")
        if kept is not None and kept.size > self._next:
            text = f"the log has {self._next} entries; the kept checkpoint covers {kept.size}"
            self._findings.add(Kind.PREVIOUS_LONGER, text, self._next)
        if self._copy.is_database:
            self._compare_head(self._copy.head)
        covered = self._newest is not None and self._newest.size == self._next
        if not covered and not any(each.seq is not None for each in self._findings.listed):
            text = f"no valid checkpoint covers the entries from {self._good_size} on"
            self._findings.add_range(Kind.CHECKPOINT_MISSING, text, self._good_size, self._next)

    def _compare_head(self, head: StoredHead | None) -> None:
        if head is None:
            self._findings.add(Kind.HEAD_MISSING, "the head of the log is missing, doubled or unreadable")
            return
        if head.size > self._next:
            self._findings.add(Kind.TAIL_MISSING, _missing(self._next, head.size - 1), self._next)
        elif head.size < self._next:
            text = f"the head counts {head.size} entries, there are {self._next}"
            self._findings.add(Kind.HEAD_MISMATCH, text, max(head.size, 0))
        else:
            if head.chain != self._chain:
                self._findings.add(Kind.HEAD_MISMATCH, "the head has another chain value than the last entry")
            if self._whole and head.edge != self._edge.encode():
                self._findings.add(Kind.HEAD_MISMATCH, "the head has another tree than the entries")
            if not self._time_is(head.t):
                self._findings.add(Kind.HEAD_MISMATCH, "the head has another time than the last entry")
        if head.checkpoints != self._checkpoints_seen:
            text = f"the head counts {head.checkpoints} checkpoints, there are {self._checkpoints_seen}"
            self._findings.add(Kind.CHECKPOINT_MISSING, text)

    def report(self, caveats: tuple[Caveat, ...]) -> Report:
        """Return the outcome once everything has been read."""
        return Report(
            origin=self._copy.origin,
            entries=self._count,
            checkpoints=self._checkpoints_seen,
            root=self._edge.root(),
            first_t=self._first_t,
            last_t=self._last_t,
            findings=tuple(self._findings.listed),
            more_findings=self._findings.more,
            caveats=caveats,
            newest=self._newest,
        )


def _missing(first: int, last: int) -> str:
    return f"entry {first} is missing" if first == last else f"entries {first} to {last} are missing"


def _not_signed(first: int, end: int) -> str:
    if end - first == 1:
        return f"entry {first} is not what was signed"
    return f"entries {first} to {end - 1} are not, as a whole, what was signed"


def _differing(found: tuple[object, ...], entry: Entry) -> str:
    """Name the columns that differ, without their contents."""
    pairs = zip(QUERY_COLUMNS, found, entry.columns(), strict=True)
    return ", ".join(name for name, stored, stated in pairs if stored != stated)
