"""The decision point of one policy set: deny by default, forbid wins, every answer names its rules."""

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from securechat.authz.cases import failed_cases
from securechat.authz.engine import Policy, Verdict
from securechat.authz.guardrails import weak_guardrails
from securechat.authz.lint import CheckedTree, check_tree
from securechat.authz.model import (
    DEFAULT_DENY,
    POLICY_ERROR,
    RESOURCE_OF,
    ROLE_CONFLICT,
    Action,
    Decision,
    Request,
)
from securechat.authz.problems import InvalidPolicyTreeError, Problem
from securechat.authz.profile import Profile, profile_of
from securechat.authz.roles import RoleBook
from securechat.authz.tree import PolicyTree

CACHED_DECISIONS: Final = 65_536  # about 1 KiB each at most; an organisation has a few hundred profiles
HOURS: Final = 24


class DecisionPoint:
    """Decides by exactly one policy set.

    Decisions are kept by profile, in a cache that lives and dies with the set: another set is another
    decision point, so no answer of an old set can be given for a new one. Safe to share between threads.
    """

    def __init__(self, checked: CheckedTree, *, cached: int = CACHED_DECISIONS) -> None:
        """Use ``checked`` without running its cases; servers call ``from_tree``."""
        self._checked = checked
        self._policy_set = checked.tree.digest()
        self._timed = checked.engine.timed_actions()
        self._answer: Callable[[Profile], Decision] = lru_cache(maxsize=cached)(self._decide)

    @classmethod
    def from_tree(cls, tree: PolicyTree) -> "DecisionPoint":
        """Return the decision point of ``tree`` once it is checked, its guardrails forbid and its cases hold.

        Raises InvalidPolicyTreeError (a PolicyError) with every problem as ``file:line: reason``.
        """
        point = cls(check_tree(tree))
        problems = point.failures()
        if problems:
            raise InvalidPolicyTreeError(problems)
        return point

    def failures(self) -> tuple[Problem, ...]:
        """Return what a well-formed set gets wrong: guardrails without effect, cases that do not hold."""
        weak = weak_guardrails(self.policies, self.roles, self.decide)
        return (*weak, *failed_cases(self._checked.tree, self.roles, self.decide))

    @property
    def policy_set(self) -> str:
        """The SHA-256 of the policy tree, 64 hexadecimal digits."""
        return self._policy_set

    @property
    def policies(self) -> tuple[Policy, ...]:
        """Every policy of the set, in file order."""
        return self._checked.policies

    @property
    def roles(self) -> RoleBook:
        """The roles that principals may hold."""
        return self._checked.roles

    def policies_for(self, action: Action) -> tuple[Policy, ...]:
        """Return the policies whose scope covers ``action``, in file order."""
        return self._checked.engine.policies_for(action)

    def note(self, policy_id: str) -> str | None:
        """Return the note of a policy, which may be shown to whoever was refused, or None."""
        return next((policy.note for policy in self.policies if policy.id == policy_id), None)

    def decide(self, request: Request) -> Decision:
        """Answer ``request``. Never raises for a request that is odd: what cannot be decided is denied."""
        if RESOURCE_OF.get(request.action) is not request.resource.kind:
            return self._refused(POLICY_ERROR, "the action is not done to this kind of resource")
        return self._answer(profile_of(request, timed=request.action in self._timed))

    def _decide(self, profile: Profile) -> Decision:
        if not 0 <= profile.hour < HOURS:
            return self._refused(POLICY_ERROR, "the hour is not 0 to 23")
        if not self.roles.are_assignable(profile.roles):
            return self._refused(
                POLICY_ERROR, "the principal holds a role that the policy set does not assign"
            )
        roles = self.roles.expand(profile.roles)
        if self.roles.have_conflict(roles):
            return self._refused(ROLE_CONFLICT)
        return self._decision(self._checked.engine.decide(profile, roles))

    def _decision(self, verdict: Verdict) -> Decision:
        if verdict.errors:
            return self._refused(POLICY_ERROR, *verdict.errors)
        ids = verdict.policy_ids
        return Decision(verdict.allowed, ids, self._policy_set, ids[0] if ids else DEFAULT_DENY)

    def _refused(self, reason: str, *errors: str) -> Decision:
        return Decision(False, (), self._policy_set, reason, errors)
