"""What a decision depends on: a request reduced to the facts that a rule can tell apart.

Rules speak of roles and relations, never of one person or organisation (the lint refuses such a rule), and
Cedar compares ids only for equality. So it is enough to know whether the resource is one's own and lies in
one's own organisation: two requests with the same profile get the same decision from the same policy set. No
id from outside reaches the engine.
"""

from typing import Final, NamedTuple

from securechat.authz.model import AccountStatus, Action, PrincipalKind, Purpose, Request

MINUTE_MS: Final = 60_000


class Profile(NamedTuple):
    """The key of a decision within one policy set."""

    action: Action
    roles: frozenset[str]  # as assigned
    principal_status: AccountStatus
    principal_kind: PrincipalKind
    same_org: bool
    has_subject: bool
    own: bool  # the subject is the principal
    patient: bool
    status: AccountStatus
    hour: int
    mfa: bool
    device_trusted: bool
    on_site: bool
    purpose: Purpose
    minute: int  # since 1970, rounded down; 0 if no rule for the action reads the clock


def profile_of(request: Request, *, timed: bool) -> Profile:
    """Return the profile of ``request``; ``timed`` tells whether a rule for its action reads the clock.

    An empty id equals nothing, not even another empty id.
    """
    who, what, context = request.principal, request.resource, request.context
    return Profile(
        request.action,
        who.roles,
        who.status,
        who.kind,
        who.org == what.org and who.org != "",
        what.subject is not None,
        what.subject == who.user and who.user != "",
        what.patient,
        what.status,
        context.hour,
        context.mfa,
        context.device_trusted,
        context.on_site,
        context.purpose,
        context.now_ms // MINUTE_MS if timed else 0,
    )
