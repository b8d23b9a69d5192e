"""The window of envelopes under way: order, refusals, lanes; then any course of answers at all."""

from hypothesis import given
from hypothesis import strategies as st

from securechat.client.config import Backoff
from securechat.client.outbox_window import OutboxWindow
from securechat.client.records import OutboxEnvelope
from securechat.ids import DeviceId, MessageId, ProtocolAddress, UserId

LEE = ProtocolAddress(UserId("lee"), DeviceId(1))
KIM = ProtocolAddress(UserId("kim"), DeviceId(1))
BACKOFF = Backoff(first_s=1.0, most_s=4.0)


def envelope(position: int, to: ProtocolAddress = LEE, message: int | None = None) -> OutboxEnvelope:
    number = position if message is None else message
    return OutboxEnvelope(position, MessageId(number.to_bytes(16, "big")), to, 0)


def window_of(*envelopes: OutboxEnvelope, size: int = 4) -> OutboxWindow:
    window = OutboxWindow(size, BACKOFF)
    window.add(envelopes)
    return window


def refuse(window: OutboxWindow, refused: OutboxEnvelope, *, now_ms: int = 0, after_ms: int = 0) -> None:
    window.refused(refused.message_id, retry_after_ms=after_ms, now_ms=now_ms, jitter=1.0)


def test_it_sends_in_order_up_to_its_size() -> None:
    envelopes = [envelope(number) for number in range(1, 7)]
    window = window_of(*envelopes)
    assert window.take(0) == envelopes[:4]
    assert window.take(0) == []
    assert window.accepted(envelopes[0].message_id) == envelopes[0]
    assert window.take(0) == [envelopes[4]]
    assert window.last_position == 6


def test_an_answer_to_nothing_is_nothing() -> None:
    window = window_of(envelope(1))
    assert window.accepted(envelope(1).message_id) is None
    refuse(window, envelope(1))
    assert window.next_ms() is None


def test_a_refused_lane_starts_again_in_order_after_its_wait() -> None:
    one, two, other, three = envelope(1), envelope(2), envelope(3, KIM), envelope(4)
    window = window_of(one, two, other, three, size=3)
    assert window.take(0) == [one, two, other]
    refuse(window, one, after_ms=5_000)
    assert window.next_ms() is None, "the second envelope has no answer yet"
    assert window.take(0) == [], "the third waits behind the first"
    refuse(window, two)
    assert window.next_ms() == 5_000
    window.accepted(other.message_id)
    assert window.take(4_999) == []
    assert window.take(5_000) == [one, two, three]


def test_other_lanes_go_on_meanwhile() -> None:
    window = window_of(envelope(1), size=2)
    window.take(0)
    refuse(window, envelope(1))
    window.add([envelope(2), envelope(3, KIM)])
    assert window.take(0) == [envelope(3, KIM)]


def test_waits_grow_until_a_success() -> None:
    one = envelope(1)
    window = window_of(one)
    at = 0
    for wait_ms in (1_000, 2_000, 4_000, 4_000):
        assert window.take(at) == [one]
        refuse(window, one, now_ms=at)
        assert window.next_ms() == at + wait_ms
        at += wait_ms
    window.take(at)
    window.accepted(one.message_id)
    window.add([envelope(2)])
    window.take(at)
    refuse(window, envelope(2), now_ms=at)
    assert window.next_ms() == at + 1_000


def test_one_message_is_under_way_to_one_device_at_a_time() -> None:
    first, second, later = envelope(1, LEE, 9), envelope(2, KIM, 9), envelope(3, KIM, 10)
    window = window_of(first, second, later)
    assert window.take(0) == [first]
    assert window.accepted(first.message_id) == first
    assert window.take(0) == [second, later]


def test_a_dropped_envelope_frees_its_place() -> None:
    window = window_of(envelope(1), envelope(2), size=1)
    assert window.take(0) == [envelope(1)]
    assert window.dropped(envelope(1).message_id) == envelope(1)
    assert window.take(0) == [envelope(2)]
    assert window.in_flight == 1


@given(
    lanes=st.lists(st.sampled_from([LEE, KIM]), min_size=1, max_size=20),
    size=st.integers(1, 5),
    data=st.data(),
)
def test_whatever_the_answers_each_lane_is_accepted_in_order(
    lanes: list[ProtocolAddress], size: int, data: st.DataObject
) -> None:
    """A server with the relay's order rule, answering late and refusing at will."""
    window = OutboxWindow(size, BACKOFF)
    window.add(envelope(number + 1, to) for number, to in enumerate(lanes))
    unanswered: list[OutboxEnvelope] = []
    held: dict[ProtocolAddress, MessageId] = {}
    accepted: list[OutboxEnvelope] = []
    refusals_left, now_ms = 12, 0
    for _ in range(400):
        unanswered += window.take(now_ms)
        assert len(unanswered) == window.in_flight <= size
        if not unanswered:
            wake_ms = window.next_ms()
            if wake_ms is None:
                break
            now_ms = max(now_ms, wake_ms)
            continue
        answered = unanswered.pop(0)
        on_hold = held.get(answered.address, answered.message_id) != answered.message_id
        if on_hold or (refusals_left and data.draw(st.booleans())):
            refusals_left -= not on_hold
            held.setdefault(answered.address, answered.message_id)
            refuse(window, answered, now_ms=now_ms)
        else:
            held.pop(answered.address, None)
            assert window.accepted(answered.message_id) == answered
            accepted.append(answered)
    for lane in (LEE, KIM):
        positions = [found.position for found in accepted if found.address == lane]
        assert positions == [number + 1 for number, to in enumerate(lanes) if to == lane]
