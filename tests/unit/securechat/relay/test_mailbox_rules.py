"""The rules of a mailbox and of the order of sends."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from securechat.ids import MessageId, ProtocolAddress, device_id, user_id
from securechat.relay.errors import AckBeyondEndError, StaleEpochError
from securechat.relay.mailbox import (
    DAY_MS,
    Mailbox,
    OrderHolds,
    Quota,
    Refusal,
    accept,
    check_ack,
    last_expired_day,
    release,
)

LEE = ProtocolAddress(user_id("dr.lee"), device_id(1))
ROB = ProtocolAddress(user_id("rob"), device_id(1))
EMPTY = Mailbox(1, LEE, bytes(16))


def message(number: int) -> MessageId:
    return MessageId(number.to_bytes(16, "big"))


@given(st.lists(st.integers(0, 400), max_size=60))
def test_a_mailbox_never_holds_more_than_its_quota(sizes: list[int]) -> None:
    quota, box = Quota(messages=10, bytes=1000, body_bytes=300), EMPTY
    for size in sizes:
        after = accept(box, size, quota)
        if isinstance(after, Refusal):
            too_large = size > quota.body_bytes
            assert too_large == (after is Refusal.MESSAGE_TOO_LARGE)
            assert too_large or box.messages == 10 or box.bytes + size > 1000
        else:
            assert (after.last_seq, after.bytes) == (box.last_seq + 1, box.bytes + size)
            box = after
        assert box.messages <= 10
        assert box.bytes <= 1000


def test_an_accepted_message_leaves_the_old_state_untouched() -> None:
    after = accept(EMPTY, 10, Quota())
    assert isinstance(after, Mailbox)
    assert EMPTY.last_seq == 0
    assert after == replace(EMPTY, last_seq=1, bytes_in=10)


@given(st.lists(st.integers(0, 20), max_size=20))
def test_the_cursor_is_the_highest_valid_acknowledgement(seqs: list[int]) -> None:
    box = replace(EMPTY, last_seq=10, bytes_in=100)
    highest = 0
    for seq in seqs:
        try:
            check_ack(box, box.epoch, seq)
        except AckBeyondEndError:
            assert seq > 10
            continue
        box = release(box, seq, seq * 10)
        highest = max(highest, seq)
        assert (box.acked_seq, box.messages, box.bytes) == (highest, 10 - highest, 100 - 10 * highest)


def test_an_acknowledgement_for_another_epoch_is_refused() -> None:
    with pytest.raises(StaleEpochError):
        check_ack(EMPTY, b"\x01" * 16, 0)


@given(st.integers(0, 60), st.integers(0, DAY_MS - 1), st.integers(1, 40))
def test_nothing_expires_before_its_time_and_everything_a_day_later(day: int, within: int, days: int) -> None:
    accepted_ms = 20_000 * DAY_MS + within
    now_ms = accepted_ms + day * DAY_MS
    expired = accepted_ms // DAY_MS <= last_expired_day(now_ms, days)
    assert expired == (day > days)


@pytest.mark.parametrize("refusal", list(Refusal))
def test_only_refusals_that_time_can_change_are_retryable(refusal: Refusal) -> None:
    permanent = {"unknown_recipient", "denied", "message_too_large"}
    assert refusal.retryable == (refusal.value not in permanent)


def test_after_a_refusal_for_now_the_lane_waits_for_that_very_message() -> None:
    holds = OrderHolds()
    holds.note((1, LEE), message(1), Refusal.MAILBOX_FULL)
    holds.note((1, LEE), message(2), Refusal.ORDER_HOLD)
    assert holds.blocks((1, LEE), message(2))
    assert not holds.blocks((1, LEE), message(1))
    assert not holds.blocks((1, ROB), message(2))
    assert not holds.blocks((2, LEE), message(2))
    holds.note((1, LEE), message(1), None)
    assert not holds.blocks((1, LEE), message(2))


def test_a_permanent_refusal_holds_nobody_up_and_frees_a_lane() -> None:
    holds = OrderHolds()
    holds.note((1, LEE), message(1), Refusal.DENIED)
    assert len(holds) == 0
    holds.note((1, LEE), message(1), Refusal.STORE_FULL)
    holds.note((1, LEE), message(1), Refusal.UNKNOWN_RECIPIENT)
    assert len(holds) == 0


def test_an_ended_connection_leaves_no_hold_and_a_copy_is_independent() -> None:
    holds = OrderHolds()
    holds.note((1, LEE), message(1), Refusal.MAILBOX_FULL)
    holds.note((2, LEE), message(1), Refusal.MAILBOX_FULL)
    copy = holds.copy()
    holds.forget(1)
    assert (len(holds), len(copy)) == (1, 2)


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), max_size=60))
def test_accepted_messages_of_a_lane_are_in_the_order_of_their_first_attempt(
    run: list[tuple[int, bool]],
) -> None:
    """A sender that always sends everything unaccepted in order, through a mailbox full at random."""
    holds, accepted, left = OrderHolds(), list[int](), list(range(1, 6))
    for number, full in run:
        for each in list(left):
            if holds.blocks((1, LEE), message(each)):
                continue
            refused = full and each == number
            holds.note((1, LEE), message(each), Refusal.MAILBOX_FULL if refused else None)
            if not refused:
                accepted.append(each)
                left.remove(each)
    assert accepted == sorted(accepted)
