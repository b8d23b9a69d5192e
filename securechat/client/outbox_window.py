"""Which envelopes are on their way (docs/reference/relay-protocol.md, "Order"); pure, for one connection.

Up to ``size`` envelopes are sent and not yet answered, in the order of the outbox. After a retryable refusal
the recipient's lane stops: the server refuses the lane's later envelopes too, and once all of them are
answered and the wait is over, the lane is sent again from its first one. Other lanes go on.
"""

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from securechat.client.config import Backoff
from securechat.client.records import OutboxEnvelope
from securechat.ids import MessageId, ProtocolAddress


@dataclass(slots=True)
class _Lane:
    """One recipient device: what is under way, what waits after a refusal, and until when."""

    in_flight: int = 0
    waiting: list[OutboxEnvelope] = field(default_factory=list)
    stopped_until_ms: int | None = None
    refusals: int = 0


class OutboxWindow:
    """The envelopes of one connection. Times are milliseconds of any one clock."""

    def __init__(self, size: int, backoff: Backoff) -> None:
        self._size = size
        self._backoff = backoff
        self._ready: list[tuple[int, OutboxEnvelope]] = []  # a heap, by position
        self._in_flight: dict[MessageId, OutboxEnvelope] = {}
        self._lanes: dict[ProtocolAddress, _Lane] = {}
        self.last_position = 0

    @property
    def wants_more(self) -> bool:
        """Whether more of the outbox should be read: fewer envelopes are ready than fit the window."""
        return len(self._ready) < self._size

    @property
    def in_flight(self) -> int:
        """How many envelopes are sent and not answered."""
        return len(self._in_flight)

    def add(self, envelopes: Iterable[OutboxEnvelope]) -> None:
        """Take the next envelopes of the outbox, in ascending order after ``last_position``."""
        for envelope in envelopes:
            heapq.heappush(self._ready, (envelope.position, envelope))
            self.last_position = max(self.last_position, envelope.position)

    def take(self, now_ms: int) -> list[OutboxEnvelope]:
        """Return what is to be sent now, in order; it counts as under way from here on.

        One message id is never under way twice, so that an answer, which names the id alone, is clear.
        """
        self._restart_lanes(now_ms)
        taken: list[OutboxEnvelope] = []
        while self._ready and len(self._in_flight) < self._size:
            envelope = self._ready[0][1]
            lane = self._lanes.setdefault(envelope.address, _Lane())
            if lane.stopped_until_ms is None and envelope.message_id in self._in_flight:
                break
            heapq.heappop(self._ready)
            if lane.stopped_until_ms is not None:
                lane.waiting.append(envelope)
                continue
            lane.in_flight += 1
            self._in_flight[envelope.message_id] = envelope
            taken.append(envelope)
        return taken

    def accepted(self, message_id: MessageId) -> OutboxEnvelope | None:
        """Return the envelope that the server has accepted, or None for an answer to nothing."""
        envelope = self._answered(message_id)
        if envelope is not None:
            self._lanes[envelope.address].refusals = 0
        return envelope

    def refused(self, message_id: MessageId, *, retry_after_ms: int, now_ms: int, jitter: float) -> None:
        """Put a refused envelope back and stop its lane for a while; ``jitter`` is from 0 to 1."""
        envelope = self._answered(message_id)
        if envelope is None:
            return
        lane = self._lanes[envelope.address]
        lane.waiting.append(envelope)
        if lane.stopped_until_ms is None:
            lane.refusals += 1
            wait_ms = int(self._backoff.ceiling_s(lane.refusals) * 1_000 * jitter)
            lane.stopped_until_ms = now_ms + max(retry_after_ms, wait_ms)
        else:
            lane.stopped_until_ms = max(lane.stopped_until_ms, now_ms + retry_after_ms)

    def dropped(self, message_id: MessageId) -> OutboxEnvelope | None:
        """Return the envelope that will never be accepted, or None for an answer to nothing."""
        return self._answered(message_id)

    def next_ms(self) -> int | None:
        """Return when a stopped lane may go on, or None if none waits for time alone."""
        times = [
            lane.stopped_until_ms
            for lane in self._lanes.values()
            if lane.stopped_until_ms is not None and lane.in_flight == 0
        ]
        return min(times, default=None)

    def _answered(self, message_id: MessageId) -> OutboxEnvelope | None:
        envelope = self._in_flight.pop(message_id, None)
        if envelope is not None:
            self._lanes[envelope.address].in_flight -= 1
        return envelope

    def _restart_lanes(self, now_ms: int) -> None:
        for lane in self._lanes.values():
            if lane.stopped_until_ms is None or lane.in_flight or now_ms < lane.stopped_until_ms:
                continue
            for envelope in lane.waiting:
                heapq.heappush(self._ready, (envelope.position, envelope))
            lane.waiting.clear()
            lane.stopped_until_ms = None
