"""The shipped rules against a plain table of what they are meant to say, over random requests."""

from typing import cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securechat.authz.decision import DecisionPoint
from securechat.authz.model import (
    RESOURCE_OF,
    AccountStatus,
    Action,
    Context,
    Principal,
    PrincipalKind,
    Purpose,
    Request,
    Resource,
    ResourceKind,
)
from securechat.ids import OrgId, UserId

STAFF = frozenset({"clinician", "nurse", "care-coordinator", "compliance-officer", "admin", "bot"})
ASSIGNED = STAFF | {"patient", "service"}
REACH = {Action.MESSAGE_SEND, Action.PREKEY_FETCH, Action.DEVICE_LIST}
OWN_ACCOUNT = {
    Action.SESSION_OPEN,
    Action.DEVICE_ENROLL,
    Action.DEVICE_REVOKE,
    Action.DEVICE_LIST,
    Action.PREKEY_PUBLISH,
    Action.PREKEY_COUNT,
}

users = st.sampled_from(["", "ann", "bob", "Bob", 'x"}', "\ud800", "self", "other", "own", "it"]).map(UserId)
orgs = st.sampled_from(["", "sunrise", "harbour", "own", "other"]).map(OrgId)
known_roles = st.frozensets(st.sampled_from(sorted(ASSIGNED)), max_size=3)
odd_roles = st.frozensets(st.sampled_from(["member", "staff", "", "Admin", "admin ", '"', "\ud800", "admin"]))


def odd(words: type[AccountStatus] | type[PrincipalKind] | type[Purpose]) -> st.SearchStrategy[str]:
    """Mostly a word of the enumeration, sometimes what no parser should have let through."""
    good = st.sampled_from(list(words))
    return st.one_of(good, good, good, st.sampled_from(["", "Active", "active ", "retired", "\ud800", '"']))


principals = st.builds(
    Principal,
    user=users,
    org=orgs,
    roles=st.one_of(known_roles, known_roles, known_roles, odd_roles),
    status=odd(AccountStatus).map(lambda word: cast(AccountStatus, word)),
    kind=odd(PrincipalKind).map(lambda word: cast(PrincipalKind, word)),
)
contexts = st.builds(
    Context,
    now_ms=st.one_of(st.just(1_767_607_200_000), st.integers(-(2**70), 2**70)),
    hour=st.one_of(st.integers(0, 23), st.integers(-(2**65), 2**65)),
    mfa=st.booleans(),
    device_trusted=st.booleans(),
    on_site=st.booleans(),
    purpose=odd(Purpose).map(lambda word: cast(Purpose, word)),
)


@st.composite
def requests(draw: st.DrawFn) -> Request:
    principal = draw(principals)
    action = draw(st.sampled_from(list(Action)))
    right_kind = draw(st.integers(0, 9)) > 0
    resource = Resource(
        kind=RESOURCE_OF[action] if right_kind else draw(st.sampled_from(list(ResourceKind))),
        id=draw(users),
        org=draw(st.one_of(st.just(principal.org), orgs)),
        subject=draw(st.one_of(st.none(), users, st.just(principal.user))),
        patient=draw(st.booleans()),
        status=cast(AccountStatus, draw(odd(AccountStatus))),
    )
    return Request(principal, action, resource, draw(contexts))


def is_sound(request: Request) -> bool:
    """Tell whether every word of the request is one that the rules know."""
    who, what, context = request.principal, request.resource, request.context
    return (
        what.kind is RESOURCE_OF[request.action]
        and who.roles <= ASSIGNED
        and who.status in list(AccountStatus)
        and who.kind in list(PrincipalKind)
        and (what.kind is not ResourceKind.ACCOUNT or what.status in list(AccountStatus))
        and (what.kind is not ResourceKind.MAILBOX or what.subject is not None)
        and context.purpose in list(Purpose)
        and 0 <= context.hour <= 23
    )


def table(request: Request) -> bool:
    """Say what the rules are meant to permit, without the engine, the roles file or the policies."""
    who, what, action = request.principal, request.resource, request.action
    patient, staff = "patient" in who.roles, bool(who.roles & STAFF)
    own = what.subject is not None and what.subject == who.user != ""
    officer, admin = "compliance-officer" in who.roles, "admin" in who.roles
    excluded = (patient and staff) or (officer and admin) or ("service" in who.roles and (patient or staff))
    if not is_sound(request) or excluded or who.status != "active" or who.org != what.org or who.org == "":
        return False
    if action is Action.SERVICE_METRICS:
        return admin or ("service" in who.roles and who.kind == "service")
    if who.kind == "service" or not (patient or staff):
        return False
    match what.kind:
        case ResourceKind.MAILBOX:
            return own
        case ResourceKind.AUDIT_LOG if action is Action.AUDIT_VERIFY:
            return admin or (officer and request.context.mfa)
        case ResourceKind.AUDIT_LOG:
            return (
                officer
                and request.context.mfa
                and (action is Action.AUDIT_QUERY or request.context.device_trusted)
            )
        case ResourceKind.POLICY_SET:
            return action is Action.POLICY_DECIDE or officer or admin
    if action in OWN_ACCOUNT and own:
        return True
    awake = action is Action.DEVICE_LIST or what.status == "active"
    return action in REACH and awake and (own or staff or not what.patient)


@settings(max_examples=1500, deadline=None)
@given(request=requests())
def test_the_rules_permit_exactly_what_the_table_permits(point: DecisionPoint, request: Request) -> None:
    decision = point.decide(request)
    assert decision.allowed is table(request)
    assert not (decision.allowed and decision.errors)
    assert decision.policy_set == point.policy_set


@settings(max_examples=400, deadline=None)
@given(request=requests().filter(lambda request: not is_sound(request)))
def test_what_no_rule_understands_is_refused_as_an_error(point: DecisionPoint, request: Request) -> None:
    decision = point.decide(request)
    assert not decision.allowed
    assert decision.policy_ids == ()
    assert decision.reason in {"policy-error", "role-conflict"}


@pytest.mark.parametrize("name", ["ann", 'x"}', "\ud800", "self"])
def test_no_id_from_outside_appears_in_an_answer(point: DecisionPoint, name: str) -> None:
    who = Principal(user=UserId(name), org=OrgId(name), roles=frozenset({name}))
    what = Resource(kind=ResourceKind.MAILBOX, id=name, org=OrgId(name))
    context = Context(now_ms=0, hour=0, mfa=False, device_trusted=False, on_site=False)
    answer = point.decide(Request(who, Action.MESSAGE_ACK, what, context))
    assert answer.errors == ("the principal holds a role that the policy set does not assign",)
