"""Two devices against a hostile network: a state machine that knows what must come out.

The network delivers in any order, loses, repeats and changes messages; devices crash before and after they
store; days pass; either side starts a session anew. Whatever happens, each message opens once and gives its
text, and nothing else changes a record.
"""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from support.talking import Party, strangers

from securechat.errors import CryptoError, SessionError, WireError
from securechat.protocol.records import MAX_ARCHIVED

HOUR_MS = 3_600_000
MAX_STARTS = MAX_ARCHIVED + 1  # so that no session is pushed out, and every message has to open
MAX_HOURS = 24 * 25  # bundles and skipped keys stay valid throughout
REFUSALS = (CryptoError, SessionError, WireError)
INDEX = st.integers(min_value=0, max_value=10_000)


class TwoDevices(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.pair = strangers(one_time=2)
        self.parties = (self.pair.first, self.pair.second)
        self.flying: list[tuple[int, bytes, bytes]] = []  # receiver, message, text
        self.opened: list[tuple[int, bytes]] = []
        self.hours = 0
        self.starts = 0
        self.count = 0

    @precondition(lambda self: self.starts < MAX_STARTS)
    @rule(side=st.integers(0, 1))
    def start_a_session(self, side: int) -> None:
        self.starts += 1
        self.parties[side].start(self.parties[1 - side].bundle())

    @rule(side=st.integers(0, 1), count=st.sampled_from([1, 1, 1, 2, 5, 30]))
    def send(self, side: int, count: int) -> None:
        if self.parties[side].stored is None:
            self.start_a_session(side)
        for _ in range(count):
            self.count += 1
            text = b"text %d" % self.count
            self.flying.append((1 - side, self.parties[side].send(text), text))

    @precondition(lambda self: self.flying)
    @rule(at=INDEX)
    def deliver_any(self, at: int) -> None:
        self._deliver(at % len(self.flying))

    @precondition(lambda self: self.flying)
    @rule(count=st.sampled_from([1, 3, 40]))
    def deliver_in_order(self, count: int) -> None:
        for _ in range(min(count, len(self.flying))):
            self._deliver(0)

    @precondition(lambda self: self.flying)
    @rule(at=INDEX)
    def lose(self, at: int) -> None:
        del self.flying[at % len(self.flying)]

    @precondition(lambda self: self.opened)
    @rule(at=INDEX)
    def replay(self, at: int) -> None:
        side, raw = self.opened[at % len(self.opened)]
        self._refused(self.parties[side], raw)

    @precondition(lambda self: self.flying)
    @rule(at=INDEX, place=INDEX, change=st.integers(1, 255))
    def change_a_byte(self, at: int, place: int, change: int) -> None:
        side, raw, _ = self.flying[at % len(self.flying)]
        place %= len(raw)
        self._refused(self.parties[side], raw[:place] + bytes([raw[place] ^ change]) + raw[place + 1 :])

    @precondition(lambda self: self.flying)
    @rule(at=INDEX)
    def return_to_sender(self, at: int) -> None:
        side, raw, _ = self.flying[at % len(self.flying)]
        self._refused(self.parties[1 - side], raw)

    @precondition(lambda self: self.flying)
    @rule(at=INDEX)
    def crash_before_the_opened_message_is_stored(self, at: int) -> None:
        side, raw, text = self.flying[at % len(self.flying)]
        party = self.parties[side]
        stored, pool = party.stored, party.pool
        assert party.receive(raw) == text
        party.stored, party.pool = stored, pool

    @rule(side=st.integers(0, 1))
    def crash_before_the_sealed_message_is_stored(self, side: int) -> None:
        party = self.parties[side]
        if party.stored is not None:
            stored = party.stored
            party.send(b"never left")
            party.stored = stored

    @precondition(lambda self: self.hours < MAX_HOURS)
    @rule(hours=st.sampled_from([1, 24, 24, 72]))
    def let_time_pass(self, hours: int) -> None:
        self.hours += hours
        self.pair.pass_time(hours * HOUR_MS)

    @invariant()
    def records_are_canonical(self) -> None:
        for party in self.parties:
            if party.stored is not None:
                assert len(party.record.archived) <= MAX_ARCHIVED

    def teardown(self) -> None:
        while self.flying:
            self._deliver(len(self.flying) // 2)
        if all(party.stored is not None for party in self.parties):
            self._agree()

    def _agree(self) -> None:
        """After some messages to and fro both send in the same session and in the same PQ epoch."""
        for number in range(12):
            for sender, receiver in (self.parties, self.parties[::-1]):
                text = b"settling %d" % number
                assert receiver.receive(sender.send(text)) == text
        first, second = (party.record.current for party in self.parties)
        assert first.session_id == second.session_id
        assert not first.pending
        assert not second.pending

    def _deliver(self, at: int) -> None:
        side, raw, text = self.flying.pop(at)
        assert self.parties[side].receive(raw) == text
        self.opened.append((side, raw))

    def _refused(self, party: Party, raw: bytes) -> None:
        before, pool = party.stored, party.pool
        with pytest.raises(REFUSALS):
            party.receive(raw)
        assert party.stored == before
        assert party.pool is pool


TestTwoDevices = TwoDevices.TestCase
TestTwoDevices.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
