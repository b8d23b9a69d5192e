"""Challenges: unforgeable, short-lived, good for one success, bounded in memory."""

import pytest
from support.identities import RepeatableRandom
from support.server_parts import HandClock

from securechat.errors import ProofInvalidError
from securechat.web.challenges import LIFETIME_MS, Challenges
from securechat.web.errors import OverloadedError


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def challenges(clock: HandClock) -> Challenges:
    return Challenges(clock, RepeatableRandom("challenges"), max_used=3)


def test_a_challenge_has_32_bytes_and_is_never_the_same_twice(challenges: Challenges) -> None:
    made = {challenges.new() for _ in range(100)}
    assert {len(challenge) for challenge in made} == {32}
    assert len(made) == 100


def test_a_challenge_is_good_for_one_success(challenges: Challenges) -> None:
    challenge = challenges.new()
    challenges.check(challenge)
    challenges.redeem(challenge)
    with pytest.raises(ProofInvalidError):
        challenges.check(challenge)
    with pytest.raises(ProofInvalidError):
        challenges.redeem(challenge)


def test_a_challenge_ends_after_a_minute(challenges: Challenges, clock: HandClock) -> None:
    challenge = challenges.new()
    clock.now_ms += LIFETIME_MS - 1
    challenges.check(challenge)
    clock.now_ms += 1
    with pytest.raises(ProofInvalidError):
        challenges.check(challenge)


def test_a_challenge_with_any_bit_changed_is_not_ours(challenges: Challenges) -> None:
    challenge = challenges.new()
    for bit in range(256):
        changed = bytearray(challenge)
        changed[bit // 8] ^= 1 << (bit % 8)
        with pytest.raises(ProofInvalidError):
            challenges.check(bytes(changed))


@pytest.mark.parametrize("length", [0, 8, 31, 33, 64])
def test_a_challenge_of_another_length_is_not_ours(challenges: Challenges, length: int) -> None:
    with pytest.raises(ProofInvalidError):
        challenges.check(challenges.new().ljust(64, b"\0")[:length])


def test_a_challenge_of_another_process_is_not_ours(clock: HandClock, challenges: Challenges) -> None:
    with pytest.raises(ProofInvalidError):
        challenges.check(Challenges(clock, RepeatableRandom("other")).new())


def test_a_challenge_from_before_the_clock_was_set_back_is_not_ours(
    challenges: Challenges, clock: HandClock
) -> None:
    challenge = challenges.new()
    clock.advance(-1)
    with pytest.raises(ProofInvalidError):
        challenges.check(challenge)


def test_used_challenges_take_bounded_memory_and_are_forgotten_in_time(
    challenges: Challenges, clock: HandClock
) -> None:
    for _ in range(3):
        challenges.redeem(challenges.new())
    with pytest.raises(OverloadedError):
        challenges.redeem(challenges.new())
    clock.now_ms += LIFETIME_MS
    challenges.redeem(challenges.new())
