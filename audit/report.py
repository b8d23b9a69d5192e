"""What a verification reads and what it says: a copy of a log as found, and the findings about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, StrEnum


class Kind(StrEnum):
    """What is wrong. Stable names, for machines."""

    ENTRY_MISSING = "entry-missing"
    ENTRY_SURPLUS = "entry-surplus"
    ENTRY_UNREADABLE = "entry-unreadable"
    ENTRY_NOT_CANONICAL = "entry-not-canonical"
    COLUMN_MISMATCH = "column-mismatch"
    LEAF_MISMATCH = "leaf-mismatch"
    CHAIN_MISMATCH = "chain-mismatch"
    TIME_BACKWARDS = "time-backwards"
    TAIL_MISSING = "tail-missing"
    HEAD_MISSING = "head-missing"
    HEAD_MISMATCH = "head-mismatch"
    KEY_MISMATCH = "key-mismatch"
    ORIGIN_MISMATCH = "origin-mismatch"
    CHECKPOINT_MISSING = "checkpoint-missing"
    CHECKPOINT_INVALID = "checkpoint-invalid"
    ROOT_MISMATCH = "root-mismatch"
    PREVIOUS_LONGER = "previous-longer"
    PREVIOUS_MISMATCH = "previous-mismatch"
    PREVIOUS_SIGNATURE = "previous-signature"


class Caveat(Enum):
    """What this run could not exclude, in words for people."""

    OWN_KEY = (
        "checked against the log's own key only: whoever can write the database could have replaced the key "
        "and signed everything again; give --vkey, the key as you got it from the operator"
    )
    NO_PREVIOUS = (
        "no earlier checkpoint was given: whoever holds the log's key could have written another history, or "
        "cut its end; keep a checkpoint with --remember and give it next time with --previous"
    )
    NO_COLUMNS = (
        "an export bundle holds no query columns and no head: only entries, chain and checkpoint were checked"
    )


@dataclass(frozen=True, slots=True)
class StoredRow:
    """One stored entry as found. ``columns`` follow ``QUERY_COLUMNS``; what a copy does not hold is None."""

    seq: int
    body: bytes
    chain: bytes
    leaf: bytes | None = None
    columns: tuple[object, ...] | None = None


@dataclass(frozen=True, slots=True)
class StoredCheckpoint:
    """One stored checkpoint as found; ``number`` and ``t`` are None in an export bundle."""

    size: int
    note: bytes
    number: int | None = None
    t: int | None = None


@dataclass(frozen=True, slots=True)
class StoredHead:
    """The head row as found: what the writer believed after its last commit."""

    size: int
    checkpoints: int
    t: int
    chain: bytes
    edge: bytes


@dataclass(frozen=True, slots=True)
class LogCopy:
    """A log to verify. ``rows`` come by sequence number, ``checkpoints`` by number or size.

    ``is_database`` says that head, columns and every checkpoint must be there; a bundle holds less.
    ``rows`` may raise SourceError where the file cannot be read on.
    """

    origin: str
    vkey: str
    rows: Iterable[StoredRow]
    checkpoints: Iterable[StoredCheckpoint]
    head: StoredHead | None
    is_database: bool


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, with the first entry that it concerns, if it concerns any.

    Where only a range is known to be wrong as a whole, ``exact`` is False and ``seq`` its first entry.
    """

    kind: Kind
    text: str
    seq: int | None = None
    exact: bool = True


@dataclass(frozen=True, slots=True)
class Report:
    """Outcome of one verification. ``newest`` is the newest checkpoint whose signature and root hold."""

    origin: str
    entries: int
    checkpoints: int
    root: bytes
    first_t: int | None
    last_t: int | None
    findings: tuple[Finding, ...]
    more_findings: int
    caveats: tuple[Caveat, ...]
    newest: StoredCheckpoint | None

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong, as far as the caveats reach."""
        return not self.findings

    @property
    def first_bad(self) -> int | None:
        """Sequence number of the first entry that is wrong, missing or not covered; None if none is known.

        A lower bound if ``first_bad_is_exact`` is False.
        """
        return min((each.seq for each in self.findings if each.seq is not None), default=None)

    @property
    def first_bad_is_exact(self) -> bool:
        """Whether the first bad entry is known by itself, and not only as one of a range."""
        return any(each.exact and each.seq == self.first_bad for each in self.findings)
