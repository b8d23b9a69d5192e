"""Decision cases: how they are read, run and refused."""

from collections.abc import Callable, Mapping

import pytest

from securechat.authz.cases import USUAL, read_cases, run_cases
from securechat.authz.decision import DecisionPoint
from securechat.authz.model import AccountStatus, Action, PrincipalKind, Purpose, ResourceKind
from securechat.authz.problems import InvalidPolicyTreeError, Problem
from securechat.authz.tree import PolicyTree

Change = Callable[[Mapping[str, str]], PolicyTree]

FILE = "cases/extra.yaml"
PEOPLE = """people:
  pat: {org: sunrise, roles: [patient], status: suspended}
  ned: {org: sunrise, roles: [nurse]}
  key: {org: sunrise, roles: [service], kind: service}
cases:
"""
GOOD = "  - {who: ned, does: message.send, to: account of ned, expect: allow, by: reach-staff}\n"


def test_a_case_reads_as_the_request_that_it_says(point: DecisionPoint, changed: Change) -> None:
    text = PEOPLE + (
        "  - {who: ned, does: message.send, to: account of pat, expect: deny, by: recipient-suspended,\n"
        "     with: {mfa: false, device_trusted: false, on_site: false, hour: 3, purpose: emergency,"
        " now: 2026-01-05T10:00:01Z}}\n"
        "  - {who: key, does: service.metrics, to: server of harbour, expect: deny, by: guard-organisation}\n"
    )
    cases, problems = read_cases(changed({FILE: text}), point.roles)
    assert problems == ()
    first, second = (case for case in cases if case.file == FILE)
    assert (first.line, second.line, first.allowed) == (6, 8, False)
    assert first.request.action is Action.MESSAGE_SEND
    assert first.request.resource.subject == "pat"
    assert first.request.resource.patient
    assert first.request.resource.status is AccountStatus.SUSPENDED
    assert first.request.context.now_ms == USUAL.now_ms + 1000
    assert first.request.context.purpose is Purpose.EMERGENCY
    assert (first.request.context.hour, first.request.context.mfa) == (3, False)
    assert second.request.principal.kind is PrincipalKind.SERVICE
    assert second.request.resource.kind is ResourceKind.SERVER
    assert second.request.resource.org == "harbour"


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("{who: bob, does: message.send, to: account of ned, expect: allow, by: x}", "'bob' is not one of"),
        (
            "{who: ned, does: message.sned, to: account of ned, expect: allow, by: x}",
            "'message.sned' is not one of",
        ),
        ("{who: ned, does: message.send, to: account of bob, expect: allow, by: x}", "KIND of NAME"),
        ("{who: ned, does: message.send, to: house of ned, expect: allow, by: x}", "KIND of NAME"),
        ("{who: ned, does: message.send, to: account, expect: allow, by: x}", "KIND of NAME"),
        (
            "{who: ned, does: message.send, to: account of ned, expect: permit, by: x}",
            "'permit' is not one of",
        ),
        ("{who: ned, does: message.send, to: account of ned, expect: allow}", "'by' is missing"),
        ("{who: ned, does: message.send, on: account of ned, expect: allow, by: x}", "unknown field 'on'"),
        ("{who: ned, does: audit.query, to: audit-log of x, with: {mfa: yes}, expect: deny, by: x}", "'yes'"),
        (
            "{who: ned, does: audit.query, to: audit-log of x, with: {hour: 24}, expect: deny, by: x}",
            "0 to 23",
        ),
        (
            "{who: ned, does: audit.query, to: audit-log of x, with: {now: today}, expect: deny, by: x}",
            "a time",
        ),
        ("{who: ned, does: audit.query, to: audit-log of x, with: {mood: x}, expect: deny, by: x}", "'mood'"),
        ("just text", "a mapping is expected"),
    ],
)
def test_a_case_that_does_not_read_is_a_problem_on_its_line(changed: Change, case: str, reason: str) -> None:
    tree = changed({FILE: PEOPLE + GOOD + f"  - {case}\n"})
    with pytest.raises(InvalidPolicyTreeError) as caught:
        DecisionPoint.from_tree(tree)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (FILE, 7)
    assert reason in problem.reason


@pytest.mark.parametrize(
    "text",
    [
        "people: {}\n",
        "cases: []\n",
        "people: {ned: {org: o}}\ncases: []\n",
        "people: {'n d': {org: o, roles: []}}\ncases: []\n",
        "people: {ned: {org: o, roles: [], status: dead}}\ncases: []\n",
        "people: {ned: {org: '', roles: []}}\ncases: []\n",
        "people: {}\ncases: {}\n",
    ],
)
def test_a_file_of_cases_that_does_not_read_is_refused(changed: Change, text: str) -> None:
    with pytest.raises(InvalidPolicyTreeError) as caught:
        DecisionPoint.from_tree(changed({FILE: text}))
    assert {problem.file for problem in caught.value.problems} == {FILE}


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (
            "to: account of ned, expect: deny, by: default-deny",
            "expected deny by default-deny, the policies say allow by",
        ),
        (
            "to: account of ned, expect: allow, by: reach-patients",
            "the policies say allow by reach-staff, reach-oneself",
        ),
        (
            "to: account of pat, expect: allow, by: reach-patients",
            "the policies say deny by recipient-suspended",
        ),
        ("to: mailbox of ned, expect: deny, by: default-deny", "the policies say deny by policy-error"),
    ],
)
def test_a_tree_is_refused_when_a_case_does_not_hold(changed: Change, case: str, reason: str) -> None:
    tree = changed({FILE: PEOPLE + GOOD + f"  - {{who: ned, does: message.send, {case}}}\n"})
    with pytest.raises(InvalidPolicyTreeError) as caught:
        DecisionPoint.from_tree(tree)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (FILE, 7)
    assert reason in problem.reason


def test_a_changed_rule_fails_the_cases_that_it_breaks(shipped: PolicyTree, changed: Change) -> None:
    care = (shipped.text("policies/10-care.cedar") or "").replace(
        'principal in Role::"staff"', 'principal in Role::"nurse"'
    )
    with pytest.raises(InvalidPolicyTreeError) as caught:
        DecisionPoint.from_tree(changed({"policies/10-care.cedar": care}))
    assert {problem.file for problem in caught.value.problems} == {"cases/care.yaml"}
    assert all("reach-patients" in problem.reason for problem in caught.value.problems)


def test_the_report_counts_and_names_the_rules_that_no_case_reached(
    point: DecisionPoint, changed: Change
) -> None:
    none: dict[str, str] = dict.fromkeys(("cases/care.yaml", "cases/keys.yaml", "cases/office.yaml"), "")
    tree = changed({**none, FILE: PEOPLE + GOOD})
    report = run_cases(tree, point.roles, ["reach-staff", "reach-oneself", "keys-own"], point.decide)
    assert (report.passed, report.problems, report.uncovered) == (1, (), ("keys-own",))


def test_a_problem_prints_as_file_line_and_reason() -> None:
    assert str(Problem("cases/a.yaml", 7, "wrong")) == "cases/a.yaml:7: wrong"
