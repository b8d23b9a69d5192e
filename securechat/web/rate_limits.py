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
    """Buckets of one limit, by key."""

    def __init__(self, limit: RateLimit, clock: Clock, *, max_keys: int = MAX_KEYS) -> None:
        self._limit = limit
        self._clock = clock
        self._max_keys = max_keys
        self._per_ms = limit.burst / (limit.window_s * 1000)
        self._buckets: OrderedDict[str, tuple[float, int]] = OrderedDict()  # tokens left, and when

    def take(self, key: str) -> Allowance:
        """Take one token of ``key``. Raises RateLimitedError when there is none."""
        now_ms = self._clock()
        tokens = self._tokens(key, now_ms)
        if tokens < 1:
            wait_ms = int((1 - tokens) / self._per_ms) + 1
            raise RateLimitedError(wait_ms, self._allowance(tokens).headers())
        self._keep(key, tokens - 1, now_ms)
        return self._allowance(tokens - 1)

    def _tokens(self, key: str, now_ms: int) -> float:
        tokens, then_ms = self._buckets.get(key, (float(self._limit.burst), now_ms))
        return min(float(self._limit.burst), tokens + max(0, now_ms - then_ms) * self._per_ms)

    def _keep(self, key: str, tokens: float, now_ms: int) -> None:
        self._buckets[key] = (tokens, now_ms)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._max_keys:
            self._buckets.popitem(last=False)

    def _allowance(self, tokens: float) -> Allowance:
        missing = self._limit.burst - tokens
        return Allowance(self._limit, int(tokens), int(missing / self._per_ms / 1000) + (missing > 0))
