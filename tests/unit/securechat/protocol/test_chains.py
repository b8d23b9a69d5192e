"""Symmetric chains and skipped keys."""

import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.errors import ChainExhaustedError, MessageGapError
from securechat.protocol.chains import (
    MAX_JUMP,
    MAX_SKIPPED,
    MAX_SKIPPED_AGE_MS,
    Chain,
    check_jump,
    expire,
    message_name,
    next_key,
    remember,
    take,
    walk,
)
from securechat.protocol.suite import SECURECHAT_V1
from securechat.wire.codec import MAX_U32

KEY = bytes(range(32))
NAME = b"N" * 32
NOW = 1_800_000_000_000


def passed(first: int, count: int) -> dict[bytes, bytes]:
    return {message_name(NAME, n): n.to_bytes(32, "big") for n in range(first, first + count)}


def test_a_step_is_the_one_that_the_specification_recommends() -> None:
    chain, key = next_key(SECURECHAT_V1.chain_step, Chain(KEY, 7))
    assert chain == Chain(hmac.digest(KEY, b"\x02", "sha256"), 8)
    assert key == hmac.digest(KEY, b"\x01", "sha256")


def test_a_walk_gives_the_keys_it_passes_over() -> None:
    step = SECURECHAT_V1.chain_step
    chain, keys = walk(step, Chain(KEY, 0), 3, NAME)
    one, first = next_key(step, Chain(KEY, 0))
    two, second = next_key(step, one)
    three, third = next_key(step, two)
    assert chain == three
    expected = {message_name(NAME, 0): first, message_name(NAME, 1): second, message_name(NAME, 2): third}
    assert keys == expected
    assert list(keys) == list(expected)


def test_a_chain_ends_where_the_wire_ends() -> None:
    last, _ = next_key(SECURECHAT_V1.chain_step, Chain(KEY, MAX_U32 - 1))
    with pytest.raises(ChainExhaustedError):
        next_key(SECURECHAT_V1.chain_step, last)


def test_a_thousand_may_be_skipped_and_no_more() -> None:
    check_jump(MAX_JUMP)
    with pytest.raises(MessageGapError):
        check_jump(MAX_JUMP + 1)


def test_a_skipped_key_is_taken_once() -> None:
    skipped = remember({}, passed(0, 3), NOW)
    taken = take(skipped, message_name(NAME, 1))
    assert taken is not None
    rest, key = taken
    assert key == (1).to_bytes(32, "big")
    assert take(rest, message_name(NAME, 1)) is None
    assert take(skipped, message_name(NAME, 1)) is not None, "the value that was given is as it was"


def test_the_oldest_keys_make_room() -> None:
    skipped = remember({}, passed(0, 1_500), NOW)
    skipped = remember(skipped, passed(1_500, 1_000), NOW + 1)
    assert len(skipped) == MAX_SKIPPED
    assert next(iter(skipped)) == message_name(NAME, 500)
    assert list(skipped)[-1] == message_name(NAME, 2_499)


def test_keys_go_after_thirty_days() -> None:
    skipped = remember({}, passed(0, 2), NOW)
    skipped = remember(skipped, passed(2, 1), NOW + 1)
    assert expire(skipped, NOW + MAX_SKIPPED_AGE_MS) is skipped
    assert list(expire(skipped, NOW + MAX_SKIPPED_AGE_MS + 1)) == [message_name(NAME, 2)]
    assert expire(skipped, NOW + MAX_SKIPPED_AGE_MS + 2) == {}


def test_new_keys_drive_out_those_over_thirty_days_old() -> None:
    skipped = remember({}, passed(0, 2), NOW)
    later = remember(skipped, passed(2, 1), NOW + MAX_SKIPPED_AGE_MS + 1)
    assert list(later) == [message_name(NAME, 2)]


def test_a_clock_that_went_back_loses_no_key() -> None:
    skipped = remember({}, passed(0, 2), NOW)
    assert len(remember(skipped, passed(2, 2), NOW - 10 * MAX_SKIPPED_AGE_MS)) == 4


def test_a_key_dated_ahead_stays_thirty_days_from_when_the_clock_was_put_right() -> None:
    skipped = remember({}, passed(0, 2), NOW + 10 * MAX_SKIPPED_AGE_MS)
    right = expire(skipped, NOW)
    assert list(right) == list(skipped)
    assert expire(right, NOW + MAX_SKIPPED_AGE_MS) is right
    assert expire(right, NOW + MAX_SKIPPED_AGE_MS + 1) == {}


@given(st.lists(st.integers(min_value=0, max_value=400), max_size=12), st.data())
def test_what_is_remembered_is_what_was_not_taken(counts: list[int], data: st.DataObject) -> None:
    skipped: dict[bytes, bytes] = {}
    expected: dict[bytes, bytes] = {}
    at = 0
    for count in counts:
        fresh = passed(at, count)
        skipped = remember(skipped, fresh, NOW)
        expected = {**expected, **fresh}
        expected = dict(list(expected.items())[-MAX_SKIPPED:])
        at += count
        if expected:
            name = data.draw(st.sampled_from(list(expected)))
            taken = take(skipped, name)
            assert taken is not None
            skipped, key = taken
            assert key == expected.pop(name)
    assert list(skipped) == list(expected)
