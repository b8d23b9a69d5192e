"""The frame rate of one connection: a token bucket on a monotonic clock."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FrameRate:
    """How many frames a connection may send: ``burst`` at once, ``per_second`` in the long run."""

    burst: int = 4000
    per_second: int = 2000


class TokenBucket:
    """Holds at most ``burst`` tokens; a frame takes one."""

    __slots__ = ("_rate", "_tokens", "_when")

    def __init__(self, rate: FrameRate, now_s: float) -> None:
        self._rate = rate
        self._tokens = float(rate.burst)
        self._when = now_s

    def take(self, now_s: float) -> bool:
        """Take a token; False if there is none. ``now_s`` must not go back."""
        refilled = self._tokens + (now_s - self._when) * self._rate.per_second
        self._tokens = min(refilled, float(self._rate.burst))
        self._when = now_s
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
