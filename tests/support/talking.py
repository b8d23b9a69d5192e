"""Two devices that hold a session: each keeps its record as bytes, as a store would."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from support.identities import NOW_MS, Person, RepeatableRandom, make_person

from securechat.protocol.pqxdh import PeerDevice
from securechat.protocol.records import SessionRecord, encode_record, parse_record
from securechat.protocol.session import decrypt, encrypt, start_session
from securechat.wire.prekeys import PreKeyBundle

Forward = Callable[[bytes], None]


class Party:
    """One device: its keys, its prekeys and its record about the peer."""

    def __init__(self, person: Person, peer: PeerDevice) -> None:
        self.person = person
        self.peer = peer
        self.pool = person.pool
        self.stored: bytes | None = None
        self.now_ms = NOW_MS
        self.random = RepeatableRandom(f"talking {person.local.address.user}")
        self._served = 0

    @property
    def record(self) -> SessionRecord:
        """The record, read back from its bytes."""
        assert self.stored is not None
        return parse_record(self.stored)

    def bundle(self) -> PreKeyBundle:
        """The next bundle that a server would hand out; without one-time keys once they have run out."""
        upload, at = self.person.upload, self._served
        self._served += 1
        more = at < len(upload.one_time)
        return PreKeyBundle(
            address=self.person.local.address,
            signed=upload.signed,
            kem=upload.kem_one_time[at] if more else upload.last_resort,
            one_time=upload.one_time[at] if more else None,
        )

    def start(self, bundle: PreKeyBundle) -> None:
        """Start a session from the peer's bundle."""
        old = None if self.stored is None else self.record
        record = start_session(
            self.person.local, self.peer, bundle, old, now_ms=self.now_ms, random_bytes=self.random
        )
        self.stored = encode_record(record)

    def send(self, text: bytes) -> bytes:
        """Seal ``text``, store the record, and return the message."""
        record, raw = encrypt(self.record, text, now_ms=self.now_ms, random_bytes=self.random)
        self.stored = encode_record(record)
        return raw

    def receive(self, raw: bytes) -> bytes:
        """Open a message, store record and prekeys, and return the text."""
        old = None if self.stored is None else self.record
        opened = decrypt(self.person.local, self.peer, old, self.pool, raw, now_ms=self.now_ms)
        self.stored, self.pool = encode_record(opened.record), opened.prekeys
        return opened.plaintext


@dataclass(frozen=True, slots=True)
class Pair:
    """Two parties; ``first`` is the one that starts in most tests."""

    first: Party
    second: Party

    def pass_time(self, milliseconds: int) -> None:
        """Let the clocks of both go on."""
        for party in (self.first, self.second):
            party.now_ms += milliseconds


def strangers(*, one_time: int = 2) -> Pair:
    """Two devices without a session."""
    first, second = _people(one_time)
    return Pair(Party(first, second.peer), Party(second, first.peer))


def acquainted(*, one_time: int = 2) -> Pair:
    """Two devices whose session both have used."""
    pair = strangers(one_time=one_time)
    pair.first.start(pair.second.bundle())
    pair.second.receive(pair.first.send(b"first"))
    pair.first.receive(pair.second.send(b"second"))
    return pair


def turns(pair: Pair, pattern: Iterable[bool], note: Forward | None = None) -> None:
    """Send one message for each element, from ``first`` where it is true, and deliver it at once."""
    for number, from_first in enumerate(pattern):
        sender, receiver = (pair.first, pair.second) if from_first else (pair.second, pair.first)
        text = b"message %d" % number
        raw = sender.send(text)
        if note is not None:
            note(raw)
        assert receiver.receive(raw) == text


_made: dict[int, tuple[Person, Person]] = {}


def _people(one_time: int) -> tuple[Person, Person]:
    """Make the two people once for each size of pool: a hundred KEM keys take their time."""
    if one_time not in _made:
        _made[one_time] = (make_person("pat", one_time=one_time), make_person("lee", one_time=one_time))
    first, second = _made[one_time]
    return replace(first), replace(second)
