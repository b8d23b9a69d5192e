"""What the demo looks at from the operator's and the auditor's side: the server's files and the audit log."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

from securechat.errors import StoreError

VERIFY_TIMEOUT_S: Final = 60


@dataclass(frozen=True, slots=True)
class StoredEnvelope:
    """One row of the relay's inbox as an operator with full access sees it."""

    message_id: str
    body: bytes


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with the log."""

    text: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What this program needs of ``python -m audit verify --json``."""

    ok: bool = False
    entries: int = 0
    checkpoints: int = 0
    first_bad: int | None = None
    findings: list[Finding] = []


@dataclass(frozen=True, slots=True)
class Verification:
    """The answer of the offline verifier: exit status, entries, first bad entry, its sentence."""

    status: int
    entries: int
    first_bad: int | None
    sentence: str


def stored_envelopes(database: Path) -> list[StoredEnvelope]:
    """Return what waits in the relay's inbox."""
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("select message_id, body from inbox order by mailbox, seq").fetchall()
    return [StoredEnvelope(bytes(row[0]).hex(), bytes(row[1])) for row in rows]


def server_holds(folder: Path, texts: list[str]) -> bool:
    """Whether any file of the server holds one of ``texts`` (of at least 12 bytes) as plaintext."""
    needles = [raw for text in texts if len(raw := text.encode()) >= 12]
    return any(
        needle in raw
        for path in folder.rglob("*")
        if path.is_file()
        for raw in [path.read_bytes()]
        for needle in needles
    )


def copy_database(database: Path, copy: Path) -> None:
    """Make a consistent copy of a live database in one file, without its write-ahead log."""
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as source,
        closing(sqlite3.connect(copy)) as target,
    ):
        source.backup(target)
        target.execute("pragma journal_mode=delete")


def flip_one_byte(copy: Path, sequence: int) -> None:
    """Change one byte of the stored body of entry ``sequence``, in the file and past all triggers."""
    with closing(sqlite3.connect(copy)) as connection:
        row = connection.execute("select body from audit_entries where seq = ?", (sequence,)).fetchone()
    body = row[0].encode() if isinstance(row[0], str) else bytes(row[0])
    raw = bytearray(copy.read_bytes())
    at = raw.find(body)
    if at < 0:
        raise StoreError("the entry's bytes were not found in the copy")
    raw[at + body.index(b'"outcome":"') + len(b'"outcome":"')] ^= 0x01
    copy.write_bytes(raw)


def verify(path: Path, *, key_file: Path, remembered: Path | None = None) -> Verification:
    """Run the offline verifier as an auditor would, in a process of its own."""
    command = [sys.executable, "-m", "audit", "verify", str(path), "--vkey-file", str(key_file), "--json"]
    if remembered is not None:
        command += ["--previous", str(remembered)]
    done = subprocess.run(command, capture_output=True, timeout=VERIFY_TIMEOUT_S, check=False)  # noqa: S603 (own interpreter)
    answer = msgspec.json.decode(done.stdout or b"{}", type=Answer)
    return Verification(
        status=done.returncode,
        entries=answer.entries,
        first_bad=answer.first_bad,
        sentence=_sentence(answer),
    )


def _sentence(answer: Answer) -> str:
    if answer.ok:
        return f"intact: {answer.entries} entries, {answer.checkpoints} signed checkpoints"
    first = answer.findings[0].text if answer.findings else "it cannot be read"
    return f"TAMPERED WITH: first bad entry {answer.first_bad}: {first}"


def remove(folder: Path) -> None:
    """Delete the demo's folder."""
    shutil.rmtree(folder, ignore_errors=True)
