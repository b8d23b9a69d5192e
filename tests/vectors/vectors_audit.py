"""Golden vectors of the audit log: three entries, their hashes, trees, checkpoints and proofs.

The log's key has the seed 0x07 repeated 32 times.
"""

from itertools import accumulate
from typing import Final

from audit.catalogue import EventType
from audit.chain import genesis, leaf_hash, link
from audit.checkpoint import Checkpoint, Ed25519Signer, sign_checkpoint
from audit.entry import Entry, encode_entry
from audit.event import Actor, ActorKind, AuditEvent, ObjectRef, Outcome, PolicyRef, Purpose
from audit.merkle import prove_consistency, prove_inclusion, root_of

ORIGIN: Final = "clinic.example/audit"
SEED: Final = b"\x07" * 32
START_US: Final = 1_795_000_000_000_000


def build() -> dict[str, object]:
    """Return the file of this module."""
    return {"audit.json": _log()}


def _log() -> dict[str, object]:
    signer = Ed25519Signer(ORIGIN, SEED)
    bodies = [encode_entry(Entry(seq, START_US + seq, event)) for seq, event in enumerate(_events())]
    leaves = [leaf_hash(body) for body in bodies]
    chain = list(accumulate(leaves, link, initial=genesis(ORIGIN)))[1:]
    notes = [
        sign_checkpoint(Checkpoint(ORIGIN, size, root_of(leaves[:size])), signer)
        for size in range(len(leaves) + 1)
    ]
    return {
        "origin": ORIGIN,
        "seed": SEED.hex(),
        "vkey": signer.key.encode(),
        "genesis": genesis(ORIGIN).hex(),
        "entries": [
            {"body": body.decode(), "leaf": leaf.hex(), "chain": value.hex()}
            for body, leaf, value in zip(bodies, leaves, chain, strict=True)
        ],
        "checkpoints": [
            {"size": size, "root": root_of(leaves[:size]).hex(), "note": note.decode()}
            for size, note in enumerate(notes)
        ],
        "inclusion": [
            {"index": index, "size": 3, "proof": [node.hex() for node in prove_inclusion(leaves, index)]}
            for index in range(3)
        ],
        "consistency": [
            {"old_size": old, "size": 3, "proof": [node.hex() for node in prove_consistency(leaves, old)]}
            for old in range(1, 4)
        ],
    }


def _events() -> tuple[AuditEvent, ...]:
    """Return the smallest event, one that was refused, and one with every field."""
    return (
        AuditEvent(
            id="01a1ee56-5e00-7000-8000-000000000000",
            type=EventType.SERVICE_START,
            outcome=Outcome.OK,
            actor=Actor(id="n1", kind=ActorKind.SYSTEM),
        ),
        AuditEvent(
            id="01a1ee56-5e01-7000-8000-000000000001",
            type=EventType.AUDIT_QUERY,
            outcome=Outcome.DENY,
            actor=Actor(id="usr_4f1c", roles=("patient",), mfa=False),
            reason="default-deny",
            policy=PolicyRef("9f2c1b7d"),
            node="n1",
        ),
        AuditEvent(
            id="01a1ee56-5e02-7000-8000-000000000002",
            type=EventType.MESSAGE_SEND,
            outcome=Outcome.OK,
            actor=Actor(
                id="usr_77ab",
                kind=ActorKind.SERVICE,
                roles=("clinician", "nurse"),
                device="dev_2",
                session="ses_a1",
                mfa=True,
                on_behalf="usr_19c2",
            ),
            reason="retried",
            object=ObjectRef("mailbox", "mbx_5"),
            patient="pat_7f3a",
            org="org_3",
            site="site_12",
            purpose=Purpose.TREATMENT,
            grant="btg_9",
            policy=PolicyRef("9f2c1b7d", ("care-team", "own-mailbox")),
            node="n1",
            request_id="req-0042",
            n=3,
            te=START_US - 250,
        ),
    )
