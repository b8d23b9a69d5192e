"""The golden vectors of the audit log, as another implementation would use them."""

from typing import Any

import pytest
from support.vectors import load

from audit.chain import genesis, leaf_hash, link
from audit.checkpoint import Ed25519Signer, open_checkpoint, sign_checkpoint
from audit.entry import encode_entry, parse_entry
from audit.merkle import root_of
from audit.note import parse_vkey
from audit.proof import check_consistency, check_inclusion


@pytest.fixture(scope="module")
def vectors() -> dict[str, Any]:
    loaded: dict[str, Any] = load("audit.json")
    return loaded


def test_every_entry_reads_and_hashes_as_written(vectors: dict[str, Any]) -> None:
    chain = genesis(vectors["origin"])
    assert chain.hex() == vectors["genesis"]
    for seq, each in enumerate(vectors["entries"]):
        body = each["body"].encode()
        entry = parse_entry(body)
        assert entry.seq == seq
        assert encode_entry(entry) == body
        chain = link(chain, leaf_hash(body))
        assert (leaf_hash(body).hex(), chain.hex()) == (each["leaf"], each["chain"])


def test_every_checkpoint_opens_and_is_what_the_key_signs(vectors: dict[str, Any]) -> None:
    leaves = [bytes.fromhex(each["leaf"]) for each in vectors["entries"]]
    signer = Ed25519Signer(vectors["origin"], bytes.fromhex(vectors["seed"]))
    for each in vectors["checkpoints"]:
        opened = open_checkpoint(each["note"].encode(), parse_vkey(vectors["vkey"]))
        assert (opened.size, opened.root.hex()) == (each["size"], each["root"])
        assert opened.root == root_of(leaves[: opened.size])
        assert sign_checkpoint(opened, signer).decode() == each["note"]


def test_every_proof_holds(vectors: dict[str, Any]) -> None:
    roots = [bytes.fromhex(each["root"]) for each in vectors["checkpoints"]]
    for each in vectors["inclusion"]:
        check_inclusion(
            leaf=bytes.fromhex(vectors["entries"][each["index"]]["leaf"]),
            index=each["index"],
            size=each["size"],
            proof=[bytes.fromhex(node) for node in each["proof"]],
            root=roots[each["size"]],
        )
    for each in vectors["consistency"]:
        check_consistency(
            old_size=each["old_size"],
            old_root=roots[each["old_size"]],
            new_size=each["size"],
            new_root=roots[each["size"]],
            proof=[bytes.fromhex(node) for node in each["proof"]],
        )
