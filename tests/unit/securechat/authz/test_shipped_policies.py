"""The tree that a fresh server runs."""

from securechat.authz.cases import read_cases, run_cases
from securechat.authz.decision import DecisionPoint
from securechat.authz.engine import build_engine, parse_schema
from securechat.authz.guardrails import GUARDRAILS
from securechat.authz.model import RESERVED_REASONS, AccountStatus, Action, PrincipalKind, Purpose
from securechat.authz.tree import SCHEMA_FILES, PolicyTree
from securechat.cli.policy_files import DEFAULT_FOLDER


def test_every_case_holds_and_every_rule_decides_one(point: DecisionPoint, shipped: PolicyTree) -> None:
    report = run_cases(shipped, point.roles, [policy.id for policy in point.policies], point.decide)
    assert report.problems == ()
    assert report.uncovered == ()
    assert report.passed >= 70


def test_every_action_has_a_case_that_allows_and_one_that_denies(
    point: DecisionPoint, shipped: PolicyTree
) -> None:
    cases, _ = read_cases(shipped, point.roles)
    assert {case.request.action for case in cases if case.allowed} == set(Action)
    assert {case.request.action for case in cases if not case.allowed} >= set(Action) - {
        Action.DEVICE_LIST,
        Action.POLICY_VIEW,
    }


def test_the_guardrails_are_the_whole_first_file(point: DecisionPoint) -> None:
    first = [policy for policy in point.policies if policy.source.file == "policies/00-guardrails.cedar"]
    assert tuple(policy.id for policy in first) == tuple(name for name, _ in GUARDRAILS)
    assert not any(policy.permits for policy in first)


def test_no_role_is_left_without_a_description(point: DecisionPoint) -> None:
    for role in point.roles.roles.values():
        assert role.description


def test_an_action_is_decided_by_the_policies_whose_scope_names_it(point: DecisionPoint) -> None:
    for action in Action:
        ids = {policy.id for policy in point.policies_for(action)}
        assert {"guard-suspended", "guard-organisation"} <= ids
        assert ("guard-mailbox-owner" in ids) is action.startswith("message.") & (
            action is not Action.MESSAGE_SEND
        )
        assert ("keys-own" in ids) is action.startswith(("session.", "device.", "prekey.p", "prekey.c"))
        assert ("compliance-audit" in ids) is action.startswith("audit.")


def test_the_glossary_and_the_reference_name_everything(point: DecisionPoint) -> None:
    glossary = (DEFAULT_FOLDER / "README.md").read_text(encoding="utf-8")
    assert not [
        name for name in point.roles.roles if f"`{name}`" not in glossary and f"*{name}*" not in glossary
    ]
    assert not [action for action in Action if f"`{action}`" not in glossary]
    reference = (DEFAULT_FOLDER.parent / "docs/reference/policies.md").read_text(encoding="utf-8")
    words = [*AccountStatus, *PrincipalKind, *Purpose, *RESERVED_REASONS, *(name for name, _ in GUARDRAILS)]
    assert not [word for word in words if f"`{word}`" not in reference]


def test_slices_decide_as_the_whole_set_does(point: DecisionPoint, shipped: PolicyTree) -> None:
    schema = parse_schema("".join(text for _, text in shipped.matching(SCHEMA_FILES)))
    engine, problems = build_engine(schema, point.policies)
    assert problems == ()
    for action in Action:
        assert engine.policies_for(action) == point.policies_for(action)
