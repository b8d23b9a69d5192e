"""Token buckets in the memory of one process, and the headers that tell of them.

Headers: ``RateLimit-Policy`` and ``RateLimit`` (draft-ietf-httpapi-ratelimit-headers-10).
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from securechat.ports import Clock
from securechat.web.errors import RateLimitedError

MAX_KEYS: Final = 100_000  # buckets kept; the longest untouched one, most likely full again, goes first


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A bucket of ``burst`` tokens that fills up in ``window_s`` seconds; ``name`` stands in the headers."""

    name: str
    burst: int
    window_s: int


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of one bucket, and in how many seconds it is full again."""

    limit: RateLimit
    remaining: int
    reset_s: int

    def headers(self) -> tuple[tuple[str, str], ...]:
        """Return the two RateLimit header fields."""
        name, limit = self.limit.name, self.limit
        return (
            ("RateLimit-Policy", f'"{name}";q={limit.burst};w={limit.window_s}'),
            ("RateLimit", f'"{name}";r={self.remaining};t={self.reset_s}'),
        )


class RateLimiter:
    """Buckets of one limit, by key.

    Counted in whole units so that nothing is rounded: a token is as many units as the window has
    milliseconds, and ``burst`` units come back every millisecond.
    """

    def __init__(self, limit: RateLimit, clock: Clock, *, max_keys: int = MAX_KEYS) -> None:
        self._limit = limit
        self._clock = clock
        self._max_keys = max_keys
        self._token = limit.window_s * 1000
        self._full = limit.burst * self._token
        self._buckets: OrderedDict[str, tuple[int, int]] = OrderedDict()  # units left, and when

    def take(self, key: str) -> Allowance:
        """Take one token of ``key``. Raises RateLimitedError when there is none."""
        now_ms = self._clock()
        units = self._units(key, now_ms)
        if units < self._token:
            wait_ms = -(-(self._token - units) // self._limit.burst)
            raise RateLimitedError(wait_ms, self._allowance(units).headers())
        self._keep(key, units - self._token, now_ms)
        return self._allowance(units - self._token)

    def _units(self, key: str, now_ms: int) -> int:
        units, then_ms = self._buckets.get(key, (self._full, now_ms))
        return min(self._full, units + max(0, now_ms - then_ms) * self._limit.burst)

    def _keep(self, key: str, units: int, now_ms: int) -> None:
        self._buckets[key] = (units, now_ms)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)

    def _allowance(self, units: int) -> Allowance:
        reset_s = -(-(self._full - units) // (self._limit.burst * 1000))
        return Allowance(self._limit, units // self._token, reset_s)
