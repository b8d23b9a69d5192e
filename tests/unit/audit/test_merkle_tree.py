"""The tree of RFC 6962: known roots; proofs hold for every small tree and fail for every changed hash."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.chain import genesis, leaf_hash, link
from audit.errors import InconsistentLogError, ProofError
from audit.merkle import EMPTY_ROOT, Edge, prove_consistency, prove_inclusion, root_of
from audit.proof import check_consistency, check_inclusion

# The test tree of the Certificate Transparency reference implementation (leaf data, roots by size).
_DATA = [
    bytes.fromhex(text)
    for text in (
        "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
    )
]  # fmt: skip
_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
LARGEST = 64
LEAVES = [leaf_hash(b"entry %d" % number) for number in range(LARGEST)]


def _flipped(value: bytes) -> bytes:
    return bytes([value[0] ^ 1]) + value[1:]


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_implementation(size: int) -> None:
    assert root_of([leaf_hash(data) for data in _DATA[:size]]).hex() == _ROOTS[size]


def test_the_reference_tree_has_its_known_audit_path() -> None:
    leaves = [leaf_hash(data) for data in _DATA]
    assert [node.hex() for node in prove_inclusion(leaves, 5)] == [
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ]


@pytest.mark.parametrize("size", range(1, LARGEST + 1))
def test_every_leaf_of_a_tree_is_proved_and_nothing_else_is(size: int) -> None:
    leaves = LEAVES[:size]
    root = root_of(leaves)
    for index, leaf in enumerate(leaves):
        proof = prove_inclusion(leaves, index)
        check_inclusion(leaf=leaf, index=index, size=size, proof=proof, root=root)
        for at in range(len(proof)):
            changed = (*proof[:at], _flipped(proof[at]), *proof[at + 1 :])
            with pytest.raises(ProofError):
                check_inclusion(leaf=leaf, index=index, size=size, proof=changed, root=root)
        for bad_leaf, bad_root in ((_flipped(leaf), root), (leaf, _flipped(root))):
            with pytest.raises(ProofError):
                check_inclusion(leaf=bad_leaf, index=index, size=size, proof=proof, root=bad_root)
        for other in ((*proof, root), proof[:-1] if proof else (root,)):
            with pytest.raises(ProofError):
                check_inclusion(leaf=leaf, index=index, size=size, proof=other, root=root)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 13, 64])
def test_a_leaf_is_proved_at_its_own_index_only(size: int) -> None:
    leaves = LEAVES[:size]
    root = root_of(leaves)
    for index in range(size):
        proof = prove_inclusion(leaves, index)
        for other in range(-1, size + 2):
            if other != index:
                with pytest.raises(ProofError):
                    check_inclusion(leaf=leaves[index], index=other, size=size, proof=proof, root=root)


@pytest.mark.parametrize("new", range(1, LARGEST + 1))
def test_every_older_tree_is_proved_a_prefix_and_nothing_else_is(new: int) -> None:
    leaves = LEAVES[:new]
    new_root = root_of(leaves)
    for old in range(1, new + 1):
        old_root = root_of(leaves[:old])
        proof = prove_consistency(leaves, old)
        check_consistency(old_size=old, old_root=old_root, new_size=new, new_root=new_root, proof=proof)
        for at in range(len(proof)):
            changed = (*proof[:at], _flipped(proof[at]), *proof[at + 1 :])
            with pytest.raises(ProofError):
                check_consistency(
                    old_size=old, old_root=old_root, new_size=new, new_root=new_root, proof=changed
                )
        for bad_old, bad_new in ((_flipped(old_root), new_root), (old_root, _flipped(new_root))):
            with pytest.raises(ProofError):
                check_consistency(old_size=old, old_root=bad_old, new_size=new, new_root=bad_new, proof=proof)
        for other in ((*proof, new_root), proof[:-1] if proof else (new_root,)):
            with pytest.raises(ProofError):
                check_consistency(
                    old_size=old, old_root=old_root, new_size=new, new_root=new_root, proof=other
                )


def test_nothing_is_proved_of_an_empty_tree() -> None:
    root = root_of(LEAVES[:3])
    with pytest.raises(ProofError):
        prove_consistency(LEAVES[:3], 0)
    with pytest.raises(ProofError):
        prove_inclusion([], 0)
    with pytest.raises(ProofError):
        check_consistency(old_size=0, old_root=EMPTY_ROOT, new_size=3, new_root=root, proof=())
    with pytest.raises(ProofError):
        check_inclusion(leaf=LEAVES[0], index=0, size=0, proof=(), root=LEAVES[0])


def test_a_proof_does_not_go_back_in_time() -> None:
    with pytest.raises(ProofError):
        check_consistency(
            old_size=3, old_root=root_of(LEAVES[:3]), new_size=2, new_root=root_of(LEAVES[:2]), proof=()
        )


def test_hashes_of_another_length_are_refused_even_if_both_sides_agree() -> None:
    with pytest.raises(ProofError, match="0 bytes"):
        check_inclusion(leaf=b"", index=0, size=1, proof=(), root=b"")
    with pytest.raises(ProofError, match="0 bytes"):
        check_consistency(old_size=1, old_root=b"", new_size=1, new_root=b"", proof=())
    with pytest.raises(ProofError, match="33 bytes"):
        check_inclusion(leaf=LEAVES[0], index=0, size=2, proof=(LEAVES[1] + b"x",), root=root_of(LEAVES[:2]))


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=70), st.integers(0, 70))
def test_appending_in_parts_gives_the_same_edge(leaves: list[bytes], cut: int) -> None:
    whole = Edge().extend(leaves)
    assert Edge().extend(leaves[:cut]).extend(leaves[cut:]) == whole
    assert Edge.decode(whole.size, whole.encode()) == whole
    assert len(whole.hashes) == len(leaves).bit_count()


@pytest.mark.parametrize(
    ("size", "data"), [(1, b""), (0, b"x" * 32), (3, b"x" * 32), (1, b"x" * 31), (-1, b"")]
)
def test_an_edge_of_another_size_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(InconsistentLogError):
        Edge.decode(size, data)


def test_leaf_chain_and_genesis_are_domain_separated_hashes() -> None:
    assert leaf_hash(b"x") == sha256(b"\x00x").digest()
    assert genesis("a") == sha256(b"a").digest()
    assert link(genesis("a"), leaf_hash(b"x")) == sha256(b"\x02" + genesis("a") + leaf_hash(b"x")).digest()
