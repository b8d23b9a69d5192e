"""The export bundle: a log, or its beginning, as one zip file that can be verified without the server.

    entries.jsonl   the stored bytes of each entry, one a line
    chain.bin       32 bytes for each entry: the chain value after it
    checkpoint      the signed note over exactly these entries
    log.vkey        the verifier key that the log names as its own
    README.txt      how to verify it

Equal logs give equal bundles, byte for byte.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from audit.chain import HASH_SIZE
from audit.checkpoint import Checkpoint, read_checkpoint
from audit.entry import MAX_BODY
from audit.errors import CheckpointError, SourceError
from audit.note import MAX_NOTE
from audit.report import LogCopy, StoredCheckpoint, StoredRow

ENTRIES: Final = "entries.jsonl"
CHAIN: Final = "chain.bin"
CHECKPOINT: Final = "checkpoint"
VKEY: Final = "log.vkey"
README: Final = "README.txt"
MEMBERS: Final = (CHECKPOINT, VKEY, README, CHAIN, ENTRIES)

MAX_ENTRIES: Final = 10**9
MAX_VKEY: Final = 1024  # bytes
MAX_README: Final = 64 * 1024  # bytes

_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # zip holds a time for each member; the same one for every bundle
_FLUSH: Final = 1 << 16  # bytes gathered before they are compressed

# What the zip reader raises for damage: bad structure, bad checksums, encryption, unknown compression.
_DAMAGED: Final = (
    OSError, EOFError, ValueError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip

_README_TEXT: Final = """\
This is an export of the audit log {origin}: {size} entries.

  entries.jsonl   the entries, one canonical JSON object a line, exactly the bytes that were hashed
  chain.bin       for each entry, the 32-byte value of the hash chain after it
  checkpoint      the log's signed statement of size and Merkle root over exactly these entries (C2SP
  tlog-checkpoint) log.vkey        the key that the log names as its own: compare it with the one that you got
  from the operator

To verify it, with the "audit" package and the key from the operator:

  python -m audit verify THIS-FILE.zip --vkey-file operator.vkey

Leaf: SHA-256(0x00 || line). Root: RFC 6962. Chain: SHA-256(0x02 || previous || leaf), from SHA-256(origin).
"""


def write_bundle(out: IO[bytes], rows: Iterable[StoredRow], note: bytes, vkey: str) -> Checkpoint:
    """Write the entries that the checkpoint ``note`` covers, from entry 0 on; return the checkpoint.

    Raises SourceError if there are fewer rows than the checkpoint covers, or one is out of order.
    """
    checkpoint = read_checkpoint(note)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as bundle:
        _write(bundle, CHECKPOINT, note)
        _write(bundle, VKEY, vkey.encode() + b"\n")
        _write(bundle, README, _README_TEXT.format(origin=checkpoint.origin, size=checkpoint.size).encode())
        chain = bytearray()
        with bundle.open(_member(ENTRIES), "w", force_zip64=True) as lines:
            _write_lines(lines, rows, checkpoint.size, chain)
        _write(bundle, CHAIN, bytes(chain))
    return checkpoint


def _write_lines(lines: IO[bytes], rows: Iterable[StoredRow], size: int, chain: bytearray) -> None:
    """Write the bodies of the first ``size`` rows and gather their chain values."""
    gathered = bytearray()
    count = 0
    for row in rows:
        if count == size:
            break
        if row.seq != count or b"\n" in row.body or len(row.chain) != HASH_SIZE:
            raise SourceError(f"entry {count} is missing or damaged; verify the log first")
        gathered += row.body + b"\n"
        chain += row.chain
        count += 1
        if len(gathered) >= _FLUSH:
            lines.write(gathered)
            gathered.clear()
    lines.write(gathered)
    if count != size:
        raise SourceError(f"the log has {count} entries; its checkpoint covers {size}; verify the log first")


def _write(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    bundle.writestr(_member(name), data)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, _EPOCH)
    member.compress_type = zipfile.ZIP_DEFLATED
    member.external_attr = 0o644 << 16
    return member


@contextmanager
def open_bundle(path: Path) -> Iterator[LogCopy]:
    """Read a bundle back as a log to verify, entry by entry, within limits.

    Raises SourceError if the file is no bundle: not a zip, other members, wrong lengths, lines too long.
    """
    try:
        bundle = zipfile.ZipFile(path)
    except _DAMAGED as exc:
        raise SourceError("the file is no export bundle that can be read") from exc
    with bundle:
        _require_members(bundle)
        yield _copy(bundle)


def _copy(bundle: zipfile.ZipFile) -> LogCopy:
    note = _read(bundle, CHECKPOINT, MAX_NOTE)
    _read(bundle, README, MAX_README)  # not needed, but a damaged member must not go unnoticed
    try:
        vkey = _read(bundle, VKEY, MAX_VKEY).decode("ascii").removesuffix("\n")
        checkpoint = read_checkpoint(note)
    except (UnicodeDecodeError, CheckpointError) as exc:
        raise SourceError("the checkpoint or the key in the bundle is malformed") from exc
    stored = StoredCheckpoint(checkpoint.size, note)
    return LogCopy(checkpoint.origin, vkey, _rows(bundle), (stored,), None, is_database=False)


def _require_members(bundle: zipfile.ZipFile) -> None:
    """Refuse other members than the five, doubled names, and sizes past the limits (before reading any)."""
    found = {member.filename: member.file_size for member in bundle.infolist()}
    if len(bundle.infolist()) != len(MEMBERS) or set(found) != set(MEMBERS):
        raise SourceError("the zip file does not hold exactly the members of an export bundle")
    entries, rest = divmod(found[CHAIN], HASH_SIZE)
    if rest or entries > MAX_ENTRIES:
        raise SourceError(f"{CHAIN} has {found[CHAIN]} bytes, no multiple of {HASH_SIZE} within the limit")
    if found[ENTRIES] > entries * (MAX_BODY + 1) or found[README] > MAX_README:
        raise SourceError(f"{ENTRIES} or {README} is longer than {entries} entries can be")


def _read(bundle: zipfile.ZipFile, name: str, most: int) -> bytes:
    try:
        with bundle.open(name) as member:
            data = member.read(most + 1)
    except _DAMAGED as exc:
        raise SourceError(f"{name} in the bundle is damaged") from exc
    if len(data) > most:
        raise SourceError(f"{name} has more than {most} bytes")
    return data


def _rows(bundle: zipfile.ZipFile) -> Iterator[StoredRow]:
    """Yield the entries; ends with SourceError where lines and chain values do not pair up."""
    seq = 0
    try:
        with bundle.open(ENTRIES) as lines, bundle.open(CHAIN) as chain:
            while line := lines.readline(MAX_BODY + 2):
                value = chain.read(HASH_SIZE)
                if not line.endswith(b"\n") or len(value) != HASH_SIZE:
                    raise SourceError(
                        f"line {seq + 1} of {ENTRIES} is too long, cut off, or has no chain value"
                    )
                yield StoredRow(seq, line[:-1], value)
                seq += 1
            if chain.read(1):
                raise SourceError(f"{CHAIN} has more values than {ENTRIES} has lines")
    except _DAMAGED as exc:
        raise SourceError(f"the bundle is damaged at line {seq + 1} of {ENTRIES}") from exc
