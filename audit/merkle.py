"""The Merkle tree of RFC 6962, section 2.1: roots by the right edge, and the making of proofs.

The right edge of a tree of n leaves is one subtree hash for each set bit of n, largest first: all that is
needed to append and to compute the root. Checking proofs is ``audit.proof``, which shares no code with this
module.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from audit.chain import HASH_SIZE
from audit.errors import InconsistentLogError, ProofError

EMPTY_ROOT: Final = sha256(b"").digest()


@dataclass(frozen=True, slots=True)
class Edge:
    """Right edge of a tree of ``size`` leaves: subtree roots of 32 bytes, the largest (leftmost) first."""

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def extend(self, leaves: Iterable[bytes]) -> "Edge":
        """Return the edge after appending leaf hashes in order."""
        hashes = list(self.hashes)
        size = self.size
        for leaf in leaves:
            node = leaf
            bits = size
            while bits & 1:
                node = sha256(b"\x01" + hashes.pop() + node).digest()
                bits >>= 1
            hashes.append(node)
            size += 1
        return Edge(size, tuple(hashes))

    def root(self) -> bytes:
        """Return the 32-byte root of the tree."""
        if not self.hashes:
            return EMPTY_ROOT
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = node_hash(left, node)
        return node

    def encode(self) -> bytes:
        """Return the hashes one after another: 32 bytes for each set bit of the size."""
        return b"".join(self.hashes)

    @classmethod
    def decode(cls, size: int, data: bytes) -> "Edge":
        """Parse what ``encode`` wrote. Raises InconsistentLogError if the length does not fit the size."""
        if size < 0 or len(data) != HASH_SIZE * size.bit_count():
            raise InconsistentLogError(f"an edge of {len(data)} bytes does not belong to a tree of {size}")
        hashes = tuple(data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE))
        return cls(size, hashes)


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return SHA-256(0x01 || left || right), an inner node."""
    return sha256(b"\x01" + left + right).digest()


def root_of(leaves: Sequence[bytes]) -> bytes:
    """Return the root of a tree over all ``leaves`` (leaf hashes, 32 bytes each)."""
    return Edge().extend(leaves).root()


def prove_inclusion(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the audit path of leaf ``index`` under ``leaves`` (RFC 6962, 2.1.1), lowest node first.

    Raises ProofError if the index lies outside the tree.
    """
    if not 0 <= index < len(leaves):
        raise ProofError(f"leaf {index} is not in a tree of {len(leaves)}")
    if len(leaves) == 1:
        return ()
    split = _split(len(leaves))
    if index < split:
        return (*prove_inclusion(leaves[:split], index), root_of(leaves[split:]))
    return (*prove_inclusion(leaves[split:], index - split), root_of(leaves[:split]))


def prove_consistency(leaves: Sequence[bytes], old_size: int) -> tuple[bytes, ...]:
    """Return the proof that the tree of the first ``old_size`` leaves is a prefix (RFC 6962, 2.1.2).

    Raises ProofError unless 1 <= old_size <= len(leaves): nothing can be proved of an empty tree.
    """
    if not 1 <= old_size <= len(leaves):
        raise ProofError(f"no tree of {old_size} leaves precedes one of {len(leaves)}")
    return _subproof(leaves, old_size, whole=True)


def _subproof(leaves: Sequence[bytes], old_size: int, *, whole: bool) -> tuple[bytes, ...]:
    """SUBPROOF of RFC 6962, 2.1.2; ``whole`` says that the old tree's root is known to the checker."""
    if old_size == len(leaves):
        return () if whole else (root_of(leaves),)
    split = _split(len(leaves))
    if old_size <= split:
        return (*_subproof(leaves[:split], old_size, whole=whole), root_of(leaves[split:]))
    return (*_subproof(leaves[split:], old_size - split, whole=False), root_of(leaves[:split]))


def _split(size: int) -> int:
    """Return the largest power of two smaller than ``size`` (at least 2)."""
    return 1 << ((size - 1).bit_length() - 1)
