"""What no policy set may open, asked of the set itself: a guardrail must forbid, not only carry its name.

Each guardrail has situations in which it must be among the policies that decide. They are samples (every
action, every role, two sets of circumstances), enough that a guardrail emptied or narrowed by mistake is
found.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from securechat.authz.cases import PATIENT_ROLE, USUAL, Decide
from securechat.authz.engine import Policy
from securechat.authz.model import (
    RESOURCE_OF,
    AccountStatus,
    Action,
    Principal,
    PrincipalKind,
    Request,
    Resource,
    ResourceKind,
)
from securechat.authz.problems import Problem
from securechat.authz.roles import RoleBook
from securechat.ids import OrgId, UserId

COMPLIANCE_ROLE: Final = "compliance-officer"

Applies = Callable[[Request], bool]

_UNUSUAL: Final = replace(USUAL, hour=3, mfa=False, device_trusted=False, on_site=False)
_OWN_ACTIONS: Final = frozenset(
    {
        Action.SESSION_OPEN,
        Action.DEVICE_ENROLL,
        Action.DEVICE_REVOKE,
        Action.PREKEY_PUBLISH,
        Action.PREKEY_COUNT,
    }
)
_REACH: Final = frozenset({Action.MESSAGE_SEND, Action.PREKEY_FETCH, Action.DEVICE_LIST})
_READS_AUDIT: Final = frozenset({Action.AUDIT_QUERY, Action.AUDIT_EXPORT})

GUARDRAILS: Final[tuple[tuple[str, Applies], ...]] = (
    ("guard-suspended", lambda request: request.principal.status is not AccountStatus.ACTIVE),
    ("guard-organisation", lambda request: request.resource.org != request.principal.org),
    (
        "guard-mailbox-owner",
        lambda request: request.resource.kind is ResourceKind.MAILBOX and not _is_own(request),
    ),
    ("guard-own-keys", lambda request: request.action in _OWN_ACTIONS and not _is_own(request)),
    (
        "guard-patient-to-patient",
        lambda request: (
            request.action in _REACH
            and PATIENT_ROLE in request.principal.roles
            and request.resource.patient
            and not _is_own(request)
        ),
    ),
    (
        "guard-audit-patients",
        lambda request: (
            request.resource.kind is ResourceKind.AUDIT_LOG and PATIENT_ROLE in request.principal.roles
        ),
    ),
    (
        "guard-audit-readers",
        lambda request: (
            request.action in _READS_AUDIT
            and not (COMPLIANCE_ROLE in request.principal.roles and request.context.mfa)
        ),
    ),
    (
        "guard-audit-export",
        lambda request: request.action is Action.AUDIT_EXPORT and not request.context.device_trusted,
    ),
    (
        "guard-service",
        lambda request: (
            request.principal.kind is PrincipalKind.SERVICE and request.action is not Action.SERVICE_METRICS
        ),
    ),
)  # id and the requests that it must forbid, in the order of the shipped file


def weak_guardrails(policies: Iterable[Policy], roles: RoleBook, decide: Decide) -> tuple[Problem, ...]:
    """Return a problem for every guardrail that does not forbid a situation that it must forbid."""
    missed: dict[str, str] = {}
    for request in _situations(roles):
        must = [name for name, applies in GUARDRAILS if name not in missed and applies(request)]
        decided = decide(request).policy_ids if must else ()
        missed.update((name, request.action.value) for name in must if name not in decided)
    return tuple(
        Problem(policy.source.file, policy.source.first, _weakness(policy.id, missed[policy.id]))
        for policy in policies
        if policy.id in missed
    )


def _weakness(name: str, action: str) -> str:
    return f"[{name}] does not forbid {action!r} in every situation that it is there for"


def _is_own(request: Request) -> bool:
    return request.resource.subject == request.principal.user


def _situations(roles: RoleBook) -> Iterator[Request]:
    """Yield requests that differ from an ordinary one in one respect or in none."""
    for role in roles.roles.values():
        if role.assignable:
            for action in Action:
                yield from _variants(role.name, action)


def _variants(role: str, action: Action) -> Iterator[Request]:
    who = Principal(user=UserId("self"), org=OrgId("own"), roles=frozenset({role}))
    kind = RESOURCE_OF[action]
    own = Resource(kind=kind, id="it", org=OrgId("own"), subject=UserId("self"))
    yield Request(replace(who, status=AccountStatus.SUSPENDED), action, own, USUAL)
    yield Request(replace(who, kind=PrincipalKind.SERVICE), action, own, USUAL)
    yield Request(who, action, replace(own, org=OrgId("other")), USUAL)
    for context in (USUAL, _UNUSUAL):
        yield Request(who, action, replace(own, subject=UserId("other"), patient=True), context)
