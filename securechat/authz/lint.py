"""Everything that must be right before a policy tree may decide anything, short of running its cases.

Refused are: text that does not parse or does not fit the schema, a missing or repeated ``@id`` or ``@note``,
a policy that names one person, resource or organisation, templates, words that schema, roles and server do
not share, and a tree without the guardrails.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final

import securechat.authz.engine as cedar
from securechat.authz.engine import Engine, Policy, SchemaHandle
from securechat.authz.guardrails import GUARDRAILS
from securechat.authz.locate import (
    MAX_SCHEMA_TOKENS,
    PolicyText,
    Token,
    check_nesting,
    fault_line,
    named_line,
    split_policies,
    tokenize,
)
from securechat.authz.model import RESERVED_REASONS
from securechat.authz.problems import InvalidPolicyTreeError, MisreadError, Problem
from securechat.authz.roles import ROLE_NAME, RoleBook, read_roles
from securechat.authz.tree import POLICY_FILES, ROLES_FILE, SCHEMA_FILES, PolicyTree
from securechat.authz.vocabulary import CLOSED_TYPES, declared, disagreements

GUARDRAIL_FILE: Final = "policies/00-guardrails.cedar"


@dataclass(frozen=True, slots=True)
class CheckedTree:
    """A tree without problems, its cases aside: what a decision point is made of."""

    tree: PolicyTree
    roles: RoleBook
    policies: tuple[Policy, ...]
    engine: Engine


@dataclass(frozen=True, slots=True)
class _SchemaText:
    """All schema files as one text, and where each line of it comes from."""

    text: str
    tokens: tuple[Token, ...]
    starts: tuple[tuple[int, str], ...]  # first line of each file within ``text``

    def problem(self, line: int, reason: str) -> Problem:
        start, file = max(entry for entry in self.starts if entry[0] <= line)
        return Problem(file, line - start + 1, reason)


def lint(tree: PolicyTree) -> tuple[Problem, ...]:
    """Return everything that is wrong with ``tree``, its cases aside."""
    try:
        check_tree(tree)
    except InvalidPolicyTreeError as error:
        return error.problems
    return ()


def check_tree(tree: PolicyTree) -> CheckedTree:
    """Return ``tree`` parsed and checked. Raises InvalidPolicyTreeError with everything that is wrong."""
    roles, role_problems = _roles(tree)
    policies, problems = _policies(tree)
    schema, schema_problems = _schema(tree)
    problems = [*role_problems, *schema_problems, *problems]
    problems.extend(chain(_annotation_problems(policies), _guardrail_problems(policies)))
    if schema is None or roles is None:
        raise InvalidPolicyTreeError(problems)
    found = declared(schema.tokens)
    problems.extend(schema.problem(line, reason) for line, reason in disagreements(found, roles))
    handle = cedar.parse_schema(schema.text)
    problems.extend(chain.from_iterable(_type_problems(policy, handle) for policy in policies))
    if problems:
        raise InvalidPolicyTreeError(problems)
    engine, undecidable = cedar.build_engine(handle, policies)
    if undecidable:
        raise InvalidPolicyTreeError(
            [schema.problem(named_line(schema.tokens, text) or 1, text) for text in undecidable]
        )
    return CheckedTree(tree, roles, policies, engine)


def format_tree(tree: PolicyTree) -> tuple[tuple[str, str], ...]:
    """Return path and new text of every policy file that is not in the one layout.

    Raises InvalidPolicyTreeError if a policy does not parse.
    """
    problems = _policies(tree)[1]
    if problems:
        raise InvalidPolicyTreeError(problems)
    texts = ((file, text, cedar.format_policies(text)) for file, text in tree.matching(POLICY_FILES))
    return tuple((file, new) for file, old, new in texts if new != old)


def _roles(tree: PolicyTree) -> tuple[RoleBook | None, Sequence[Problem]]:
    try:
        return read_roles(tree.text(ROLES_FILE) or ""), ()
    except InvalidPolicyTreeError as error:
        return None, error.problems


def _schema(tree: PolicyTree) -> tuple[_SchemaText | None, Sequence[Problem]]:
    texts: list[str] = []
    starts: list[tuple[int, str]] = []
    for file, text in tree.matching(SCHEMA_FILES):
        try:
            check_nesting(tokenize(text), "()[]{}<>")
        except MisreadError as error:
            return None, (error.within(file),)
        starts.append((1 + sum(part.count("\n") for part in texts), file))
        texts.append(text + "\n")
    whole = "".join(texts)
    schema = _SchemaText(whole, tokenize(whole), tuple(starts))
    if not 0 < len(schema.tokens) <= MAX_SCHEMA_TOKENS:
        reason = f"a schema has 1 to {MAX_SCHEMA_TOKENS} words and signs"
        return None, (schema.problem(1, reason),)
    reasons = cedar.schema_errors(whole)
    lines = (fault_line(whole, schema.tokens, reason, cedar.schema_errors) for reason in reasons)
    problems = [schema.problem(line, reason) for line, reason in zip(lines, reasons, strict=True)]
    return (None if problems else schema), problems


def _policies(tree: PolicyTree) -> tuple[tuple[Policy, ...], list[Problem]]:
    """Return the policies that parse, and what is wrong with these and the others."""
    policies: list[Policy] = []
    problems: list[Problem] = []
    for file, text in tree.matching(POLICY_FILES):
        try:
            sources = split_policies(file, text)
        except MisreadError as error:
            problems.append(error.within(file))
            continue
        for source in sources:
            parsed = _policy(source)
            if isinstance(parsed, Problem):
                problems.append(parsed)
            else:
                policies.append(parsed)
    return tuple(policies), problems


def _policy(source: PolicyText) -> Policy | Problem:
    for reason in cedar.syntax_errors(source.text):
        line = fault_line(source.text, source.tokens, reason, cedar.syntax_errors)
        return Problem(source.file, line, reason)
    policy = cedar.parse_policy(source)
    if policy is None:
        return Problem(source.file, source.first, "templates (?principal, ?resource) are not used here")
    return policy


def _annotation_problems(policies: Sequence[Policy]) -> Iterator[Problem]:
    seen: dict[str, PolicyText] = {}
    for policy in policies:
        source = policy.source
        if ROLE_NAME.fullmatch(policy.id) is None:
            yield Problem(
                source.file, source.first, 'the policy needs an @id("...") of small letters, digits and "-"'
            )
        elif policy.id in RESERVED_REASONS:
            yield Problem(
                source.file, source.first, f"[{policy.id}] is a reason of the server's own, not an @id"
            )
        elif policy.id in seen:
            first = seen[policy.id]
            reason = f"[{policy.id}] the same @id stands at {first.file}:{first.first}"
            yield Problem(source.file, source.first, reason)
        seen.setdefault(policy.id, source)
        if not policy.note.strip():
            yield Problem(
                source.file, source.first, f'[{policy.id}] the policy needs a @note("...") for its readers'
            )


def _guardrail_problems(policies: Sequence[Policy]) -> Iterator[Problem]:
    by_id = {policy.id: policy for policy in policies}
    for name, _ in GUARDRAILS:
        policy = by_id.get(name)
        if policy is None:
            yield Problem(GUARDRAIL_FILE, 1, f"the guardrail {name} is missing")
        elif policy.permits or policy.source.file != GUARDRAIL_FILE:
            reason = f"[{name}] a guardrail is a forbid in {GUARDRAIL_FILE}"
            yield Problem(policy.source.file, policy.source.first, reason)


def _type_problems(policy: Policy, schema: SchemaHandle) -> Iterator[Problem]:
    source = policy.source

    def reasons(text: str) -> tuple[str, ...]:
        return cedar.syntax_errors(text) or cedar.type_errors(text, schema)

    for reason in reasons(source.text):
        line = fault_line(source.text, source.tokens, reason, reasons)
        yield Problem(source.file, line, f"[{policy.id}] {reason}")
    for entity_type, name in sorted(cedar.entity_names(policy)):
        if entity_type not in CLOSED_TYPES:
            reason = f"[{policy.id}] a rule speaks of roles, not of one {entity_type}"
            yield Problem(source.file, named_line(source.tokens, f"`{name}`") or source.first, reason)
