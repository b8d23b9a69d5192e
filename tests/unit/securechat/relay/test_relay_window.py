"""The window of a connection, the frame rate and the health of a peer."""

from hypothesis import given
from hypothesis import strategies as st

from securechat.relay.flood import FrameRate, TokenBucket
from securechat.relay.health import Health, Verdict
from securechat.relay.limits import RelayLimits
from securechat.relay.window import Window, WindowLimits


@given(st.lists(st.integers(0, 500), max_size=50), st.data())
def test_a_window_never_holds_more_than_its_limits_but_always_one_message(
    sizes: list[int], data: st.DataObject
) -> None:
    window = Window(WindowLimits(messages=5, bytes=600))
    held: list[tuple[int, int]] = []
    for seq, size in enumerate(sizes, 1):
        total = sum(each for _, each in held)
        assert window.fits(size) == (not held or (len(held) < 5 and total + size <= 600))
        assert window.room == 5 - len(held)
        if window.fits(size):
            window.delivered(seq, size)
            held.append((seq, size))
        else:
            acked = data.draw(st.integers(0, seq))
            assert window.acked(acked) == sum(each <= acked for each, _ in held)
            held = [(each, n) for each, n in held if each > acked]
        assert window.empty == (not held)


def test_a_bucket_lets_a_burst_through_and_then_the_rate() -> None:
    bucket = TokenBucket(FrameRate(burst=10, per_second=5), 0.0)
    assert sum(bucket.take(0.0) for _ in range(20)) == 10
    assert sum(bucket.take(1.0) for _ in range(20)) == 5
    assert sum(bucket.take(100.0) for _ in range(20)) == 10


LIMITS = RelayLimits(ping_after_s=20.0, silent_s=45.0, stalled_s=30.0, buffered_bytes=1000)


def test_a_silent_peer_is_pinged_once_and_then_lost() -> None:
    health = Health(LIMITS, 0.0)
    assert [health.check(t, 0) for t in (10.0, 21.0, 22.0, 44.0, 46.0)] == [
        Verdict.FINE,
        Verdict.PING,
        Verdict.FINE,
        Verdict.FINE,
        Verdict.LOST,
    ]


def test_a_peer_that_answers_is_pinged_again_later() -> None:
    health = Health(LIMITS, 0.0)
    assert health.check(21.0, 0) is Verdict.PING
    health.heard(21.1)
    assert health.check(40.0, 0) is Verdict.FINE
    assert health.check(42.0, 0) is Verdict.PING


def test_a_peer_that_takes_nothing_for_long_is_lost_and_a_slow_one_is_not() -> None:
    stuck, slow = Health(LIMITS, 0.0), Health(LIMITS, 0.0)
    for second in range(1, 31):
        for health in (stuck, slow):
            health.heard(float(second))
        assert stuck.check(float(second), 500) is Verdict.FINE
        assert slow.check(float(second), 500 - second) is Verdict.FINE
    stuck.heard(31.0)
    slow.heard(31.0)
    assert stuck.check(31.0, 500) is Verdict.LOST
    assert slow.check(31.0, 469) is Verdict.FINE


def test_a_peer_for_which_too_much_waits_is_lost_at_once() -> None:
    assert Health(LIMITS, 0.0).check(0.1, 1001) is Verdict.LOST
