"""Canonical JSON against an independent implementation of RFC 8785."""

import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from audit.canonical import Json, dumps, dumps_stdlib, loads, loads_stdlib

_TAGS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20)
_SCALARS = st.one_of(st.booleans(), st.integers(-(2**53) + 1, 2**53 - 1), _TAGS)
VALUES: st.SearchStrategy[Json] = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_TAGS, inner, max_size=6)),
    max_leaves=12,
)


@given(VALUES)
def test_both_writers_give_the_bytes_of_rfc_8785(value: Json) -> None:
    expected = rfc8785.dumps(value)
    assert dumps(value) == expected
    assert dumps_stdlib(value) == expected


@given(VALUES)
def test_both_readers_read_back_what_was_written(value: Json) -> None:
    assert loads(dumps(value)) == value
    assert loads_stdlib(dumps(value)) == value


def test_keys_are_sorted_whatever_the_order_of_insertion() -> None:
    assert dumps({"b": 1, "a": {"d": True, "c": "x"}}) == b'{"a":{"c":"x","d":true},"b":1}'
