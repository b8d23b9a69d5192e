"""Token buckets: a burst, then the rate; each key by itself; headers that tell the truth."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.server_parts import HandClock

from securechat.web.errors import RateLimitedError
from securechat.web.rate_limits import RateLimit, RateLimiter

LIMIT = RateLimit("test", burst=5, window_s=50)


def drain(limiter: RateLimiter, key: str = "k") -> int:
    taken = 0
    while True:
        try:
            limiter.take(key)
        except RateLimitedError:
            return taken
        taken += 1


def test_a_burst_is_given_and_then_nothing() -> None:
    assert drain(RateLimiter(LIMIT, HandClock())) == 5


def test_a_token_comes_back_exactly_when_the_refusal_said() -> None:
    clock = HandClock()
    limiter = RateLimiter(LIMIT, clock)
    drain(limiter)
    with pytest.raises(RateLimitedError) as refused:
        limiter.take("k")
    assert refused.value.retry_after_ms == 10_000
    clock.now_ms += refused.value.retry_after_ms
    limiter.take("k")
    with pytest.raises(RateLimitedError):
        limiter.take("k")


def test_keys_do_not_share_a_bucket() -> None:
    limiter = RateLimiter(LIMIT, HandClock())
    drain(limiter, "a")
    assert drain(limiter, "b") == 5


def test_a_clock_that_goes_back_gives_nothing_away_and_takes_nothing() -> None:
    clock = HandClock()
    limiter = RateLimiter(LIMIT, clock)
    limiter.take("k")
    clock.advance(-3600)
    assert drain(limiter) == 4


def test_the_headers_name_quota_window_rest_and_reset() -> None:
    allowance = RateLimiter(LIMIT, HandClock()).take("k")
    assert allowance.headers() == (
        ("RateLimit-Policy", '"test";q=5;w=50'),
        ("RateLimit", '"test";r=4;t=10'),
    )


def test_a_refusal_carries_the_headers_too() -> None:
    limiter = RateLimiter(LIMIT, HandClock())
    drain(limiter)
    with pytest.raises(RateLimitedError) as refused:
        limiter.take("k")
    assert dict(refused.value.headers)["RateLimit"].startswith('"test";r=0;')


def test_many_keys_take_bounded_memory_and_a_busy_one_is_not_forgotten() -> None:
    limiter = RateLimiter(LIMIT, HandClock(), max_keys=10)
    for number in range(100):
        if number % 5 == 0 and number < 25:
            limiter.take("busy")
        limiter.take(f"passer-by {number}")
    assert len(limiter._buckets) == 10


@given(st.lists(st.integers(0, 30_000), max_size=60))
def test_no_pattern_gets_more_than_the_burst_and_the_rate(waits: list[int]) -> None:
    clock = HandClock()
    limiter = RateLimiter(LIMIT, clock)
    given_out = 0
    for wait in waits:
        clock.now_ms += wait
        try:
            limiter.take("k")
        except RateLimitedError:
            continue
        given_out += 1
    assert given_out <= 5 + sum(waits) / 10_000
