"""Checks what a run of senders and receivers saw, in the words of Jepsen's queue checkers.

*lost*: accepted and never handed to the application; *unexpected*: handed over though nobody sent it, or to
somebody else; *duplicated*: handed over twice; *recovered*: handed over though its send was never answered,
which is allowed. *reordered*: overtaken by a later message of the same sender to the same receiver.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

Address = Hashable


@dataclass(frozen=True)
class Verdict:
    """What the checker found; ``ok`` allows for *recovered* only."""

    lost: list[bytes]
    unexpected: list[bytes]
    duplicated: list[bytes]
    reordered: list[bytes]
    recovered: list[bytes]
    received: int

    @property
    def ok(self) -> bool:
        return not (self.lost or self.unexpected or self.duplicated or self.reordered)


@dataclass
class History:
    """One run: what senders meant to send, in order, what was accepted, what receivers handed over."""

    attempts: dict[tuple[Address, Address], list[bytes]] = field(default_factory=lambda: defaultdict(list))
    accepted: set[bytes] = field(default_factory=set)
    handed: list[tuple[Address, Address, bytes]] = field(default_factory=list)

    def attempt(self, sender: Address, receiver: Address, body: bytes) -> None:
        """``sender`` means to send ``body``, which is different from all others."""
        self.attempts[sender, receiver].append(body)

    def accept(self, body: bytes) -> None:
        """The server accepted ``body``."""
        self.accepted.add(body)

    def hand_over(self, sender: Address, receiver: Address, body: bytes) -> None:
        """The application of ``receiver`` got ``body``."""
        self.handed.append((sender, receiver, body))

    def check(self) -> Verdict:
        """Judge the whole run, after everything has come to rest."""
        counts = Counter(body for _, _, body in self.handed)
        return Verdict(
            lost=[body for body in self.accepted if body not in counts],
            unexpected=[b for s, r, b in self.handed if b not in self.attempts[s, r]],
            duplicated=[body for body, n in counts.items() if n > 1],
            reordered=list(self._reordered()),
            recovered=[body for body in counts if body not in self.accepted],
            received=len(counts),
        )

    def _reordered(self) -> Iterable[bytes]:
        for pair, bodies in self.attempts.items():
            place = {body: number for number, body in enumerate(bodies)}
            highest = -1
            for sender, receiver, body in self.handed:
                if (sender, receiver) == pair and body in place:
                    if place[body] < highest:
                        yield body
                    highest = max(highest, place[body])
