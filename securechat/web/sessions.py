"""Server-side sessions of the REST interface: random secrets, kept as hashes, in the memory of the process.

A session ends with its token, with its device, by log-out, and when the process ends.
"""

import hashlib
from collections import OrderedDict
from typing import Final

from securechat.base64url import encode_base64url
from securechat.errors import SessionUnknownError
from securechat.ids import DeviceId, ProtocolAddress, UserId
from securechat.ports import Clock, RandomBytes
from securechat.web.caller import Caller
from securechat.web.errors import OverloadedError

MAX_SESSIONS: Final = 100_000
MAX_PER_DEVICE: Final = 4  # the oldest ends when a device opens one more
SECRET_BYTES: Final = 32
TAG_CHARS: Final = 16  # of the hash, for the audit log


class Sessions:
    """Open sessions by the hash of their secret."""

    def __init__(self, clock: Clock, random_bytes: RandomBytes, *, max_sessions: int = MAX_SESSIONS) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._max_sessions = max_sessions
        self._open: OrderedDict[bytes, Caller] = OrderedDict()
        self._by_device: dict[ProtocolAddress, list[bytes]] = {}

    def open(self, caller: Caller, address: ProtocolAddress) -> str:
        """Open a session for the device at ``address`` and return its secret, 43 characters.

        Raises OverloadedError when the process holds as many sessions as it may.
        """
        self._forget_expired()
        mine = self._by_device.get(address, [])
        if len(mine) >= MAX_PER_DEVICE:
            self._end(mine[0])
        if len(self._open) >= self._max_sessions:
            raise OverloadedError("too many open sessions")
        secret = encode_base64url(self._random_bytes(SECRET_BYTES))
        digest = _digest(secret)
        self._open[digest] = caller.with_session(digest.hex()[:TAG_CHARS])
        self._by_device.setdefault(address, []).append(digest)
        return secret

    def get(self, secret: str) -> Caller:
        """Return whose session ``secret`` opens. Raises SessionUnknownError."""
        digest = _digest(secret)
        caller = self._open.get(digest)
        if caller is None:
            raise SessionUnknownError("the session is not known")
        if caller.expires_ms <= self._clock():
            self._end(digest)
            raise SessionUnknownError("the session has ended")
        return caller

    def close(self, secret: str) -> None:
        """End the session of ``secret``, if it is open."""
        self._end(_digest(secret))

    def end_all(self, user: UserId, device: DeviceId | None) -> None:
        """End every session of the device, or of all devices of ``user``."""
        for address in list(self._by_device):
            if address.user == user and device in (None, address.device):
                for digest in list(self._by_device[address]):
                    self._end(digest)

    def _end(self, digest: bytes) -> None:
        caller = self._open.pop(digest, None)
        if caller is None or caller.address is None:
            return
        mine = self._by_device[caller.address]
        mine.remove(digest)
        if not mine:
            del self._by_device[caller.address]

    def _forget_expired(self) -> None:
        now_ms = self._clock()
        while self._open and next(iter(self._open.values())).expires_ms <= now_ms:
            self._end(next(iter(self._open)))


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
