"""Challenges that a device signs: unforgeable, valid for a minute, each good for one success.

A challenge is 8 bytes of expiry (milliseconds), 8 random bytes and a 16-byte MAC under a key of this process,
so that handing one out keeps nothing in memory; only those that led to a success are remembered until they
expire.
"""

from collections import OrderedDict
from typing import Final

from securechat.crypto.kdf import equal, hmac_sha256
from securechat.errors import ProofInvalidError
from securechat.ports import Clock, RandomBytes
from securechat.web.errors import OverloadedError
from securechat.wire.auth import CHALLENGE_BYTES

LIFETIME_MS: Final = 60_000
MAX_USED: Final = 65_536  # successes within one lifetime

_STAMP_BYTES: Final = 8
_NONCE_BYTES: Final = 8
_MAC_BYTES: Final = 16
_KEY_BYTES: Final = 32


class Challenges:
    """Makes and redeems challenges."""

    def __init__(self, clock: Clock, random_bytes: RandomBytes, *, max_used: int = MAX_USED) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._max_used = max_used
        self._key = random_bytes(_KEY_BYTES)
        self._used: OrderedDict[bytes, int] = OrderedDict()  # challenge -> its expiry

    def new(self) -> bytes:
        """Return a fresh challenge of 32 bytes."""
        expiry = (self._clock() + LIFETIME_MS).to_bytes(_STAMP_BYTES, "big")
        head = expiry + self._random_bytes(_NONCE_BYTES)
        return head + self._mac(head)

    def check(self, challenge: bytes) -> None:
        """Raise ProofInvalidError unless ``challenge`` is ours, in time and not used up."""
        if len(challenge) != CHALLENGE_BYTES or not equal(
            self._mac(challenge[:-_MAC_BYTES]), challenge[-_MAC_BYTES:]
        ):
            raise ProofInvalidError("the challenge is not known")
        now_ms = self._clock()
        if not now_ms < _expiry(challenge) <= now_ms + LIFETIME_MS or challenge in self._used:
            raise ProofInvalidError("the challenge is too old or was used before")

    def redeem(self, challenge: bytes) -> None:
        """Use ``challenge`` up.

        Raises ProofInvalidError and, when too many were used lately, OverloadedError.
        """
        self.check(challenge)
        self._forget_expired()
        if len(self._used) >= self._max_used:
            raise OverloadedError("too many log-ins at once")
        self._used[challenge] = _expiry(challenge)

    def _mac(self, head: bytes) -> bytes:
        return hmac_sha256(self._key, head)[:_MAC_BYTES]

    def _forget_expired(self) -> None:
        now_ms = self._clock()
        while self._used and next(iter(self._used.values())) <= now_ms:
            self._used.popitem(last=False)


def _expiry(challenge: bytes) -> int:
    return int.from_bytes(challenge[:_STAMP_BYTES], "big")
