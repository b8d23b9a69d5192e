"""Safety numbers: 60 digits that two people compare to know that nobody stands between them.

The construction is the numeric fingerprint of the Signal protocol, version 0 (5,200 rounds of SHA-512), over
the account keys, so the number stays the same when devices come and go. docs/format/identity.md, "Safety
number", is normative.
"""

import hashlib
from typing import Final

from securechat.crypto.keys import VerifyKey
from securechat.crypto.labels import Label
from securechat.ids import UserId

FINGERPRINT_VERSION: Final = bytes(2)
ROUNDS: Final = 5_200
GROUP_DIGITS: Final = 5
GROUPS: Final = 6  # for each of the two people
_GROUP_BYTES: Final = 5


def safety_number(user_a: UserId, key_a: VerifyKey, user_b: UserId, key_b: VerifyKey) -> str:
    """Return 60 digits in 12 groups of 5, set apart by blanks; the same whoever is named first."""
    halves = sorted(
        numeric_fingerprint(Label.SAFETY_NUMBER.value + user.encode("ascii"), key.raw)
        for user, key in ((user_a, key_a), (user_b, key_b))
    )
    digits = "".join(halves)
    return " ".join(digits[at : at + GROUP_DIGITS] for at in range(0, len(digits), GROUP_DIGITS))


def numeric_fingerprint(identifier: bytes, key: bytes) -> str:
    """Return the 30 digits of one person: ``identifier`` is theirs for good, ``key`` their public key."""
    digest = FINGERPRINT_VERSION + key + identifier
    for _ in range(ROUNDS):
        digest = hashlib.sha512(digest + key).digest()
    chunks = (digest[at : at + _GROUP_BYTES] for at in range(0, GROUPS * _GROUP_BYTES, _GROUP_BYTES))
    return "".join(f"{int.from_bytes(chunk, 'big') % 10**GROUP_DIGITS:0{GROUP_DIGITS}d}" for chunk in chunks)
