"""What the shipped rules mean, said in sentences, and what a decision tells about itself."""

from dataclasses import replace

import pytest

from securechat.authz.cases import USUAL
from securechat.authz.decision import DecisionPoint
from securechat.authz.model import (
    RESOURCE_OF,
    AccountStatus,
    Action,
    Decision,
    Principal,
    PrincipalKind,
    Request,
    Resource,
)
from securechat.authz.tree import PolicyTree
from securechat.ids import OrgId, UserId

ORG = OrgId("sunrise")


def person(name: str, *roles: str, org: OrgId = ORG) -> Principal:
    return Principal(user=UserId(name), org=org, roles=frozenset(roles))


def of(owner: Principal, action: Action) -> Resource:
    return Resource(
        kind=RESOURCE_OF[action],
        id=owner.user,
        org=owner.org,
        subject=owner.user,
        patient="patient" in owner.roles,
        status=owner.status,
    )


PAT = person("pat", "patient")
QUINN = person("quinn", "patient")
LEE = person("dr-lee", "clinician")
NED = person("ned", "nurse")
OLGA = person("olga", "compliance-officer")
ROOT = person("root", "admin")
EVE = person("eve", "clinician", org=OrgId("harbour"))


def ask(point: DecisionPoint, who: Principal, action: Action, owner: Principal) -> Decision:
    return point.decide(Request(who, action, of(owner, action), USUAL))


@pytest.mark.parametrize("action", [Action.MESSAGE_SEND, Action.PREKEY_FETCH, Action.DEVICE_LIST])
def test_patients_and_staff_reach_each_other_but_patients_do_not_reach_patients(
    point: DecisionPoint, action: Action
) -> None:
    assert ask(point, PAT, action, LEE).policy_ids == ("reach-staff",)
    assert ask(point, LEE, action, PAT).policy_ids == ("reach-patients",)
    assert ask(point, NED, action, LEE).allowed
    assert ask(point, PAT, action, QUINN).reason == "guard-patient-to-patient"


@pytest.mark.parametrize("action", [Action.MESSAGE_RECEIVE, Action.MESSAGE_ACK])
def test_a_mailbox_opens_for_its_owner_alone(point: DecisionPoint, action: Action) -> None:
    for who in (PAT, LEE, OLGA, ROOT):
        for owner in (PAT, LEE, OLGA, ROOT):
            assert ask(point, who, action, owner).allowed is (who == owner)


def test_a_compliance_officer_queries_the_log_only_with_a_second_factor(point: DecisionPoint) -> None:
    request = Request(OLGA, Action.AUDIT_QUERY, of(OLGA, Action.AUDIT_QUERY), USUAL)
    assert point.decide(request).reason == "compliance-audit"
    weak = replace(request, context=replace(USUAL, mfa=False))
    assert point.decide(weak).reason == "guard-audit-readers"


def test_an_administrator_verifies_the_log_and_does_not_read_it(point: DecisionPoint) -> None:
    assert ask(point, ROOT, Action.AUDIT_VERIFY, ROOT).allowed
    assert not ask(point, ROOT, Action.AUDIT_QUERY, ROOT).allowed
    assert not ask(point, ROOT, Action.AUDIT_EXPORT, ROOT).allowed


def test_a_patient_is_refused_the_audit_log_by_a_rule_that_says_so(point: DecisionPoint) -> None:
    decision = ask(point, PAT, Action.AUDIT_QUERY, LEE)
    assert decision.reason == "guard-audit-patients"
    assert decision.policy_ids == ("guard-audit-patients", "guard-audit-readers")
    assert point.note(decision.reason) == "Patients have no access to the audit log."


@pytest.mark.parametrize("action", list(Action))
def test_nothing_crosses_organisations(point: DecisionPoint, action: Action) -> None:
    for who in (PAT, LEE, OLGA, ROOT):
        decision = ask(point, who, action, EVE)
        assert not decision.allowed
        assert "guard-organisation" in decision.policy_ids


@pytest.mark.parametrize("action", list(Action))
def test_a_suspended_account_does_nothing(point: DecisionPoint, action: Action) -> None:
    for who in (PAT, LEE, OLGA, ROOT):
        gone = replace(who, status=AccountStatus.SUSPENDED)
        decision = ask(point, gone, action, gone)
        assert not decision.allowed
        assert decision.reason == "guard-suspended"


@pytest.mark.parametrize("action", list(Action))
def test_without_a_role_nothing_is_permitted_and_no_rule_is_named(
    point: DecisionPoint, action: Action
) -> None:
    decision = ask(point, person("nobody"), action, person("nobody"))
    assert not decision.allowed
    assert not decision.errors
    if not action.startswith("audit."):
        assert (decision.policy_ids, decision.reason) == ((), "default-deny")


def test_a_server_key_has_no_account_and_no_person_is_a_server_key(point: DecisionPoint) -> None:
    key = replace(person("probe", "service"), kind=PrincipalKind.SERVICE)
    assert ask(point, key, Action.SERVICE_METRICS, ROOT).reason == "metrics-service"
    posing = person("poser", "service")
    assert not ask(point, posing, Action.SERVICE_METRICS, ROOT).allowed
    strong = replace(person("strong", "clinician", "nurse"), kind=PrincipalKind.SERVICE)
    for action in set(Action) - {Action.SERVICE_METRICS}:
        assert "guard-service" in ask(point, strong, action, strong).policy_ids


@pytest.mark.parametrize(
    "roles", [("patient", "clinician"), ("admin", "compliance-officer"), ("service", "bot")]
)
def test_roles_that_exclude_each_other_give_nothing(point: DecisionPoint, roles: tuple[str, ...]) -> None:
    both = person("both", *roles)
    for action in Action:
        decision = ask(point, both, action, both)
        assert (decision.allowed, decision.reason, decision.errors) == (False, "role-conflict", ())


def test_every_decision_names_the_policy_set(point: DecisionPoint, shipped: PolicyTree) -> None:
    for action in Action:
        assert ask(point, LEE, action, PAT).policy_set == shipped.digest()
    assert len(point.policy_set) == 64
    assert set(point.policy_set) <= set("0123456789abcdef")


def test_the_reason_is_the_first_deciding_rule_in_file_order(point: DecisionPoint) -> None:
    decision = ask(point, LEE, Action.MESSAGE_SEND, LEE)
    assert decision.policy_ids == ("reach-staff", "reach-oneself")
    assert decision.reason == "reach-staff"


def test_an_unknown_rule_has_no_note(point: DecisionPoint) -> None:
    assert point.note("default-deny") is None
