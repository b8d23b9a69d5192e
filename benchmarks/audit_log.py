"""Appends and verifications per second of the audit log, each against the floor of its own primitives.

    ./dev run benchmarks/audit_log.py [--entries 20000]

Floor of an append: the SHA-256 of leaf and chain, and the insertion of the same row without any index, in
the same transactions on the same disk. Floor of a verification: reading the rows, and leaf, chain and tree
hashes.
"""

import argparse
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from audit.catalogue import EventType
from audit.chain import genesis, leaf_hash, link
from audit.checkpoint import Ed25519Signer
from audit.entry import Entry, encode_entry
from audit.event import Actor, AuditEvent, ObjectRef, Outcome, PolicyRef, uuid7
from audit.merkle import Edge
from audit.source import connect_read_only, read_log
from audit.store import AuditLog
from audit.tables import create_schema
from audit.verify import verify

ORIGIN = "bench.example/audit"
GROUPS = (1, 10, 100, 1000)


def make_events(count: int) -> list[AuditEvent]:
    """Return events of some 20,000 actors and 100,000 patients, as a large clinic has them."""
    now = time.time_ns() // 1_000_000
    return [
        AuditEvent(
            id=uuid7(now + at // 10, os.urandom),
            type=EventType.PREKEY_FETCH,
            outcome=Outcome.OK,
            actor=Actor(
                id=f"usr_{at * 7919 % 20_000}", roles=("clinician",), device=f"dev_{at % 40_000}", mfa=True
            ),
            object=ObjectRef("mailbox", f"mbx_{at * 104_729 % 100_000}"),
            patient=f"pat_{at * 15_485_863 % 100_000}",
            org="org_1",
            policy=PolicyRef("9f2c1b7d" * 8, ("clinician-care-team",)),
            request_id=f"req_{at}",
        )
        for at in range(count)
    ]


def rate(count: int, work: Callable[[], object]) -> float:
    """Return how many per second ``work`` did."""
    started = time.perf_counter()
    work()
    return count / (time.perf_counter() - started)


def append(path: Path, events: Sequence[AuditEvent], group: int) -> float:
    """Seal ``events`` in durable commits of ``group``."""
    engine = create_engine(f"sqlite:///{path}")

    @event.listens_for(engine, "connect")
    def on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    log = AuditLog(ORIGIN, Ed25519Signer(ORIGIN, b"\x07" * 32), lambda: time.time_ns() // 1000, "n1")
    with engine.begin() as connection:
        create_schema(connection)
        log.open_log(connection)

    def seal_all() -> None:
        for at in range(0, len(events), group):
            with engine.begin() as connection:
                log.seal(connection, events[at : at + group])

    result = rate(len(events), seal_all)
    engine.dispose()
    return result


def append_floor(path: Path, events: Sequence[AuditEvent], group: int) -> float:
    """Hash and insert the same bytes in the same commits, without index, tree, signature and encoding."""
    rows = [(at, encode_entry(Entry(at, 0, each))) for at, each in enumerate(events)]
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")
        connection.execute("CREATE TABLE floor (seq INTEGER PRIMARY KEY, body BLOB, leaf BLOB, chain BLOB)")

        def insert_all() -> None:
            chain = genesis(ORIGIN)
            for at in range(0, len(rows), group):
                hashed = []
                for seq, body in rows[at : at + group]:
                    leaf = leaf_hash(body)
                    chain = link(chain, leaf)
                    hashed.append((seq, body, leaf, chain))
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO floor VALUES (?, ?, ?, ?)", hashed)
                connection.execute("COMMIT")

        return rate(len(rows), insert_all)


def verify_rate(path: Path, count: int) -> float:
    """Verify the whole log as the command line does."""

    def check() -> None:
        with connect_read_only(path) as connection:
            report = verify(read_log(connection))
        assert report.intact
        assert report.entries == count

    return rate(count, check)


def verify_floor(path: Path, count: int) -> float:
    """Read the rows and compute leaf, chain and tree, without looking at what the entries say."""

    def hash_all() -> None:
        chain, leaves = genesis(ORIGIN), []
        with connect_read_only(path) as connection:
            for (body,) in connection.execute("SELECT body FROM audit_entries ORDER BY seq"):
                leaf = leaf_hash(body)
                chain = link(chain, leaf)
                leaves.append(leaf)
        Edge().extend(leaves).root()

    return rate(count, hash_all)


def main() -> None:
    """Print one line for each size of a commit."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--entries", type=int, default=20_000, help="entries of each run (default 20000)")
    count: int = parser.parse_args().entries
    columns = ("commit of", "append/s", "floor/s", "ratio", "verify/s", "floor/s", "ratio")
    print(" ".join(f"{column:>10}" for column in columns))
    for group in GROUPS:
        events = make_events(count)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "audit.db")
            appended = append(path, events, group)
            floor = append_floor(Path(folder, "floor.db"), events, group)
            checked, check_floor = verify_rate(path, len(events)), verify_floor(path, len(events))
        ratios = (floor / appended, check_floor / checked)
        print(
            f"{group:>10} {appended:>10,.0f} {floor:>10,.0f} {ratios[0]:>10.1f} "
            f"{checked:>10,.0f} {check_floor:>10,.0f} {ratios[1]:>10.1f}"
        )


if __name__ == "__main__":
    main()
