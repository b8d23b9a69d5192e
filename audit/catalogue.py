"""What can be recorded: the closed catalogue of event types and their durability classes.

A type is an area and an act. Names are stable: they are part of the entry format, so a type is never
renamed, only added. Where an act needs a permission, the permission has the same name.
"""

from enum import StrEnum
from typing import Final


class EventType(StrEnum):
    """Every act that the log can hold."""

    AUTH_LOGIN = "auth.login"
    AUTH_LOGIN_FAILED = "auth.login-failed"
    AUTH_MFA = "auth.mfa"
    AUTH_MFA_FAILED = "auth.mfa-failed"
    AUTH_LOGOUT = "auth.logout"
    AUTH_LOCKED = "auth.locked"
    AUTH_UNLOCKED = "auth.unlocked"
    AUTH_PASSWORD_CHANGED = "auth.password-changed"  # noqa: S105 (a name, not a password)
    AUTH_SESSION_REVOKED = "auth.session-revoked"
    SESSION_OPEN = "session.open"
    SESSION_CLOSE = "session.close"

    DEVICE_ENROLL = "device.enroll"
    DEVICE_REVOKE = "device.revoke"
    DEVICE_VERIFY = "device.verify"
    DEVICE_LIST = "device.list"
    KEY_IDENTITY_CHANGED = "key.identity-changed"
    PREKEY_PUBLISH = "prekey.publish"
    PREKEY_FETCH = "prekey.fetch"
    PREKEY_COUNT = "prekey.count"
    PREKEY_LOW = "prekey.low"
    KEYLOG_MISMATCH_REPORTED = "keylog.mismatch-reported"

    CONVERSATION_CREATE = "conversation.create"
    CONVERSATION_JOIN = "conversation.join"
    CONVERSATION_LEAVE = "conversation.leave"
    CONVERSATION_ADD_MEMBER = "conversation.add-member"
    CONVERSATION_REMOVE_MEMBER = "conversation.remove-member"
    CONVERSATION_ARCHIVE = "conversation.archive"
    CONVERSATION_SET_SENSITIVITY = "conversation.set-sensitivity"
    CONVERSATION_SET_RETENTION = "conversation.set-retention"
    CONVERSATION_EXPORT = "conversation.export"
    MESSAGE_SEND = "message.send"
    MESSAGE_RECEIVE = "message.receive"
    MESSAGE_ACK = "message.ack"
    MESSAGE_DELIVER = "message.deliver"
    MESSAGE_READ_RECEIPT = "message.read-receipt"
    MESSAGE_DELETE = "message.delete"
    MESSAGE_EXPIRED = "message.expired"
    ATTACHMENT_UPLOAD = "attachment.upload"
    ATTACHMENT_DOWNLOAD = "attachment.download"

    PATIENT_LINK = "patient.link"
    PATIENT_UNLINK = "patient.unlink"
    CARETEAM_ASSIGN = "careteam.assign"
    CARETEAM_UNASSIGN = "careteam.unassign"
    CONSENT_RECORDED = "consent.recorded"
    CONSENT_WITHDRAWN = "consent.withdrawn"
    BREAKGLASS_START = "breakglass.start"
    BREAKGLASS_ACCESS = "breakglass.access"
    BREAKGLASS_EXTEND = "breakglass.extend"
    BREAKGLASS_END = "breakglass.end"
    BREAKGLASS_EXPIRE = "breakglass.expire"
    BREAKGLASS_REVIEW = "breakglass.review"
    DISCLOSURE_RECORD = "disclosure.record"
    DISCLOSURE_SUSPEND = "disclosure.suspend"
    ACCOUNTING_REQUEST = "accounting.request"
    ACCOUNTING_DELIVERED = "accounting.delivered"

    AUTHZ_DENY = "authz.deny"
    AUTHZ_ALLOW = "authz.allow"
    POLICY_VIEW = "policy.view"
    POLICY_DECIDE = "policy.decide"
    POLICY_PROPOSE = "policy.propose"
    POLICY_APPROVE = "policy.approve"
    POLICY_REJECT = "policy.reject"
    POLICY_ACTIVATE = "policy.activate"
    POLICY_ROLLBACK = "policy.rollback"
    POLICY_TEST_FAILED = "policy.test-failed"
    POLICY_DRY_RUN = "policy.dry-run"
    ROLE_ASSIGN = "role.assign"
    ROLE_REVOKE = "role.revoke"
    USER_CREATE = "user.create"
    USER_SUSPEND = "user.suspend"
    USER_DELETE = "user.delete"
    ORG_CHANGE = "org.change"
    MFA_RESET = "mfa.reset"

    AUDIT_QUERY = "audit.query"
    AUDIT_REPORT = "audit.report"
    AUDIT_EXPORT = "audit.export"
    AUDIT_VERIFY = "audit.verify"
    AUDIT_REVIEW = "audit.review"
    AUDIT_ALERT = "audit.alert"
    AUDIT_RECORDING_STARTED = "audit.recording-started"
    AUDIT_RECORDING_STOPPED = "audit.recording-stopped"
    AUDIT_HEARTBEAT = "audit.heartbeat"
    WITNESS_COSIGNED = "witness.cosigned"
    WITNESS_LAGGING = "witness.lagging"
    ANCHOR_TIMESTAMPED = "anchor.timestamped"
    SEGMENT_SEALED = "segment.sealed"
    SEGMENT_PRUNED = "segment.pruned"
    REDACTION_APPLIED = "redaction.applied"
    LEGALHOLD_PLACED = "legalhold.placed"
    LEGALHOLD_RELEASED = "legalhold.released"
    KEY_ROTATED = "key.rotated"
    CLOCK_STEP = "clock.step"

    SERVICE_START = "service.start"
    SERVICE_STOP = "service.stop"
    SERVICE_METRICS = "service.metrics"
    CONFIG_CHANGED = "config.changed"
    BACKUP_MADE = "backup.made"
    BACKUP_RESTORED = "backup.restored"
    MIGRATION_RUN = "migration.run"
    INTEGRITY_FAILURE = "integrity.failure"


class AuditClass(StrEnum):
    """How durable an entry must be before the act is answered."""

    A = "A"  # rare and grave: durable, and to be seen by a witness where there is one
    B = "B"  # durable before the reply
    C = "C"  # frequent: durable before the reply, equal ones of one commit counted in one entry


_AREAS_A: Final = frozenset(
    {"breakglass", "disclosure", "accounting", "role", "user", "org", "mfa", "key", "keylog"}
)
_TYPES_A: Final = frozenset(
    {
        EventType.DEVICE_ENROLL,
        EventType.DEVICE_REVOKE,
        EventType.DEVICE_VERIFY,
        EventType.CONVERSATION_EXPORT,
        EventType.POLICY_PROPOSE,
        EventType.POLICY_APPROVE,
        EventType.POLICY_REJECT,
        EventType.POLICY_ACTIVATE,
        EventType.POLICY_ROLLBACK,
        EventType.POLICY_TEST_FAILED,
        EventType.POLICY_DRY_RUN,
        EventType.AUDIT_EXPORT,
        EventType.SEGMENT_PRUNED,
        EventType.REDACTION_APPLIED,
    }
)


def area(event_type: EventType) -> str:
    """Return the part before the dot, e.g. ``message``."""
    return event_type.value.partition(".")[0]


def audit_class(event_type: EventType) -> AuditClass:
    """Return the durability class of a type."""
    if event_type in _TYPES_A or area(event_type) in _AREAS_A:
        return AuditClass.A
    return AuditClass.C if area(event_type) == "message" else AuditClass.B


def types_matching(pattern: str) -> frozenset[EventType]:
    """Return the types that an exact name (``message.send``) or an area (``message.*``) stands for."""
    if pattern.endswith(".*"):
        return frozenset(each for each in EventType if area(each) == pattern[:-2])
    return frozenset(each for each in EventType if each.value == pattern)
