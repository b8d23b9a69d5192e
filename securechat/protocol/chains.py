"""Symmetric-key chains, and the keys of messages still to come (Double Ratchet, sections 2.2, 2.6 and 3.1).

The classical and the post-quantum ratchet both walk their chains and keep their skipped keys by this module.
"""

from collections.abc import Callable
from typing import Annotated, Final

import msgspec

from securechat.errors import ChainExhaustedError, MessageGapError
from securechat.protocol.state import U32, Bytes32, SecretState
from securechat.wire.codec import MAX_U32

MAX_JUMP: Final = 1_000  # messages that one message may skip
MAX_SKIPPED: Final = 2_000  # skipped keys that a ratchet keeps, and all of one record; the oldest go first
MAX_SKIPPED_AGE_MS: Final = 30 * 86_400_000  # as long as the relay keeps a message
_TIME_BYTES: Final = 8

Step = Callable[[bytes, int], tuple[bytes, bytes]]  # chain key, number -> next chain key, message key

# Name of a message (ratchet key or epoch, then its number) -> time of skipping (8 bytes), message key (32).
# INVARIANT: once part of a state it is never changed, only replaced; its order is the order of skipping.
Skipped = Annotated[
    dict[
        Annotated[bytes, msgspec.Meta(min_length=8, max_length=36)],
        Annotated[bytes, msgspec.Meta(min_length=40, max_length=40)],
    ],
    msgspec.Meta(max_length=MAX_SKIPPED),
]


class Chain(SecretState, frozen=True):
    """CK, 32 bytes, and N, the number of the next message."""

    key: Bytes32
    number: U32


def message_name(chain: bytes, number: int) -> bytes:
    """Return what a skipped key is filed under: the chain's name and the 32-bit number."""
    return chain + number.to_bytes(4, "big")


def next_key(step: Step, chain: Chain) -> tuple[Chain, bytes]:
    """Return the chain one step on, and the key of message ``chain.number``. Raises ChainExhaustedError."""
    number = chain.number
    if number >= MAX_U32:
        raise ChainExhaustedError(f"a chain ends at message {MAX_U32}")
    following, key = step(chain.key, number)
    return Chain(following, number + 1), key


def check_jump(missing: int) -> None:
    """Refuse to skip more than 1,000 messages, before any key is derived. Raises MessageGapError."""
    if missing > MAX_JUMP:
        raise MessageGapError(f"{missing} messages are missing, more than {MAX_JUMP}")


def walk(step: Step, chain: Chain, number: int, name: bytes) -> tuple[Chain, dict[bytes, bytes]]:
    """Return the chain at ``number``, and the keys of the messages passed over, by message name."""
    passed: dict[bytes, bytes] = {}
    while chain.number < number:
        at = message_name(name, chain.number)
        chain, passed[at] = next_key(step, chain)
    return chain, passed


def remember(skipped: Skipped, passed: dict[bytes, bytes], now_ms: int) -> Skipped:
    """Return ``skipped`` with the new keys, without those over 30 days old, at most 2,000, newest kept."""
    if not passed:
        return skipped
    stamp = now_ms.to_bytes(_TIME_BYTES, "big")
    merged = {**expire(skipped, now_ms), **{name: stamp + key for name, key in passed.items()}}
    return newest(merged, MAX_SKIPPED)


def newest(skipped: Skipped, most: int) -> Skipped:
    """Return the ``most`` keys that were skipped last; the same object if there are no more."""
    surplus = len(skipped) - most
    return dict(list(skipped.items())[surplus:]) if surplus > 0 else skipped


def expire(skipped: Skipped, now_ms: int) -> Skipped:
    """Return ``skipped`` without keys over 30 days old; the same object when there are none.

    A key dated ahead, by a clock since put right, is dated anew: else it would stay for as long as that.
    """
    horizon = now_ms - MAX_SKIPPED_AGE_MS
    if not skipped or horizon <= _time_of(next(iter(skipped.values()))) <= now_ms:
        return skipped
    stamp = now_ms.to_bytes(_TIME_BYTES, "big")
    return {
        name: min(entry[:_TIME_BYTES], stamp) + entry[_TIME_BYTES:]
        for name, entry in skipped.items()
        if _time_of(entry) >= horizon
    }


def take(skipped: Skipped, name: bytes) -> tuple[Skipped, bytes] | None:
    """Return what is left without the key filed under ``name``, and that key; None if there is none."""
    entry = skipped.get(name)
    if entry is None:
        return None
    rest = skipped.copy()
    del rest[name]
    return rest, entry[_TIME_BYTES:]


def _time_of(entry: bytes) -> int:
    return int.from_bytes(entry[:_TIME_BYTES], "big")
