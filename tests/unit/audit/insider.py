"""What somebody can do who owns the server's database file, and perhaps the log's key."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

from audit.chain import genesis, leaf_hash, link
from audit.checkpoint import Checkpoint, Ed25519Signer, sign_checkpoint
from audit.entry import Entry, encode_entry, parse_entry
from audit.merkle import Edge


@contextmanager
def owning(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the file as its owner: triggers and unique indexes are gone first."""
    with closing(sqlite3.connect(path)) as connection:
        for kind, name in connection.execute(
            "SELECT type, name FROM sqlite_master WHERE type = 'trigger' "
            "OR name IN ('audit_entries_id', 'audit_checkpoints_size')"
        ).fetchall():
            connection.execute(f"DROP {kind} {name}")
        yield connection
        connection.commit()


def run(path: Path, *statements: str) -> None:
    """Run statements as the owner of the file."""
    with owning(path) as connection:
        for statement in statements:
            connection.execute(statement)


def entries(connection: sqlite3.Connection) -> list[Entry]:
    rows = connection.execute("SELECT body FROM audit_entries ORDER BY seq").fetchall()
    return [parse_entry(body) for (body,) in rows]


def rewrite(connection: sqlite3.Connection, history: Sequence[Entry]) -> None:
    """Replace all entries by ``history``, renumbered, all hashes and the head made right; no checkpoint."""
    (origin,) = connection.execute("SELECT origin FROM audit_head").fetchone()
    connection.execute("DELETE FROM audit_entries")
    chain, edge, t = genesis(origin), Edge(), 0
    for seq, entry in enumerate(history):
        placed = replace(entry, seq=seq)
        body = encode_entry(placed)
        leaf = leaf_hash(body)
        chain, edge, t = link(chain, leaf), edge.extend([leaf]), placed.t
        connection.execute(
            "INSERT INTO audit_entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*placed.columns(), body, leaf, chain),
        )
    connection.execute(
        "UPDATE audit_head SET size = ?, t = ?, chain = ?, edge = ?", (edge.size, t, chain, edge.encode())
    )


def resign(connection: sqlite3.Connection, signer: Ed25519Signer) -> None:
    """Replace all checkpoints by right ones of every size, signed by ``signer``; the head counts them."""
    rows = connection.execute("SELECT leaf, t FROM audit_entries ORDER BY seq").fetchall()
    connection.execute("DELETE FROM audit_checkpoints")
    edge, t = Edge(), 0
    for number in range(len(rows) + 1):
        if number:
            leaf, t = rows[number - 1]
            edge = edge.extend([leaf])
        note = sign_checkpoint(Checkpoint(signer.key.name, edge.size, edge.root()), signer)
        connection.execute("INSERT INTO audit_checkpoints VALUES (?, ?, ?, ?)", (number, edge.size, t, note))
    connection.execute("UPDATE audit_head SET checkpoints = ?", (len(rows) + 1,))


def rehash(
    path: Path, history: Sequence[Entry] | None = None, *, signer: Ed25519Signer | None = None
) -> None:
    """Make the log one of ``history`` (or of its present bodies), and sign it if a key is at hand."""
    with owning(path) as connection:
        rewrite(connection, entries(connection) if history is None else history)
        if signer is not None:
            resign(connection, signer)


def cut(path: Path, size: int) -> None:
    """Drop the entries from ``size`` on and make head and checkpoints as they were then."""
    with owning(path) as connection:
        rewrite(connection, entries(connection)[:size])
        connection.execute("DELETE FROM audit_checkpoints WHERE size > ?", (size,))
        connection.execute("UPDATE audit_head SET checkpoints = (SELECT count(*) FROM audit_checkpoints)")


def newest_note(path: Path) -> bytes:
    """Return the newest checkpoint, as an auditor would keep it."""
    with closing(sqlite3.connect(path)) as connection:
        note: bytes = connection.execute(
            "SELECT note FROM audit_checkpoints ORDER BY number DESC"
        ).fetchone()[0]
        return note
