"""The product's ratchet core with a suite plugged in, as one of two peers."""

import os
from typing import Final

from securechat.errors import DecryptionError, DuplicateMessageError
from securechat.protocol import double_ratchet
from securechat.protocol.double_ratchet import RatchetState
from securechat.protocol.suite import Suite

NOW_MS: Final = 1_800_000_000_000


class CorePeer:
    """One side of a session. After a refusal its state must be the very one from before."""

    refusals: tuple[type[Exception], ...] = (DecryptionError, DuplicateMessageError)

    def __init__(self, suite: Suite, state: RatchetState, associated_data: bytes) -> None:
        self.suite = suite
        self.state = state
        self.associated_data = associated_data

    async def seal(self, text: bytes) -> bytes:
        """Return the ratchet part."""
        self.state, part = double_ratchet.encrypt(
            self.suite,
            self.state,
            text,
            associated_data=self.associated_data,
            now_ms=NOW_MS,
            random_bytes=os.urandom,
        )
        return part

    async def open(self, raw: bytes) -> bytes:
        """Return the text."""
        self.state, text = double_ratchet.decrypt(
            self.suite,
            self.state,
            self.suite.parse(raw),
            associated_data=self.associated_data,
            now_ms=NOW_MS,
        )
        return text

    def header(self, raw: bytes) -> tuple[bytes, int]:
        """Return the ratchet key and the number of a message, of either side."""
        header = self.suite.parse(raw).header
        return header.ratchet_key, header.number
