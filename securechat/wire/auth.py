"""What a device signs to prove that it holds its key (docs/format.md, "Challenge")."""

import hashlib
from enum import IntEnum
from typing import Final

from securechat.crypto.labels import Label
from securechat.ids import ProtocolAddress
from securechat.wire.codec import Writer

CHALLENGE_BYTES: Final = 32


class ChallengePurpose(IntEnum):
    """What the proof is for; a signature for one purpose does not serve another."""

    SESSION = 1
    CONNECTION = 2
    ENROLLMENT = 3


def challenge_message(
    purpose: ChallengePurpose, address: ProtocolAddress, challenge: bytes, token: str
) -> bytes:
    """Return the bytes that the device key signs.

    ``challenge`` is the server's 32 random bytes. The token enters as its SHA-256, so the proof belongs to
    one token and through it to one audience, and a captured proof serves no other.
    """
    writer = Writer().fixed(Label.SIGN_CHALLENGE.value, len(Label.SIGN_CHALLENGE.value)).u8(1).u8(purpose)
    writer.address(address).fixed(challenge, CHALLENGE_BYTES)
    return writer.fixed(hashlib.sha256(token.encode()).digest(), 32).done()
