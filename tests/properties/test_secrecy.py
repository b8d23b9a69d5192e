"""What a thief of a record can read: nothing of the past, and soon nothing of the future."""

from hypothesis import given, settings
from hypothesis import strategies as st
from support.talking import Pair, Party, acquainted, turns

from securechat.errors import CryptoError, SessionError

HOUR_MS = 3_600_000
PATTERNS = st.lists(st.booleans(), max_size=25)


def opens(thief: Party, raw: bytes) -> bool:
    try:
        thief.receive(raw)
    except (CryptoError, SessionError):
        return False
    return True


def thief_of(party: Party) -> Party:
    """Whoever has the record and the keys of a device, as they are now."""
    thief = Party(party.person, party.peer)
    thief.stored, thief.pool, thief.now_ms = party.stored, party.pool, party.now_ms
    return thief


def talk(pair: Pair, before: list[bool], hours: int) -> list[bytes]:
    heard: list[bytes] = []
    turns(pair, before, heard.append)
    pair.pass_time(hours * HOUR_MS)
    turns(pair, [True, False, True, False, False], heard.append)
    return heard


@settings(max_examples=40, deadline=None)
@given(before=PATTERNS, hours=st.sampled_from([0, 24]), from_first=st.booleans())
def test_a_stolen_record_opens_nothing_that_was_said_before(
    before: list[bool], hours: int, from_first: bool
) -> None:
    pair = acquainted()
    heard = talk(pair, before, hours)
    victim = pair.first if from_first else pair.second
    assert not any(opens(thief_of(victim), raw) for raw in heard)


@settings(max_examples=40, deadline=None)
@given(before=PATTERNS, hours=st.sampled_from([0, 24]))
def test_a_message_that_was_lost_and_found_is_secret_afterwards(before: list[bool], hours: int) -> None:
    pair = acquainted()
    late = pair.first.send(b"late")
    talk(pair, before, hours)
    assert opens(thief_of(pair.second), late)
    pair.second.receive(late)
    assert not opens(thief_of(pair.second), late)


@settings(max_examples=40, deadline=None)
@given(before=PATTERNS, hours=st.sampled_from([0, 24]), after=PATTERNS)
def test_a_thief_is_locked_out_once_the_victim_has_turned_the_ratchet(
    before: list[bool], hours: int, after: list[bool]
) -> None:
    pair = acquainted()
    talk(pair, before, hours)
    thief = thief_of(pair.second)
    for from_first in (True, False, True):
        sender, receiver = (pair.first, pair.second) if from_first else (pair.second, pair.first)
        raw = sender.send(b"healing")
        if from_first:
            opens(thief, raw)
        receiver.receive(raw)
    heard: list[bytes] = []
    turns(pair, after, heard.append)
    heard.append(pair.first.send(b"healed"))
    assert not any(opens(thief, raw) for raw in heard)
