"""A policy set's files and its name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.authz.problems import InvalidPolicyTreeError
from securechat.authz.tree import MAX_CHARACTERS, MAX_FILES, policy_tree
from securechat.errors import PolicyError

SMALL = {
    "roles.yaml": "roles: {}\n",
    "schema/a.cedarschema": "entity A;\n",
    "policies/00-a.cedar": "// none\n",
}


def test_the_hash_of_a_tree_is_fixed() -> None:
    assert policy_tree(SMALL).digest() == ("2897d818605c01146a1252c76d609b8469ad4cf63dfc1ddc60609d0c741eb591")


def test_line_ends_do_not_change_the_hash() -> None:
    windows = {path: text.replace("\n", "\r\n") for path, text in SMALL.items()}
    assert policy_tree(windows) == policy_tree(SMALL)


texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=8)


@given(one=st.tuples(texts, texts, texts), other=st.tuples(texts, texts, texts))
def test_different_trees_have_different_hashes(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    first = policy_tree(dict(zip(SMALL, one, strict=True)))
    second = policy_tree(dict(zip(SMALL, other, strict=True)))
    assert (first.digest() == second.digest()) is (one == other)


def test_moving_text_from_one_file_to_the_next_changes_the_hash() -> None:
    one = policy_tree({**SMALL, "policies/00-a.cedar": "ab", "policies/01-b.cedar": "c"})
    other = policy_tree({**SMALL, "policies/00-a.cedar": "a", "policies/01-b.cedar": "bc"})
    assert one.digest() != other.digest()


@pytest.mark.parametrize(
    "path",
    [
        "policies/10-care.ceder",
        "policies/care.cedar",
        "policies/sub/10-care.cedar",
        "policies/10-care.cedar.bak",
        "cases/care.yml",
        "schema/../policies/x.cedarschema",
        "Roles.yaml",
        "",
    ],
)
def test_a_file_without_a_place_is_refused(path: str) -> None:
    with pytest.raises(InvalidPolicyTreeError) as caught:
        policy_tree({**SMALL, path: "x"})
    assert [problem.file for problem in caught.value.problems] == [path]


@pytest.mark.parametrize("path", list(SMALL))
def test_a_tree_without_roles_schema_or_policies_is_refused(path: str) -> None:
    with pytest.raises(PolicyError, match=r"missing|holds no file"):
        policy_tree({name: text for name, text in SMALL.items() if name != path})


def test_the_size_of_a_tree_is_limited() -> None:
    with pytest.raises(PolicyError, match="at most"):
        policy_tree({**SMALL, "cases/a.yaml": "x" * MAX_CHARACTERS})
    with pytest.raises(PolicyError, match="at most"):
        policy_tree(SMALL | {f"cases/{number}.yaml": "" for number in range(MAX_FILES)})


def test_text_that_has_no_bytes_is_refused() -> None:
    with pytest.raises(PolicyError, match="not valid Unicode"):
        policy_tree({**SMALL, "cases/a.yaml": "\ud800"})


def test_a_missing_file_has_no_text() -> None:
    tree = policy_tree(SMALL)
    assert tree.text("roles.yaml") == "roles: {}\n"
    assert tree.text("cases/none.yaml") is None
