"""What is asked of the decision point and what it answers: frozen values, no rules.

The names of the actions equal the types of the audit events, so that a decision and its record speak of the
same act.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from securechat.ids import OrgId, UserId

DEFAULT_DENY: Final = "default-deny"  # no rule permits the request
POLICY_ERROR: Final = "policy-error"  # the request could not be decided, so it is refused
ROLE_CONFLICT: Final = "role-conflict"  # the principal holds roles that exclude each other
RESERVED_REASONS: Final = frozenset(
    {DEFAULT_DENY, POLICY_ERROR, ROLE_CONFLICT}
)  # no policy may carry such an id


class Action(StrEnum):
    """Everything the server does on somebody's behalf."""

    SESSION_OPEN = "session.open"
    DEVICE_ENROLL = "device.enroll"
    DEVICE_REVOKE = "device.revoke"
    DEVICE_LIST = "device.list"
    PREKEY_PUBLISH = "prekey.publish"
    PREKEY_FETCH = "prekey.fetch"
    PREKEY_COUNT = "prekey.count"
    MESSAGE_SEND = "message.send"
    MESSAGE_RECEIVE = "message.receive"
    MESSAGE_ACK = "message.ack"
    AUDIT_QUERY = "audit.query"
    AUDIT_VERIFY = "audit.verify"
    AUDIT_EXPORT = "audit.export"
    POLICY_VIEW = "policy.view"
    POLICY_DECIDE = "policy.decide"
    SERVICE_METRICS = "service.metrics"


class ResourceKind(StrEnum):
    """What an action is done to; the value is the entity type's name in the schema."""

    ACCOUNT = "Account"
    MAILBOX = "Mailbox"
    AUDIT_LOG = "AuditLog"
    POLICY_SET = "PolicySet"
    SERVER = "Server"


RESOURCE_OF: Final[Mapping[Action, ResourceKind]] = MappingProxyType(
    {
        Action.SESSION_OPEN: ResourceKind.ACCOUNT,
        Action.DEVICE_ENROLL: ResourceKind.ACCOUNT,
        Action.DEVICE_REVOKE: ResourceKind.ACCOUNT,
        Action.DEVICE_LIST: ResourceKind.ACCOUNT,
        Action.PREKEY_PUBLISH: ResourceKind.ACCOUNT,
        Action.PREKEY_FETCH: ResourceKind.ACCOUNT,
        Action.PREKEY_COUNT: ResourceKind.ACCOUNT,
        Action.MESSAGE_SEND: ResourceKind.ACCOUNT,
        Action.MESSAGE_RECEIVE: ResourceKind.MAILBOX,
        Action.MESSAGE_ACK: ResourceKind.MAILBOX,
        Action.AUDIT_QUERY: ResourceKind.AUDIT_LOG,
        Action.AUDIT_VERIFY: ResourceKind.AUDIT_LOG,
        Action.AUDIT_EXPORT: ResourceKind.AUDIT_LOG,
        Action.POLICY_VIEW: ResourceKind.POLICY_SET,
        Action.POLICY_DECIDE: ResourceKind.POLICY_SET,
        Action.SERVICE_METRICS: ResourceKind.SERVER,
    }
)  # the one kind of resource that each action is done to; a request with another kind is refused


class AccountStatus(StrEnum):
    """Whether an account may act."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


class PrincipalKind(StrEnum):
    """What stands behind a principal."""

    USER = "user"  # a person or a bot with an account, devices and a mailbox
    SERVICE = "service"  # a server's key: no account, no mailbox


class Purpose(StrEnum):
    """Why something is asked for (HL7 PurposeOfUse TREAT, ETREAT, HPAYMT, HOPERAT, PATRQT)."""

    TREATMENT = "treatment"
    EMERGENCY = "emergency"
    PAYMENT = "payment"
    OPERATIONS = "operations"
    PATIENT_REQUEST = "patient-request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who asks. ``roles`` are the assigned ones; what they inherit is added by the policy set's roles."""

    user: UserId
    org: OrgId
    roles: frozenset[str]
    status: AccountStatus = AccountStatus.ACTIVE
    kind: PrincipalKind = PrincipalKind.USER


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """What it is done to. ``subject`` is the account's user or the mailbox's owner, None for everything else.

    ``patient`` and ``status`` describe an account (it belongs to a patient; it is active) and say nothing
    elsewhere.
    """

    kind: ResourceKind
    id: str
    org: OrgId
    subject: UserId | None = None
    patient: bool = False
    status: AccountStatus = AccountStatus.ACTIVE


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The circumstances. Whoever does not know a fact gives the answer that permits less."""

    now_ms: int  # UTC, milliseconds since 1970; rules see it in whole minutes, rounded down
    hour: int  # 0-23, in the organisation's time zone
    mfa: bool  # the session began with a second factor
    device_trusted: bool  # the device is managed by the organisation
    on_site: bool  # the request comes from the organisation's premises
    purpose: Purpose = Purpose.TREATMENT


@dataclass(frozen=True, slots=True)
class Request:
    """One question: may ``principal`` do ``action`` to ``resource`` in ``context``?"""

    principal: Principal
    action: Action
    resource: Resource
    context: Context


@dataclass(frozen=True, slots=True)
class Decision:
    """The answer, and what it rests on.

    ``policy_ids`` are the rules that decided, in the order of the policy files: every satisfied permit of an
    allow, every satisfied forbid of a deny, none when nothing permits. ``reason`` is the first of them, or
    one of ``RESERVED_REASONS``. ``policy_set`` is the SHA-256 of the policy tree in hexadecimal. ``errors``
    are fixed texts without names or contents; a decision with errors is always a deny.
    """

    allowed: bool
    policy_ids: tuple[str, ...]
    policy_set: str
    reason: str
    errors: tuple[str, ...] = ()
