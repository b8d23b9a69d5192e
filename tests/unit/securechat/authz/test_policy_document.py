"""YAML read strictly."""

import pytest
import yaml

from securechat.authz.document import (
    entries,
    fields,
    items,
    parse_document,
    read_flag,
    read_number,
    read_text,
    read_texts,
)
from securechat.authz.problems import MisreadError


def scalar(text: str) -> yaml.Node:
    ((_, _, value),) = entries(parse_document(f"x: {text}"))
    return value


@pytest.mark.parametrize("text", ["on", "yes", "12:30", "null", "1e3", "0x10", "~"])
def test_a_scalar_stays_the_text_that_is_written(text: str) -> None:
    assert read_text(scalar(text)) == text


@pytest.mark.parametrize("text", ["yes", "True", "on", "1", "''", "[true]"])
def test_a_flag_is_true_or_false_and_nothing_else(text: str) -> None:
    assert read_flag(scalar("true"))
    assert not read_flag(scalar("false"))
    with pytest.raises(MisreadError):
        read_flag(scalar(text))


@pytest.mark.parametrize("text", ["-1", "+1", "01", "24", "1.0", "0x1", "٣", "999999999999", "''"])
def test_a_number_is_written_plainly_and_within_its_range(text: str) -> None:
    assert [read_number(scalar(good), 23) for good in ("0", "7", "23")] == [0, 7, 23]
    with pytest.raises(MisreadError):
        read_number(scalar(text), 23)


def test_a_mapping_has_each_key_once_and_only_known_ones() -> None:
    node = parse_document("a: 1\nb: 2\n")
    assert set(fields(node, required=("a",), optional=("b", "c"))) == {"a", "b"}
    for text, line in (("a: 1\na: 2\n", 2), ("a: 1\n\nz: 2\n", 3), ("b: 1\n", 1), ("[a]", 1)):
        with pytest.raises(MisreadError) as caught:
            fields(parse_document(text), required=("a",), optional=("b",))
        assert caught.value.line == line


def test_a_sequence_of_texts_holds_texts() -> None:
    assert read_texts(parse_document("[a, b]")) == ("a", "b")
    assert items(parse_document("[]")) == ()
    with pytest.raises(MisreadError):
        read_texts(parse_document("[a, [b]]"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x 1\nb: *x\n", 2),
        ("a: 1\nb: [\n", 3),
        ("a: 1\n b: 2\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ("", 1),
        ("# only a comment\n", 1),
        ("\x00", 1),
        ("[" * 20_000, 1),
    ],
)
def test_what_is_not_one_plain_document_is_refused(text: str, line: int) -> None:
    with pytest.raises(MisreadError) as caught:
        parse_document(text)
    assert caught.value.line == line
