"""Whether the peer of a connection is still there and takes what it is given. Times: monotonic seconds."""

from enum import Enum, auto

from securechat.relay.limits import RelayLimits


class Verdict(Enum):
    """What is to be done about a connection."""

    FINE = auto()
    PING = auto()
    LOST = auto()  # silent, or not reading what was written


class Health:
    """Judges one connection from when it was heard and how much waits to be written to it."""

    __slots__ = ("_buffered", "_heard_s", "_limits", "_pinged", "_progress_s")

    def __init__(self, limits: RelayLimits, now_s: float) -> None:
        self._limits = limits
        self._heard_s = now_s
        self._progress_s = now_s
        self._pinged = False
        self._buffered = 0

    def heard(self, now_s: float) -> None:
        """Note that something arrived."""
        self._heard_s = now_s
        self._pinged = False

    def check(self, now_s: float, buffered: int) -> Verdict:
        """Look at the connection, of which ``buffered`` bytes wait to be written."""
        limits = self._limits
        if buffered == 0 or buffered < self._buffered:
            self._progress_s = now_s
        self._buffered = buffered
        silent_s = now_s - self._heard_s
        if silent_s > limits.silent_s or buffered > limits.buffered_bytes:
            return Verdict.LOST
        if now_s - self._progress_s > limits.stalled_s:
            return Verdict.LOST
        if silent_s > limits.ping_after_s and not self._pinged:
            self._pinged = True
            return Verdict.PING
        return Verdict.FINE
