"""What happened, as a producer states it: enumerations and opaque tags only.

Free text cannot be expressed. Every tag is 1 to 128 characters of ``A-Z a-z 0-9 _ . : / -``; a name, a
message or a medical record number has no field to go into. Validity is checked once, here.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from audit.catalogue import EventType
from audit.errors import EventError

MAX_INT: Final = 2**53 - 1  # the largest integer that every JSON reader holds exactly (RFC 8785, 3.2.2.3)
MAX_POLICY_IDS: Final = 32
MAX_ROLES: Final = 16

_is_tag = re.compile(r"[A-Za-z0-9_.:/\-]{1,128}\Z").match
_is_identifier = re.compile(r"[a-z][a-z0-9_.\-]{0,63}\Z").match
_is_uuid7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z").match


class Outcome(StrEnum):
    """How the act ended."""

    OK = "ok"
    DENY = "deny"
    ERROR = "error"


class ActorKind(StrEnum):
    """What acted. ``anonymous`` is a request whose sender could not be established."""

    USER = "user"
    SERVICE = "service"
    SYSTEM = "system"
    ANONYMOUS = "anonymous"


class Purpose(StrEnum):
    """Purpose of use, from HL7 v3 ActReason."""

    TREATMENT = "TREAT"
    EMERGENCY_TREATMENT = "ETREAT"
    BREAK_THE_GLASS = "BTG"
    PAYMENT = "HPAYMT"
    OPERATIONS = "HOPERAT"
    CARE_MANAGEMENT = "CAREMGT"
    COORDINATION_OF_CARE = "COC"
    PATIENT_REQUEST = "PATRQT"
    PATIENT_ADMINISTRATION = "PATADMIN"
    PUBLIC_HEALTH = "PUBHLTH"
    RESEARCH = "HRESCH"
    LEGAL = "HLEGAL"
    COMPLIANCE = "HCOMPL"
    SYSTEM_ADMINISTRATION = "HSYSADMIN"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acted: an opaque id, and what is known of the session.

    ``roles`` are sorted and distinct, at most 16; ``mfa`` is None when it does not apply.
    """

    id: str
    kind: ActorKind = ActorKind.USER
    roles: tuple[str, ...] = ()
    device: str | None = None
    session: str | None = None
    mfa: bool | None = None
    on_behalf: str | None = None

    def __post_init__(self) -> None:
        require_tag("actor.id", self.id)
        _require_tags("actor.roles", self.roles, MAX_ROLES)
        if list(self.roles) != sorted(set(self.roles)):
            raise EventError("actor.roles must be sorted and distinct")
        _optional_tag("actor.device", self.device)
        _optional_tag("actor.session", self.session)
        _optional_tag("actor.on_behalf", self.on_behalf)


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """What was acted on: a kind such as ``mailbox`` and an opaque id."""

    kind: str
    id: str

    def __post_init__(self) -> None:
        if not _is_identifier(self.kind):
            raise EventError("object.kind is no identifier of 1 to 64 lower-case characters")
        require_tag("object.id", self.id)


@dataclass(frozen=True, slots=True)
class PolicyRef:
    """The policy set that decided (hash or prefix), and the ids of the deciding policies, at most 32."""

    set_hash: str
    ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        require_tag("policy.set", self.set_hash)
        _require_tags("policy.ids", self.ids, MAX_POLICY_IDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One act, before the log gives it a place.

    ``id`` is the producer's UUIDv7: a retry with the same id is not a second entry. ``patient`` is a
    pseudonymous tag. ``te`` is the producer's clock in microseconds since 1970, where it is not the log's.
    ``n`` counts equal acts that are told as one. ``node`` is filled in by the log when it is None.
    """

    id: str
    type: EventType
    outcome: Outcome
    actor: Actor
    reason: str | None = None
    object: ObjectRef | None = None
    patient: str | None = None
    org: str | None = None
    site: str | None = None
    purpose: Purpose | None = None
    grant: str | None = None
    policy: PolicyRef | None = None
    node: str | None = None
    request_id: str | None = None
    n: int = 1
    te: int | None = None

    def __post_init__(self) -> None:
        if not _is_uuid7(self.id):
            raise EventError("id is no lower-case UUID of version 7")
        if self.reason is not None and not _is_identifier(self.reason):
            raise EventError("reason is no identifier of 1 to 64 lower-case characters")
        _optional_tag("patient", self.patient)
        _optional_tag("org", self.org)
        _optional_tag("site", self.site)
        _optional_tag("grant", self.grant)
        _optional_tag("node", self.node)
        _optional_tag("req", self.request_id)
        if not 1 <= self.n <= MAX_INT:
            raise EventError(f"n is not within 1 and {MAX_INT}")
        if self.te is not None:
            require_time("te", self.te)


def uuid7(now_ms: int, random_bytes: Callable[[int], bytes]) -> str:
    """Return a UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then 74 of ``random_bytes(10)``."""
    value = (now_ms & (2**48 - 1)) << 80 | int.from_bytes(random_bytes(10))
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0b11 << 62) | 0b10 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def require_tag(field: str, value: str) -> None:
    """Raise EventError unless ``value`` is an opaque tag."""
    if not _is_tag(value):
        raise EventError(f"{field} is no tag of 1 to 128 characters of A-Z a-z 0-9 _ . : / -")


def require_time(field: str, value: int) -> None:
    """Raise EventError unless ``value`` is a number of microseconds since 1970 that JSON holds exactly."""
    if not 0 <= value <= MAX_INT:
        raise EventError(f"{field} is not within 0 and {MAX_INT} microseconds")


def _optional_tag(field: str, value: str | None) -> None:
    if value is not None and not _is_tag(value):
        require_tag(field, value)


def _require_tags(field: str, values: tuple[str, ...], most: int) -> None:
    if len(values) > most:
        raise EventError(f"{field} has {len(values)} items, more than {most}")
    for value in values:
        require_tag(field, value)
