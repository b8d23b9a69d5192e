"""Checking of inclusion and consistency proofs (RFC 9162, sections 2.1.3.2 and 2.1.4.2).

Shares no code with ``audit.merkle``, which makes the proofs, so that one mistake cannot hide in both.
"""

from collections.abc import Sequence
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from audit.errors import ProofError

_HASH_SIZE: Final = 32  # bytes


def check_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Return if ``leaf`` is number ``index`` of ``size`` under ``root``; else raise ProofError."""
    _require_hashes(leaf, root, *proof)
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size}")
    position, last, node = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProofError(f"{len(proof)} nodes are too many for leaf {index} of {size}")
        if position & 1 or position == last:
            node = _inner(sibling, node)
            while not position & 1 and position != 0:
                position >>= 1
                last >>= 1
        else:
            node = _inner(node, sibling)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ProofError(f"{len(proof)} nodes are too few for leaf {index} of {size}")
    _require_equal(node, root, "root")


def check_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Return if the old tree is a prefix of the new one; else raise ProofError.

    An old size of 0 is refused: every tree extends the empty one, so such a proof would state nothing.
    """
    _require_hashes(old_root, new_root, *proof)
    if not 1 <= old_size <= new_size:
        raise ProofError(f"no tree of {old_size} leaves precedes one of {new_size}")
    if old_size == new_size:
        if proof:
            raise ProofError("two trees of one size need no proof")
        _require_equal(old_root, new_root, "root")
        return
    path = list(proof)
    if old_size & (old_size - 1) == 0:  # a whole subtree: its root is the first node of the path
        path.insert(0, old_root)
    if not path:
        raise ProofError(f"no nodes are too few from {old_size} to {new_size}")
    position, last = old_size - 1, new_size - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old_node = new_node = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProofError(f"{len(proof)} nodes are too many from {old_size} to {new_size}")
        if position & 1 or position == last:
            old_node = _inner(sibling, old_node)
            new_node = _inner(sibling, new_node)
            while not position & 1 and position != 0:
                position >>= 1
                last >>= 1
        else:
            new_node = _inner(new_node, sibling)
        position >>= 1
        last >>= 1
    if last != 0:
        raise ProofError(f"{len(proof)} nodes are too few from {old_size} to {new_size}")
    _require_equal(old_node, old_root, "old root")
    _require_equal(new_node, new_root, "new root")


def _inner(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _require_hashes(*hashes: bytes) -> None:
    for each in hashes:
        if len(each) != _HASH_SIZE:
            raise ProofError(f"a hash has {len(each)} bytes instead of {_HASH_SIZE}")


def _require_equal(computed: bytes, expected: bytes, what: str) -> None:
    if not compare_digest(computed, expected):
        raise ProofError(f"the proof does not lead to the {what}")
