"""The Cedar engine, closed where it is open: the only user of ``cedarpy``.

Left alone, the engine skips a ``forbid`` that meets a run-time error and answers "allow"; here any diagnostic
is a deny. Every request and entity is checked against the schema. Each action has its own slice of the
policies, chosen by the engine itself: a policy belongs to the slice of an action exactly if its scope alone
matches that action.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import cedarpy
from cedarpy import pst

from securechat.authz.facts import cedar_entities, cedar_request
from securechat.authz.locate import PolicyText
from securechat.authz.model import RESOURCE_OF, AccountStatus, Action, PrincipalKind, Purpose
from securechat.authz.profile import Profile

FORMAT_WIDTH: Final = 110  # characters in a line
FORMAT_INDENT: Final = 2

_POSITION: Final = re.compile(r"policy([0-9]+)")
_FAILED: Final = (ValueError, TypeError, OverflowError)  # what cedarpy raises for what it cannot take

SchemaHandle = cedarpy.Schema


@dataclass(frozen=True, slots=True)
class Policy:
    """One policy that parses; ``id`` and ``note`` are its annotations, empty where missing."""

    id: str
    note: str
    permits: bool
    source: PolicyText
    node: pst.Template


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the rules say: the policies that decided, in file order; with ``errors`` it is a deny."""

    allowed: bool
    policy_ids: tuple[str, ...]
    errors: tuple[str, ...] = ()


def syntax_errors(text: str) -> tuple[str, ...]:
    """Return why ``text`` is no Cedar policy; nothing if it is one."""
    try:
        cedarpy.policies_to_pst(text)
    except ValueError as error:
        return (str(error).removeprefix("cedarpy: "),)
    return ()


def schema_errors(text: str) -> tuple[str, ...]:
    """Return why ``text`` is no Cedar schema; nothing if it is one."""
    try:
        cedarpy.Schema.from_str(text)
    except ValueError as error:
        return (str(error).removeprefix("error parsing schema: "),)
    return ()


def type_errors(text: str, schema: SchemaHandle) -> tuple[str, ...]:
    """Return what the strict validation of one policy against ``schema`` finds wrong."""
    result = cedarpy.validate_policies(text, schema)
    if result.validation_passed and not result.errors:
        return ()
    found = [re.sub(r"^for policy `policy[0-9]+`[,:] ", "", error.error) for error in result.errors]
    return tuple(found or ["the policy does not fit the schema"])


def parse_schema(text: str) -> SchemaHandle:
    """Return the schema in ``text``, which has no ``schema_errors``."""
    return cedarpy.Schema.from_str(text)


def parse_policy(source: PolicyText) -> Policy | None:
    """Return the one static policy in ``source``, or None if it is a template. Its syntax must be right."""
    nodes = list(cedarpy.policies_to_pst(source.text).static_policies.values())
    if len(nodes) != 1:
        return None
    notes = nodes[0].annotations
    return Policy(notes.get("id", ""), notes.get("note", ""), nodes[0].effect == "permit", source, nodes[0])


def entity_names(policy: Policy) -> frozenset[tuple[str, str]]:
    """Return type and id of every entity that ``policy`` names."""
    return frozenset((str(uid.type), uid.id) for uid in pst.entity_uids(policy.node))


def format_policies(text: str) -> str:
    """Return ``text``, which parses, in the one layout that policies have."""
    return cedarpy.format_policies(text, FORMAT_WIDTH, FORMAT_INDENT)


@dataclass(frozen=True, slots=True)
class Slice:
    """The policies whose scope matches one action, in file order."""

    policies: tuple[Policy, ...]
    handle: cedarpy.PolicySet
    timed: bool  # a policy reads the clock


class Engine:
    """One checked policy set, ready to decide. Immutable."""

    def __init__(self, schema: SchemaHandle, slices: Mapping[Action, Slice]) -> None:
        self._schema = schema
        self._slices = dict(slices)

    def policies_for(self, action: Action) -> tuple[Policy, ...]:
        """Return the policies that can bear on ``action``."""
        return self._slices[action].policies

    def timed_actions(self) -> frozenset[Action]:
        """Return the actions whose decision depends on the time."""
        return frozenset(action for action, part in self._slices.items() if part.timed)

    def decide(self, profile: Profile, roles: frozenset[str]) -> Verdict:
        """Return what the policies say; ``roles`` are the principal's with everything that they inherit."""
        part = self._slices[profile.action]
        try:
            request, entities = cedar_request(profile), cedar_entities(profile, roles)
            answer = cedarpy.is_authorized(request, part.handle, json.dumps(entities), self._schema)
        except _FAILED:
            return Verdict(False, (), ("the request does not fit the schema",))
        errors = answer.diagnostics.errors
        if errors or answer.decision is cedarpy.Decision.NoDecision:
            return Verdict(False, (), _own_words(errors, part.policies))
        places = sorted(int(reason.removeprefix("policy")) for reason in answer.diagnostics.reasons)
        return Verdict(answer.allowed, tuple(part.policies[place].id for place in places))


def build_engine(schema: SchemaHandle, policies: Sequence[Policy]) -> tuple[Engine, tuple[str, ...]]:
    """Return the engine for checked ``policies``, and the actions that it cannot decide.

    A reason is given for every action that the schema does not declare for its kind of resource; with any
    reason the engine must not be used.
    """
    slices: dict[Action, Slice] = {}
    problems: list[str] = []
    scopes = _scopes(policies)
    for action in Action:
        places = _matching(action, scopes, schema)
        if places is None:
            problems.append(
                f"the schema does not let {action.value!r} be done to a {RESOURCE_OF[action].value}"
            )
        else:
            slices[action] = _slice(tuple(policies[place] for place in places))
    return Engine(schema, slices), tuple(problems)


def _slice(policies: tuple[Policy, ...]) -> Slice:
    handle = cedarpy.PolicySet.from_str("\n".join(policy.source.text for policy in policies))
    return Slice(policies, handle, any(_reads_clock(policy.node) for policy in policies))


def _scopes(policies: Sequence[Policy]) -> cedarpy.PolicySet:
    """Return one permit for each policy: its action and resource scope and nothing else."""
    bare = {
        f"policy{place}": replace(
            policy.node,
            id=f"policy{place}",
            effect="permit",
            principal=pst.ScopeAny(),
            clauses=(),
            annotations=pst.FrozenMap(),
        )
        for place, policy in enumerate(policies)
    }
    return cedarpy.PolicySet.from_pst(pst.PolicySet(pst.FrozenMap(), pst.FrozenMap(bare), ()))


def _matching(action: Action, scopes: cedarpy.PolicySet, schema: SchemaHandle) -> list[int] | None:
    """Return the places of the policies whose scope matches, or None if the engine refuses to be asked."""
    probe = Profile(
        action,
        frozenset(),
        AccountStatus.ACTIVE,
        PrincipalKind.USER,
        True,
        True,
        True,
        False,
        AccountStatus.ACTIVE,
        0,
        False,
        False,
        False,
        Purpose.TREATMENT,
        0,
    )
    answer = cedarpy.is_authorized(
        cedar_request(probe), scopes, json.dumps(cedar_entities(probe, frozenset())), schema
    )
    if answer.diagnostics.errors or answer.decision is cedarpy.Decision.NoDecision:
        return None
    return sorted(int(reason.removeprefix("policy")) for reason in answer.diagnostics.reasons)


def _own_words(errors: Sequence[str], policies: Sequence[Policy]) -> tuple[str, ...]:
    """Return ``errors`` in fixed words, without what the engine quotes."""
    places = {int(match.group(1)) for error in errors if (match := _POSITION.search(error))}
    if not places:
        return ("the request does not fit the schema",)
    return tuple(f"policy {policies[place].id} failed" for place in sorted(places))


def _reads_clock(node: pst.Template) -> bool:
    """Tell whether the policy uses ``context.now``, or ``context`` without naming one attribute."""
    return any(_is_clock(part) for part in _parts(node.clauses))


def _is_clock(part: object) -> bool:
    match part:
        case pst.GetAttr(base=pst.Var(name="context"), attr=attribute):
            return attribute == "now"
        case pst.Var(name="context"):
            return True
    return False


def _parts(value: object) -> Iterator[object]:
    """Yield every node under ``value``, but not the ``context`` inside of ``context.attribute``."""
    yield value
    match value:
        case pst.GetAttr(base=pst.Var(name="context")):
            return
        case pst.Record(fields=fields):
            below: tuple[object, ...] = tuple(fields.values())
        case tuple():
            below = value
        case _:
            below = tuple(getattr(value, name) for name in getattr(type(value), "__slots__", ()))
    for item in below:
        yield from _parts(item)
