"""Every way in which a tree is refused, with the exact file and line."""

from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from securechat.authz.decision import DecisionPoint
from securechat.authz.guardrails import GUARDRAILS
from securechat.authz.lint import GUARDRAIL_FILE, format_tree, lint
from securechat.authz.locate import tokenize
from securechat.authz.problems import InvalidPolicyTreeError, Problem
from securechat.authz.tree import PolicyTree, policy_tree
from securechat.errors import PolicyError

Change = Callable[[Mapping[str, str]], PolicyTree]

EXTRA = "policies/50-extra.cedar"
SCHEMA = "schema/securechat.cedarschema"
RULE = """// a comment

@id("extra")
@note("An extra rule.")
permit (
  principal,
  action == Action::"message.send",
  resource
)
when {
  resource.patient &&
  FRAGMENT
};

@id("another")
@note("Right.")
permit (principal in Role::"staff", action == Action::"policy.view", resource);
"""


def only(tree: PolicyTree) -> Problem:
    (problem,) = lint(tree)
    return problem


def line_in(text: str, part: str) -> int:
    return text[: text.index(part)].count("\n") + 1


def test_the_shipped_tree_has_no_problem(shipped: PolicyTree) -> None:
    assert lint(shipped) == ()


@pytest.mark.parametrize(
    ("fragment", "reason"),
    [
        ("resource.org = principal.org", "'=' is not a valid operator"),
        ("resource.org == ", "unexpected token `}`"),
        ("nobody", "invalid variable: nobody"),
        ("resource.pateint", "attribute `pateint` on entity type `Account` not found"),
        ("context.mfaa", "attribute `mfaa` in context"),
        ("resource.patient == 3", "types Bool and Long are not compatible"),
        ("context.hour", "expected Bool but saw Long"),
        ("resource.subject == principal", "optional attribute `subject`"),
        ('principal in Role::"nurze"', '"nurze"` is not declared'),
        ('principal.status == AccountStatus::"actve"', '"actve"` is not declared'),
        ('principal.status == "active"', "types String and AccountStatus are not compatible"),
        ('context.purpose == Purpose::"fun"', '"fun"` is not declared'),
        ('action in Action::"message.snd"', "message.snd"),
        ("principal is Wizard", "unrecognized entity type `Wizard`"),
        ('principal == User::"ann"', "not of one User"),
        ('resource.org == Org::"sunrise"', "not of one Org"),
        ('resource == Account::"ann"', "not of one Account"),
        ('resource.status == "oops', "not closed on its line"),
        ("[1, 2, § ]", "unknown character"),
    ],
)
def test_a_fault_in_a_rule_is_named_with_its_file_and_line(
    changed: Change, fragment: str, reason: str
) -> None:
    text = RULE.replace("FRAGMENT", fragment)
    problem = only(changed({EXTRA: text}))
    closing = 1 if fragment.endswith("== ") else 0
    assert (problem.file, problem.line) == (EXTRA, line_in(text, fragment) + closing)
    assert reason in problem.reason
    assert str(problem) == f"{EXTRA}:{problem.line}: {problem.reason}"


def test_all_problems_are_told_at_once(changed: Change) -> None:
    text = RULE.replace("FRAGMENT", "resource.nope") + RULE.replace("FRAGMENT", "resource.org = 1")
    with pytest.raises(PolicyError) as caught:
        DecisionPoint.from_tree(changed({EXTRA: text}))
    assert isinstance(caught.value, InvalidPolicyTreeError)
    assert [problem.line for problem in caught.value.problems] == [12, 29, 32]
    assert str(caught.value).count("\n") == 2
    assert caught.value.code == "policy_invalid"


@pytest.mark.parametrize(
    ("annotations", "reason"),
    [
        ('@note("n")', "needs an @id"),
        ('@id @note("n")', "needs an @id"),
        ('@id("") @note("n")', "needs an @id"),
        ('@id("Not Plain") @note("n")', "needs an @id"),
        ('@id("x")', "needs a @note"),
        ('@id("x") @note(" ")', "needs a @note"),
        ('@id("default-deny") @note("n")', "reason of the server's own"),
        ('@id("policy-error") @note("n")', "reason of the server's own"),
        ('@id("reach-staff") @note("n")', "the same @id stands at policies/10-care.cedar:2"),
        ('@id("x") @id("y") @note("n")', "duplicate annotation"),
    ],
)
def test_id_and_note_are_mandatory_and_an_id_is_unique(
    changed: Change, annotations: str, reason: str
) -> None:
    problem = only(changed({EXTRA: f"\n\n{annotations}\nforbid (principal, action, resource);"}))
    assert (problem.file, problem.line) == (EXTRA, 3)
    assert reason in problem.reason


@pytest.mark.parametrize(
    "scope", ["principal == ?principal, action, resource", "principal, action, resource in ?resource"]
)
def test_templates_are_refused(changed: Change, scope: str) -> None:
    problem = only(changed({EXTRA: f'@id("x")\n@note("n")\npermit ({scope});'}))
    assert problem == Problem(EXTRA, 1, "templates (?principal, ?resource) are not used here")


NAMES = [name for name, _ in GUARDRAILS]


@pytest.mark.parametrize("name", NAMES)
def test_a_tree_without_a_guardrail_is_refused(shipped: PolicyTree, changed: Change, name: str) -> None:
    text = shipped.text(GUARDRAIL_FILE) or ""
    renamed = text.replace(f'@id("{name}")', '@id("something-else")')
    assert only(changed({GUARDRAIL_FILE: renamed})) == Problem(
        GUARDRAIL_FILE, 1, f"the guardrail {name} is missing"
    )


def test_a_guardrail_must_forbid_and_stay_in_its_file(shipped: PolicyTree, changed: Change) -> None:
    text = shipped.text(GUARDRAIL_FILE) or ""
    start = text.index('@id("guard-mailbox-owner")')
    end = text.index('@id("guard-own-keys")')
    permits = text[:start] + text[start:end].replace("forbid", "permit") + text[end:]
    problem = only(changed({GUARDRAIL_FILE: permits}))
    assert (problem.file, problem.line) == (GUARDRAIL_FILE, line_in(text, '@id("guard-mailbox-owner")'))
    moved = changed({GUARDRAIL_FILE: text[:start] + text[end:], EXTRA: text[start:end]})
    assert only(moved) == Problem(
        EXTRA, 1, f"[guard-mailbox-owner] a guardrail is a forbid in {GUARDRAIL_FILE}"
    )


@pytest.mark.parametrize(
    ("old", "new", "at", "reason"),
    [
        ("entity AuditLog =", "entity AuditLog = =", "entity AuditLog", "unexpected token `=`"),
        (
            "entity Org;",
            "entity Org; type Two = Long;\n\n\nentity Org;",
            "entity Org;\nentity User",
            "declared twice",
        ),
        ("resource: [Server]", "resource: [Servr]", "Servr", "Servr"),
        ('"audit.verify", ', "", "//", "the schema lacks the action 'audit.verify'"),
        (
            '"audit.verify"',
            '"audit.verify", "audit.burn"',
            "audit.burn",
            "the server knows no action 'audit.burn'",
        ),
        ('  "nurse",\n', "", "entity Role", "the schema lacks the Role 'nurse'"),
        ('  "nurse",', '  "nurse",\n  "wizard",', "wizard", "roles.yaml knows no Role 'wizard'"),
        (
            'enum ["active", "suspended"]',
            'enum ["active"]',
            "entity AccountStatus",
            "lacks the AccountStatus",
        ),
        (
            "entity Server = { org: Org };",
            "entity Server = { org: Org }; #",
            "entity Server",
            "unknown character",
        ),
    ],
)
def test_a_fault_in_the_schema_is_named_with_its_line(
    shipped: PolicyTree, changed: Change, old: str, new: str, at: str, reason: str
) -> None:
    text = shipped.text(SCHEMA) or ""
    assert old in text
    broken = text.replace(old, new, 1)
    found = lint(changed({SCHEMA: broken}))
    problem = next(problem for problem in found if reason in problem.reason)
    assert (problem.file, problem.line) == (SCHEMA, line_in(broken, at))


def test_roles_must_be_an_enumeration(shipped: PolicyTree, changed: Change) -> None:
    text = shipped.text(SCHEMA) or ""
    start, end = text.index("entity Role enum"), text.index("entity AccountStatus")
    found = lint(changed({SCHEMA: text[:start] + "entity Role;\n" + text[end:]}))
    assert (
        Problem(
            SCHEMA,
            line_in(text, "entity Role"),
            "the entity type Role must be an enumeration: entity Role enum [...]",
        )
        in found
    )


def test_an_action_must_be_done_to_the_kind_of_resource_that_the_server_gives(
    shipped: PolicyTree, changed: Change
) -> None:
    text = (shipped.text(SCHEMA) or "").replace("resource: [Server]", "resource: [Org]")
    metrics = '@id("m") @note("n") permit (principal, action == Action::"service.metrics", resource);'
    guardrails = "".join(
        f'@id("{name}") @note("n") forbid (principal, action, resource) when {{ context.hour > 90 }};\n'
        for name in NAMES
    )
    tree = policy_tree(
        {
            "roles.yaml": shipped.text("roles.yaml") or "",
            SCHEMA: text,
            GUARDRAIL_FILE: guardrails,
            EXTRA: metrics,
        }
    )
    line = line_in(text, 'action "service.metrics"')
    assert only(tree) == Problem(
        SCHEMA, line, "the schema does not let 'service.metrics' be done to a Server"
    )


def test_a_schema_in_several_files_keeps_its_lines(shipped: PolicyTree, changed: Change) -> None:
    more = changed({"schema/z-more.cedarschema": "// more\n\nentity Ward = { org: Orgg };\n"})
    assert [(problem.file, problem.line) for problem in lint(more)] == [("schema/z-more.cedarschema", 3)]
    assert lint(changed({"schema/z-more.cedarschema": "entity Ward = { org: Org };\n"})) == ()


def test_an_empty_schema_is_refused(changed: Change) -> None:
    assert "a schema has 1 to" in only(changed({SCHEMA: "// nothing\n"})).reason


def test_text_that_would_exhaust_the_parser_is_refused_before_it_is_parsed(changed: Change) -> None:
    for deep in ("(" * 5_000 + "true" + ")" * 5_000, "true" + " && true" * 5_000, "true" + " && true" * 300):
        assert lint(changed({EXTRA: RULE.replace("FRAGMENT", deep)}))
    assert lint(
        changed({"schema/z.cedarschema": "entity Z = { z: " + "Set<" * 5_000 + "Org" + ">" * 5_000 + " };"})
    )
    assert lint(changed({"schema/z.cedarschema": "entity Z; " * 3_000}))


WORDS = st.sampled_from(
    [token.text for token in tokenize(RULE)] + ["\n", "if", "-", "=", "[", "?principal", "Role", ";"]
)


@settings(max_examples=150, deadline=None)
@given(words=st.lists(WORDS, min_size=1, max_size=40))
def test_any_soup_of_words_is_answered_with_lines_that_exist(changed: Change, words: list[str]) -> None:
    text = " ".join(words)
    for problem in lint(changed({EXTRA: text})):
        assert problem.file == EXTRA
        assert 1 <= problem.line <= text.count("\n") + 1


def test_formatting_changes_the_layout_and_not_the_rules(shipped: PolicyTree, changed: Change) -> None:
    assert format_tree(shipped) == ()
    tree = changed({EXTRA: '// why\n@id("x") @note("n")\npermit(principal,action,resource);'})
    ((file, text),) = format_tree(tree)
    assert file == EXTRA
    assert text == '// why\n@id("x")\n@note("n")\npermit (principal, action, resource);\n'
    assert format_tree(changed({EXTRA: text})) == ()
    with pytest.raises(PolicyError, match="unexpected end"):
        format_tree(changed({EXTRA: "permit ("}))
