"""Which of two sessions is current, rule by rule."""

import pytest
from msgspec.structs import replace
from support.talking import acquainted

from securechat.protocol.choice import (
    MAX_IDLE_MS,
    STRAYS_TO_HIGHER,
    STRAYS_TO_LOWER,
    Arrival,
    adopted,
    placed,
    settled,
    unswayed,
)
from securechat.protocol.records import MAX_ARCHIVED, SessionRecord, SessionState
from securechat.wire.messages import MessageKind

NOW = 1_800_000_000_000
PEER = b"P" * 96


def session(number: int, *, pending: bool = False, used_ms: int = NOW) -> SessionState:
    """A session whose id is ``number`` in every byte."""
    template = acquainted().first.record.current
    return replace(
        template,
        session_id=bytes([number]) * 32,
        pending=b"prefix" if pending else b"",
        used_ms=used_ms,
    )


LOW, MIDDLE, HIGH = session(1), session(5), session(9)


def record(current: SessionState, *archived: SessionState) -> SessionRecord:
    return SessionRecord(7, PEER, 0, current, archived)


def arrive(
    held: SessionRecord, where: SessionState, kind: MessageKind = MessageKind.RATCHET, *, late: bool = False
) -> SessionRecord:
    return settled(held, Arrival(where, where, kind, late), NOW)


@pytest.mark.parametrize(("archived", "strays"), [(LOW, STRAYS_TO_LOWER), (HIGH, STRAYS_TO_HIGHER)])
def test_an_archived_session_takes_over_after_its_number_of_strays(
    archived: SessionState, strays: int
) -> None:
    held = record(MIDDLE, archived)
    for _ in range(strays - 1):
        held = arrive(held, archived)
        assert held.current is MIDDLE
    held = arrive(held, archived)
    assert held.current is archived
    assert held.archived == (MIDDLE,)
    assert held.strays == 0
    assert held.generation == 7 + strays


def test_a_message_in_the_current_session_sets_the_strays_back() -> None:
    held = arrive(record(MIDDLE, LOW), LOW)
    held = arrive(held, MIDDLE)
    assert held.strays == 0
    assert arrive(held, LOW).current is MIDDLE


def test_messages_that_were_overtaken_do_not_count() -> None:
    held = record(MIDDLE, LOW)
    for _ in range(STRAYS_TO_HIGHER + 1):
        held = arrive(held, LOW, late=True)
    assert (held.current, held.strays) == (MIDDLE, 0)
    held = arrive(arrive(held, LOW), MIDDLE, late=True)
    assert held.strays == 1, "nor do they set the strays back"


def test_while_ours_is_unanswered_one_prekey_message_of_lower_id_takes_over_at_once() -> None:
    ours = session(5, pending=True)
    for _ in range(STRAYS_TO_HIGHER + 1):
        assert arrive(record(ours, LOW), LOW).current is ours
        assert arrive(record(ours, HIGH), HIGH, MessageKind.PREKEY).current is ours, "not at once"
    assert arrive(record(ours, LOW), LOW, MessageKind.PREKEY).current is LOW
    assert arrive(record(ours, LOW), LOW, MessageKind.PREKEY, late=True).current is ours


def test_a_peer_that_writes_on_in_its_own_session_of_higher_id_is_followed_after_eight_messages() -> None:
    ours = session(5, pending=True)
    held = record(ours, HIGH)
    for _ in range(STRAYS_TO_HIGHER - 1):
        held = arrive(held, HIGH, MessageKind.PREKEY)
        held = arrive(held, HIGH)
        held = arrive(held, HIGH, MessageKind.PREKEY, late=True)
        assert held.current is ours
    held = arrive(held, HIGH, MessageKind.PREKEY)
    assert (held.current, held.archived, held.strays) == (HIGH, (ours,), 0)


def test_a_session_that_the_peer_made_anew_takes_the_place_of_an_unanswered_one() -> None:
    ours = session(5, pending=True)
    held = adopted(record(ours, MIDDLE, HIGH), HIGH)
    assert (held.current, held.archived, held.generation) == (HIGH, (ours, MIDDLE), 8)
    answered = record(MIDDLE, HIGH)
    assert adopted(answered, HIGH) is answered, "late news do not bring an old session back"
    assert adopted(held, HIGH) is held


def test_a_message_that_turns_out_to_be_old_leaves_the_choice_as_it_was() -> None:
    held = replace(record(MIDDLE, session(2), session(3), session(4), session(6)), strays=1)
    started = unswayed(held, placed(held, PEER, LOW, NOW))
    assert (started.current, started.strays, started.generation) == (MIDDLE, 1, 8)
    assert [old.session_id[0] for old in started.archived] == [1, 2, 3, 4]
    taken_over = arrive(started, started.archived[0])
    assert taken_over.current.session_id == LOW.session_id
    kept = unswayed(started, taken_over)
    assert (kept.current, kept.strays, kept.generation) == (MIDDLE, 1, 9)
    assert [old.session_id[0] for old in kept.archived] == [1, 2, 3, 4]
    assert unswayed(held, arrive(held, MIDDLE)).strays == 1


def test_a_session_of_the_peer_becomes_current_unless_ours_is_unanswered_and_lower() -> None:
    ours = session(5, pending=True)
    assert placed(record(MIDDLE), PEER, HIGH, NOW).current is HIGH
    assert placed(record(MIDDLE), PEER, LOW, NOW).current is LOW
    assert placed(record(ours), PEER, LOW, NOW).current is LOW
    kept = placed(record(ours), PEER, HIGH, NOW)
    assert kept.current is ours
    assert kept.archived == (HIGH,)


def test_a_session_that_we_start_becomes_current_even_if_the_last_is_unanswered() -> None:
    ours, again = session(5, pending=True), session(9, pending=True)
    held = placed(record(ours, LOW), PEER, again, NOW)
    assert held.current is again
    assert held.archived == (ours, LOW)
    assert held.generation == 8


def test_the_session_least_recently_used_makes_room() -> None:
    held = record(session(1))
    for number in range(2, 9):
        held = placed(held, PEER, session(number), NOW)
    assert [old.session_id[0] for old in held.archived] == [7, 6, 5, 4]
    assert len(held.archived) == MAX_ARCHIVED
    used = arrive(held, held.archived[-1])
    assert [old.session_id[0] for old in used.archived] == [4, 7, 6, 5]


def test_idle_sessions_go_and_the_current_one_stays() -> None:
    idle = session(1, used_ms=NOW - MAX_IDLE_MS - 1)
    fresh = session(2, used_ms=NOW - MAX_IDLE_MS)
    held = arrive(record(replace(MIDDLE, used_ms=0), idle, fresh), fresh)
    assert held.archived == (fresh,)
    assert held.current.session_id == MIDDLE.session_id


def test_other_keys_of_the_peer_leave_nothing_of_the_old() -> None:
    held = placed(record(MIDDLE, LOW), b"Q" * 96, HIGH, NOW)
    assert held == SessionRecord(8, b"Q" * 96, 0, HIGH, ())
