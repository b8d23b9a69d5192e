"""The errors of the audit log, one tree.

    AuditError
    |- EventError               an event or entry outside the closed schema
    |- ChainBrokenError         stored rows do not continue the hash chain
    |- ProofError               an inclusion or consistency proof that does not hold
    |- CheckpointError          a note, key or checkpoint that is malformed or not signed as expected
    |- InconsistentLogError     head, rows, columns and checkpoints contradict each other
    |- AuditUnavailableError    the log could not be written: the act must not happen
    |- SourceError              a database or bundle that cannot be read as an audit log
    |- QueryError               a filter, cursor or limit outside its range
    `- EntryNotFoundError       no entry with that sequence number

``code`` is stable and safe to show; the text holds numbers and field names, never contents.
"""

from typing import ClassVar


class AuditError(Exception):
    """Base of every error that this package raises on purpose."""

    code: ClassVar[str] = "audit_error"


class EventError(AuditError):
    """A field is missing, unknown, too long or outside its character set; or bytes are not canonical."""

    code = "audit_event_invalid"


class ChainBrokenError(AuditError):
    """A stored row does not follow from the row before it."""

    code = "audit_chain_broken"


class ProofError(AuditError):
    """A Merkle proof does not lead to the root."""

    code = "audit_proof_invalid"


class CheckpointError(AuditError):
    """A signed note, a key or a checkpoint is malformed, foreign or wrongly signed."""

    code = "audit_checkpoint_invalid"


class InconsistentLogError(AuditError):
    """Parts of one log contradict each other; the server refuses to start on it."""

    code = "audit_log_inconsistent"


class AuditUnavailableError(AuditError):
    """Nothing was recorded, so the transaction of the act must roll back."""

    code = "audit_unavailable"


class SourceError(AuditError):
    """The file is no audit log that can be read."""

    code = "audit_source_unreadable"


class QueryError(AuditError):
    """A query parameter is unknown, repeated or malformed; ``parameter`` names it."""

    code = "audit_query_invalid"

    def __init__(self, parameter: str, problem: str) -> None:
        super().__init__(f"{parameter}: {problem}")
        self.parameter = parameter


class EntryNotFoundError(AuditError):
    """The log holds no entry with this sequence number."""

    code = "audit_entry_not_found"
