"""``roles.yaml``: what it means and how it is refused."""

import pytest

from securechat.authz.problems import InvalidPolicyTreeError, Problem
from securechat.authz.roles import read_roles
from securechat.authz.tree import PolicyTree

GOOD = """roles:
  member:
    description: Anybody
    assignable: false
  staff:
    description: Works here
    parents: [member]
    assignable: false
  nurse:
    description: A nurse
    parents: [staff]
  patient:
    description: Is cared for
    parents: [member]
    conflicts: [staff]
"""


def test_a_role_brings_everything_that_its_parents_bring() -> None:
    book = read_roles(GOOD)
    assert book.expand({"nurse"}) == {"nurse", "staff", "member"}
    assert book.expand({"patient", "unknown"}) == {"patient", "member", "unknown"}
    assert book.expand(()) == frozenset()


def test_a_conflict_counts_for_whoever_inherits_it() -> None:
    book = read_roles(GOOD)
    assert book.have_conflict(book.expand({"nurse", "patient"}))
    assert not book.have_conflict(book.expand({"nurse"}))


def test_only_known_roles_that_are_not_mere_parents_can_be_held() -> None:
    book = read_roles(GOOD)
    assert book.are_assignable({"nurse", "patient"})
    assert book.are_assignable(())
    assert not book.are_assignable({"staff"})
    assert not book.are_assignable({"nurse", "Nurse"})


def test_the_shipped_roles_keep_their_offices_apart(shipped: PolicyTree) -> None:
    book = read_roles(shipped.text("roles.yaml") or "")
    assert book.have_conflict(book.expand({"admin", "compliance-officer"}))
    assert book.have_conflict(book.expand({"patient", "bot"}))
    assert book.have_conflict(book.expand({"service", "nurse"}))
    for role in book.roles.values():
        assert not role.assignable or not book.have_conflict(book.expand({role.name}))


@pytest.mark.parametrize(
    ("old", "new", "line", "reason"),
    [
        ("parents: [staff]", "parents: [stuff]", 9, "role 'nurse' names the unknown role 'stuff'"),
        ("conflicts: [staff]", "conflicts: [nobody]", 12, "role 'patient' names the unknown role 'nobody'"),
        (
            "conflicts: [staff]",
            "conflicts: [member]",
            12,
            "role 'patient' inherits roles that exclude each other",
        ),
        ("Anybody\n", "Anybody\n    parents: [member]\n", 2, "role 'member' inherits itself"),
        ("assignable: false", "assignable: no", 4, "'no' is not one of true, false"),
        ("description: A nurse", "descriptoin: A nurse", 10, "unknown field 'descriptoin'"),
        ("    description: A nurse\n", "", 10, "the field 'description' is missing"),
        ("  patient:", "  nurse:", 12, "'nurse' stands here twice"),
        ("  patient:", "  Patient:", 12, "'Patient' is no name for a role"),
        ("parents: [staff]", "parents: staff", 11, "a sequence is expected"),
        ("roles:", "rolls:", 2, "unknown field"),
        ("parents: [staff]", "parents: [staff", 12, ""),
    ],
)
def test_a_fault_is_named_with_its_line(old: str, new: str, line: int, reason: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidPolicyTreeError) as caught:
        read_roles(GOOD.replace(old, new, 1))
    problem = caught.value.problems[0]
    assert problem.file == "roles.yaml"
    assert reason in problem.reason
    expected = 1 if "rolls" in new else line
    assert problem.line == expected


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "[]", "roles", "roles: []", "roles: {a: b}", "a: 1\n---\nb: 2\n", "\t"]
)
def test_what_is_no_list_of_roles_is_refused(text: str) -> None:
    with pytest.raises(InvalidPolicyTreeError):
        read_roles(text)


def test_every_fault_is_told() -> None:
    text = "roles:\n  a: {description: x, parents: [b]}\n  c: {description: x, parents: [d]}\n"
    with pytest.raises(InvalidPolicyTreeError) as caught:
        read_roles(text)
    assert caught.value.problems == (
        Problem("roles.yaml", 2, "role 'a' names the unknown role 'b'"),
        Problem("roles.yaml", 3, "role 'c' names the unknown role 'd'"),
    )
