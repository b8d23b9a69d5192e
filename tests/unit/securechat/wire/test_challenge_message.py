"""What a device signs to prove its key: every input changes it, and it is fixed."""

import hashlib
from itertools import pairwise

import pytest

from securechat.errors import WireError
from securechat.ids import ProtocolAddress, device_id, user_id
from securechat.wire.auth import ChallengePurpose, challenge_message

PAT = ProtocolAddress(user_id("pat"), device_id(7))
CHALLENGE = bytes(range(32))


def test_the_layout_is_label_version_purpose_address_challenge_and_token_hash() -> None:
    expected = (
        b"SecureChat v1 signed challenge\x00"
        + bytes.fromhex("01 02 03 706174 00000007")
        + CHALLENGE
        + hashlib.sha256(b"token").digest()
    )
    assert challenge_message(ChallengePurpose.CONNECTION, PAT, CHALLENGE, "token") == expected


def test_every_input_changes_the_message() -> None:
    other = ProtocolAddress(user_id("pat"), device_id(8))
    messages = sorted(
        challenge_message(purpose, address, challenge, token)
        for purpose in ChallengePurpose
        for address in (PAT, other)
        for challenge in (CHALLENGE, bytes(32))
        for token in ("token", "tokens", "")
    )
    assert len(messages) == 36
    assert all(a != b for a, b in pairwise(messages))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_challenge_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(WireError):
        challenge_message(ChallengePurpose.SESSION, PAT, bytes(length), "token")
