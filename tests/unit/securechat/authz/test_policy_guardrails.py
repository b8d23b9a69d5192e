"""A guardrail must forbid, not only carry its name."""

import re
from collections.abc import Callable, Mapping

import pytest

from securechat.authz.decision import DecisionPoint
from securechat.authz.guardrails import GUARDRAILS, weak_guardrails
from securechat.authz.lint import GUARDRAIL_FILE, check_tree
from securechat.authz.problems import InvalidPolicyTreeError, Problem
from securechat.authz.tree import PolicyTree

Change = Callable[[Mapping[str, str]], PolicyTree]

NAMES = [name for name, _ in GUARDRAILS]
WITHOUT_CASES = dict.fromkeys(("cases/care.yaml", "cases/keys.yaml", "cases/office.yaml"), "")


def weak(tree: PolicyTree) -> tuple[Problem, ...]:
    point = DecisionPoint(check_tree(tree))
    return weak_guardrails(point.policies, point.roles, point.decide)


def edited(shipped: PolicyTree, name: str, edit: Callable[[str], str]) -> dict[str, str]:
    """Return the guardrail file with the policy ``name`` changed by ``edit``, and no cases."""
    text = shipped.text(GUARDRAIL_FILE) or ""
    start = text.index(f'@id("{name}")')
    end = text.index(";\n", start)
    return {**WITHOUT_CASES, GUARDRAIL_FILE: text[:start] + edit(text[start:end]) + text[end:]}


def test_the_shipped_guardrails_hold(shipped: PolicyTree) -> None:
    assert weak(shipped) == ()


@pytest.mark.parametrize("name", NAMES)
def test_a_guardrail_without_effect_is_refused_though_no_case_asks(
    shipped: PolicyTree, changed: Change, name: str
) -> None:
    tree = changed(edited(shipped, name, lambda text: text + " when { context.hour > 23 }"))
    with pytest.raises(InvalidPolicyTreeError) as caught:
        DecisionPoint.from_tree(tree)
    (problem,) = caught.value.problems
    lines = (tree.text(GUARDRAIL_FILE) or "").split("\n")
    assert lines[problem.line - 1] == f'@id("{name}")'
    assert problem.reason.startswith(f"[{name}] does not forbid")


@pytest.mark.parametrize("name", ["guard-suspended", "guard-organisation"])
def test_a_guardrail_narrowed_to_some_actions_is_refused(
    shipped: PolicyTree, changed: Change, name: str
) -> None:
    narrow = edited(shipped, name, lambda text: text.replace("action,", 'action in Action::"reach",'))
    assert [problem.reason.split("]")[0] for problem in weak(changed(narrow))] == [f"[{name}"]


@pytest.mark.parametrize("name", NAMES)
def test_a_guardrail_may_forbid_more(shipped: PolicyTree, changed: Change, name: str) -> None:
    def widen(text: str) -> str:
        return re.split(r"\n(?:when|unless) ", text)[0]

    assert weak(changed(edited(shipped, name, widen))) == ()
