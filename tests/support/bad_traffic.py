"""Two peers that write to each other over a line that loses, doubles, corrupts, reorders and delays.

The schedule follows from its seed; the keys do not, since an independent peer draws its own.
"""

import os
import random
import sys
from dataclasses import dataclass, field
from typing import Final, Protocol

MESSAGES: Final = int(os.environ.get("SECURECHAT_INTEROP_MESSAGES", "500"))
LOST: Final = 0.05  # of all messages
HELD_BACK: Final = 0.1  # delivered late, when many newer ones were opened
RELEASED: Final = 0.02  # of what is held back, at each delivery
FORGED: Final = 0.05  # of deliveries have a forgery before them
DOUBLED: Final = 0.15  # of deliveries have a replay of an older message after them
MOST_IN_A_ROW: Final = 12
LONGEST_TEXT: Final = 300  # bytes


class Peer(Protocol):
    """One side. ``refusals``: the errors by which it refuses a message."""

    @property
    def refusals(self) -> tuple[type[Exception], ...]: ...

    async def seal(self, text: bytes) -> bytes: ...

    async def open(self, raw: bytes) -> bytes: ...


class Header(Protocol):
    """Read the ratchet key and the number within its chain off a message."""

    def __call__(self, raw: bytes) -> tuple[bytes, int]: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """What both peers bear: messages of one chain, and chains of the peer behind the newest."""

    chain: int
    chains: int


@dataclass(slots=True)
class Tally:
    """What happened to the messages, both ways together."""

    sent: int = 0
    opened: int = 0
    lost: int = 0
    late: int = 0  # opened after a newer one
    replayed: int = 0  # and refused
    forged: int = 0  # and refused
    chains: int = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    place: int
    chain: int
    raw: bytes
    text: bytes
    held_back: bool


@dataclass(slots=True)
class _Way:
    """One direction."""

    sender: Peer
    receiver: Peer
    flying: list[_Sent] = field(default_factory=list)
    opened: list[bytes] = field(default_factory=list)
    ratchet_key: bytes = b""
    chain: int = 0
    number: int = -1
    count: int = 0
    newest: int = -1


class BadLine:
    """Holds a conversation of two peers whose session works both ways already."""

    def __init__(self, ours: Peer, theirs: Peer, *, header: Header, bounds: Bounds, seed: int) -> None:
        sys.stdout.write(f"schedule: SECURECHAT_INTEROP_SEED={seed}\n")
        self.dice = random.Random(seed)
        self.header = header
        self.bounds = bounds
        self.ways = (_Way(ours, theirs), _Way(theirs, ours))
        self.tally = Tally()

    async def hold(self, messages: int = MESSAGES) -> Tally:
        """Exchange so many messages. An assertion fails if one is not opened, or is opened twice."""
        while self.tally.sent < messages:
            way = self.dice.choice(self.ways)
            for _ in range(self.dice.randint(1, MOST_IN_A_ROW)):
                await self._send(way)
            for each in self.dice.sample(self.ways, 2):
                await self._deliver_some(each)
        for way in self.ways:
            while way.flying:
                await self._deliver(way, self.dice.choice(way.flying))
        self.tally.chains = sum(way.chain for way in self.ways)
        return self.tally

    async def _send(self, way: _Way) -> None:
        """Send a message, or lose it."""
        if way.number + 1 >= self.bounds.chain:
            await self._turn(way)
        sent = await self._seal(way)
        if self.dice.random() < LOST:
            self.tally.lost += 1
        else:
            way.flying.append(sent)

    async def _turn(self, way: _Way) -> None:
        """Deliver one message, and one back, after which the sender begins another chain."""
        back = next(each for each in self.ways if each is not way)
        for each in (way, back):
            sent = await self._seal(each)
            each.flying.append(sent)
            await self._deliver(each, sent)

    async def _seal(self, way: _Way) -> _Sent:
        text = self.dice.randbytes(self.dice.randint(0, LONGEST_TEXT))
        raw = await way.sender.seal(text)
        ratchet_key, way.number = self.header(raw)
        if ratchet_key != way.ratchet_key:
            way.ratchet_key, way.chain = ratchet_key, way.chain + 1
        way.count += 1
        self.tally.sent += 1
        return _Sent(way.count, way.chain, raw, text, self.dice.random() < HELD_BACK)

    async def _deliver_some(self, way: _Way) -> None:
        for _ in range(self.dice.randint(0, 2 * len(way.flying))):
            ready = [sent for sent in way.flying if not sent.held_back or self.dice.random() < RELEASED]
            if ready:
                await self._deliver(way, self.dice.choice(ready))

    async def _deliver(self, way: _Way, sent: _Sent) -> None:
        """Deliver a message, and before it those that would be too old after it."""
        for old in [each for each in way.flying if each.chain <= sent.chain - self.bounds.chains]:
            await self._open(way, old)
        if sent in way.flying:
            await self._open(way, sent)

    async def _open(self, way: _Way, sent: _Sent) -> None:
        if self.dice.random() < FORGED:
            self.tally.forged += 1
            await self._refuses(way.receiver, sent.raw[:-1] + bytes([sent.raw[-1] ^ 1]))
        assert await way.receiver.open(sent.raw) == sent.text
        way.flying.remove(sent)
        way.opened.append(sent.raw)
        self.tally.opened += 1
        self.tally.late += sent.place < way.newest
        way.newest = max(way.newest, sent.place)
        if self.dice.random() < DOUBLED:
            self.tally.replayed += 1
            await self._refuses(way.receiver, self.dice.choice(way.opened))

    async def _refuses(self, receiver: Peer, raw: bytes) -> None:
        try:
            await receiver.open(raw)
        except receiver.refusals:
            return
        raise AssertionError("a forgery or a replay was opened")
