"""The shipped policy tree, and trees made from it by changing a file."""

from collections.abc import Callable, Mapping

import pytest

from securechat.authz.decision import DecisionPoint
from securechat.authz.tree import PolicyTree, policy_tree
from securechat.cli.policy_files import DEFAULT_FOLDER, load_tree


@pytest.fixture(scope="session")
def shipped() -> PolicyTree:
    """The tree in ``policies/``."""
    return load_tree(DEFAULT_FOLDER)


@pytest.fixture(scope="session")
def point(shipped: PolicyTree) -> DecisionPoint:
    """The decision point of the shipped tree."""
    return DecisionPoint.from_tree(shipped)


@pytest.fixture(scope="session")
def changed(shipped: PolicyTree) -> Callable[[Mapping[str, str]], PolicyTree]:
    """Make the shipped tree with other texts at some paths; an empty text removes the file."""

    def change(texts: Mapping[str, str]) -> PolicyTree:
        merged = {**dict(shipped.files), **texts}
        return policy_tree({path: text for path, text in merged.items() if text})

    return change
