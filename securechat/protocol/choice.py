"""Which of several sessions with one device is current (Sesame specification, section 3).

The current session sends, the archived ones still receive. Two come up at once when both sides start one
before they hear of the other's, and when a side that lost its state starts anew. The rules, the same on both
sides (docs/format/records.md):

- a session that the peer starts becomes current, unless our own is still unanswered and has the lower id;
- while our own is unanswered, a prekey message in an archived session of lower id makes that one current, and
  eight of them do in one of higher id: the peer writes there, so it cannot open ours;
- the peer may say so itself (``adopted``), and then the first one does;
- once ours is answered, two messages in an archived session of lower id make that one current, or eight in
  one of higher id, with none in the current session between them. Messages that others overtook do not count;
- a message older than others that the peer's device has sent, by the counter in its content, changes nothing
  of this (``unswayed``): a relay may have held it back until a thief of that time knows its session.
"""

from typing import Final

import msgspec
from msgspec.structs import replace

from securechat.protocol.records import MAX_ARCHIVED, SessionRecord, SessionState
from securechat.wire.messages import MessageKind

MAX_IDLE_MS: Final = 30 * 86_400_000  # an archived session in which nothing was opened for so long is dropped
MAX_UNANSWERED_MS: Final = 30 * 86_400_000  # the peer keeps the prekeys of a start for about so long
STRAYS_TO_LOWER: Final = 2
STRAYS_TO_HIGHER: Final = 8  # more, so that two sides that change at the same time do not pass each other


class Arrival(msgspec.Struct, frozen=True, gc=False):
    """A message that opened in a held session: the session before and after, and how the message came.

    ``late``: it was overtaken by another; such a message says nothing about the peer's choice today.
    """

    before: SessionState
    after: SessionState
    kind: MessageKind
    late: bool


def settled(record: SessionRecord, arrival: Arrival, now_ms: int) -> SessionRecord:
    """Return the record after ``arrival``."""
    generation = record.generation + 1
    current, archived = record.current, _not_idle(record.archived, now_ms)
    if arrival.before is current:
        strays = record.strays if arrival.late else 0
        return replace(record, generation=generation, strays=strays, current=arrival.after, archived=archived)
    others = tuple(session for session in archived if session is not arrival.before)
    says_nothing = arrival.late or (current.pending and arrival.kind is not MessageKind.PREKEY)
    strays = record.strays if says_nothing else record.strays + 1
    if _takes_over(current, arrival, strays):
        return SessionRecord(generation, record.peer, 0, arrival.after, (current, *others))
    return SessionRecord(generation, record.peer, strays, current, (arrival.after, *others))


def placed(record: SessionRecord | None, peer: bytes, session: SessionState, now_ms: int) -> SessionRecord:
    """Return the record with a new session; sessions that belong to other keys of the peer go.

    ``peer``: the peer's three public keys, 96 bytes.
    """
    if record is None or record.peer != peer:
        return SessionRecord(1 if record is None else record.generation + 1, peer, 0, session, ())
    generation, current = record.generation + 1, record.current
    archived = _not_idle(record.archived, now_ms)
    if current.pending and not session.pending and current.session_id < session.session_id:
        kept = (session, *archived)[:MAX_ARCHIVED]
        return SessionRecord(generation, peer, record.strays, current, kept)
    return SessionRecord(generation, peer, 0, session, (current, *archived)[:MAX_ARCHIVED])


def unswayed(before: SessionRecord, after: SessionRecord) -> SessionRecord:
    """Return ``after``, the record with an old message opened, with the choice as in ``before``.

    The session that was current stays so, and the message does not count as a stray. Both records belong to
    the same keys of the peer.
    """
    name = before.current.session_id
    if after.current.session_id == name:
        return replace(after, strays=before.strays)
    current = next(session for session in after.archived if session.session_id == name)
    others = tuple(session for session in after.archived if session is not current)
    return replace(after, strays=before.strays, current=current, archived=(after.current, *others))


def adopted(record: SessionRecord, session: SessionState) -> SessionRecord:
    """Return the record after the peer has said, in ``session`` of its own, that it made that one anew.

    If our current one is still unanswered, the peer could not open it, and it gives way whatever the ids say.
    """
    current = record.current
    if session is current or not current.pending:
        return record
    others = tuple(held for held in record.archived if held is not session)
    return SessionRecord(record.generation + 1, record.peer, 0, session, (current, *others))


def is_forsaken(record: SessionRecord, now_ms: int) -> bool:
    """Say whether the current session is our own and unanswered for over 30 days: the peer cannot open it."""
    current = record.current
    return bool(current.pending) and abs(now_ms - current.created_ms) > MAX_UNANSWERED_MS


def without_idle(record: SessionRecord, now_ms: int) -> SessionRecord:
    """Return the record without the archived sessions that are idle; the same object when there are none."""
    archived = _not_idle(record.archived, now_ms)
    if len(archived) == len(record.archived):
        return record
    return replace(record, generation=record.generation + 1, archived=archived)


def _takes_over(current: SessionState, arrival: Arrival, strays: int) -> bool:
    lower = arrival.after.session_id < current.session_id
    if arrival.late:
        return False
    if current.pending and arrival.kind is not MessageKind.PREKEY:
        return False
    needed = 1 if current.pending else STRAYS_TO_LOWER
    return strays >= (needed if lower else STRAYS_TO_HIGHER)


def _not_idle(sessions: tuple[SessionState, ...], now_ms: int) -> tuple[SessionState, ...]:
    if not sessions:
        return sessions
    return tuple(session for session in sessions if now_ms - session.used_ms <= MAX_IDLE_MS)
