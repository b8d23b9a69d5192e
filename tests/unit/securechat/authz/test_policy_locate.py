"""Positions in Cedar text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.authz.engine import syntax_errors
from securechat.authz.locate import (
    MAX_NESTING,
    MAX_POLICY_TOKENS,
    check_nesting,
    fault_line,
    named_line,
    split_policies,
    tokenize,
)
from securechat.authz.problems import MisreadError
from securechat.authz.tree import POLICY_FILES, PolicyTree

TWO = """// a comment with "quotes; and" signs
@id("one") // ends here;
permit (principal, action, resource)
when { "text; with // signs" == "" };

  @id("two")
forbid (
  principal, action, resource
);
"""


def test_policies_are_found_with_their_first_and_last_line() -> None:
    one, two = split_policies("f", TWO)
    assert (one.first, one.last, two.first, two.last) == (2, 4, 6, 9)
    assert one.text.startswith('@id("one")')
    assert two.text.startswith('@id("two")')
    assert two.text.endswith(");")


def test_what_stands_behind_the_last_semicolon_is_a_policy_of_its_own() -> None:
    assert [policy.text for policy in split_policies("f", "permit (); // done\n\nforbid (")] == [
        "permit ();",
        "forbid (",
    ]
    assert split_policies("f", "// nothing\n") == ()


def test_token_offsets_count_within_their_policy() -> None:
    for policy in split_policies("f", TWO):
        assert all(policy.text[token.start : token.end] == token.text for token in policy.tokens)


def test_the_shipped_policies_split_as_the_engine_reads_them(shipped: PolicyTree) -> None:
    for file, text in shipped.matching(POLICY_FILES):
        lines = text.split("\n")
        for policy in split_policies(file, text):
            assert policy.text == "\n".join(lines[policy.first - 1 : policy.last])
            assert syntax_errors(policy.text) == ()


@given(
    st.lists(
        st.sampled_from(['@id("a;b")', "permit", "(", ")", ";", "\n", "// x;\n", '"\\""', "::", " ", "7"])
    )
)
def test_splitting_loses_no_token(parts: list[str]) -> None:
    text = " ".join(parts)
    found = [token.text for policy in split_policies("f", text) for token in policy.tokens]
    assert found == [token.text for token in tokenize(text)]
    lines = text.split("\n")
    for policy in split_policies("f", text):
        assert all(token.text in lines[token.line - 1] for token in policy.tokens)


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ('a\nb "c\nd"', 2, "not closed"),
        ('a\n"b\\', 2, "not closed"),
        ("a\n\n#", 3, "unknown character"),
        ("ä", 1, "unknown character"),
    ],
)
def test_what_is_no_token_is_named_with_its_line(text: str, line: int, reason: str) -> None:
    with pytest.raises(MisreadError, match=reason) as caught:
        tokenize(text)
    assert caught.value.line == line


def test_nesting_and_length_are_limited_before_the_engine_sees_them() -> None:
    check_nesting(tokenize("(" * MAX_NESTING + ")" * MAX_NESTING))
    with pytest.raises(MisreadError, match="nested deeper"):
        split_policies("f", "\n" + "(" * (MAX_NESTING + 1))
    with pytest.raises(MisreadError, match="nested deeper"):
        check_nesting(tokenize("Set<" * (MAX_NESTING + 1)), "()[]{}<>")
    with pytest.raises(MisreadError, match="at most") as caught:
        split_policies("f", "a;\nb " + "c " * MAX_POLICY_TOKENS)
    assert caught.value.line == 2


POLICY = """@id("x")
@note("n")
permit (
  principal,
  action,
  resource
)
when {
  true &&
  (resource has a) &&
  FRAGMENT
}
unless { false };
"""


@pytest.mark.parametrize(
    "fragment",
    [
        "foo == 1",
        "99999999999999999999 == 1",
        'ip2("x")',
        "resource.foo()",
        "resource.patient = true",
        "&& true",
        '"a" like 3',
        "resource.org.contains(1, 2)",
        "!!!!!true",
        "[1, 2",
        "true whn",
    ],
)
def test_a_syntax_fault_is_found_on_its_line(fragment: str) -> None:
    (source,) = split_policies("f", POLICY.replace("FRAGMENT", fragment))
    (reason,) = syntax_errors(source.text)
    closed_too_late = fragment == "[1, 2"
    line = fault_line(source.text, source.tokens, reason, syntax_errors)
    assert line == (12 if closed_too_late else 11)


def test_a_policy_that_is_not_finished_is_named_with_its_last_line() -> None:
    (source,) = split_policies("f", "permit (\n  principal,\n  action\n")
    (reason,) = syntax_errors(source.text)
    assert fault_line(source.text, source.tokens, reason, syntax_errors) == 3


def test_of_a_thing_declared_twice_the_second_is_named() -> None:
    text = '@id("a")\n@id("b")\npermit (principal, action, resource);'
    (reason,) = syntax_errors(text)
    assert named_line(tokenize(text), reason) == 2


def test_a_reason_that_quotes_nothing_known_names_no_line() -> None:
    assert named_line(tokenize("permit ();"), "something is `elsewhere`, 'é'") is None
