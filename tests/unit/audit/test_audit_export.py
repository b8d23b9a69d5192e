"""Export bundles: equal logs give equal bytes, and nothing but a whole bundle is read back as one."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from unit.audit import insider
from unit.audit.support import ORIGIN, SIGNER

from audit.checkpoint import Checkpoint, sign_checkpoint
from audit.errors import SourceError
from audit.export import CHAIN, CHECKPOINT, ENTRIES, README, VKEY, open_bundle, write_bundle
from audit.merkle import EMPTY_ROOT
from audit.note import VerifierKey
from audit.report import Caveat, Kind, Report
from audit.source import connect_read_only, newest_checkpoint, read_log
from audit.verify import verify


def _export(log: Path) -> bytes:
    out = io.BytesIO()
    with connect_read_only(log) as connection:
        stored = newest_checkpoint(connection)
        assert stored is not None
        copy = read_log(connection)
        write_bundle(out, copy.rows, stored.note, copy.vkey)
    return out.getvalue()


def _check(path: Path, *, key: VerifierKey | None = SIGNER.key, previous: bytes | None = None) -> Report:
    with open_bundle(path) as copy:
        return verify(copy, key=key, previous=previous)


def _members(data: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as bundle:
        return {name: bundle.read(name) for name in bundle.namelist()}


def _zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, data in members.items():
            bundle.writestr(name, data)
    return path


@pytest.fixture
def members(log: Path) -> dict[str, bytes]:
    return _members(_export(log))


def test_a_bundle_verifies_with_key_and_kept_checkpoint(log: Path, kept: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.zip"
    path.write_bytes(_export(log))
    report = _check(path, previous=kept)
    assert report.intact
    assert (report.entries, report.checkpoints, report.origin) == (60, 1, ORIGIN)
    assert report.caveats == (Caveat.NO_COLUMNS,)
    assert _check(path, key=None).caveats == tuple(Caveat)


def test_equal_logs_give_equal_bundles(log: Path) -> None:
    assert _export(log) == _export(log)


def test_a_bundle_holds_the_stored_bytes(log: Path, members: dict[str, bytes]) -> None:
    with insider.owning(log) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM audit_entries ORDER BY seq")]
    assert members[ENTRIES] == b"".join(body + b"\n" for body in bodies)
    assert members[CHECKPOINT] == insider.newest_note(log)
    assert members[VKEY] == SIGNER.key.encode().encode() + b"\n"
    assert b"60 entries" in members[README]


def test_a_bundle_ends_where_its_checkpoint_does(log: Path, kept: bytes, tmp_path: Path) -> None:
    path = tmp_path / "log.zip"
    with connect_read_only(log) as connection, path.open("wb") as out:
        copy = read_log(connection)
        assert write_bundle(out, copy.rows, kept, copy.vkey).size == 40
    assert _check(path, previous=kept).entries == 40


def test_an_empty_log_is_exported(tmp_path: Path) -> None:
    path = tmp_path / "log.zip"
    note = sign_checkpoint(Checkpoint(ORIGIN, 0, EMPTY_ROOT), SIGNER)
    with path.open("wb") as out:
        write_bundle(out, [], note, SIGNER.key.encode())
    assert _check(path).intact


def test_a_damaged_log_is_not_exported(log: Path) -> None:
    insider.run(log, "DELETE FROM audit_entries WHERE seq = 23")
    with pytest.raises(SourceError, match="entry 23"):
        _export(log)
    insider.run(log, "DELETE FROM audit_entries WHERE seq >= 10")
    with pytest.raises(SourceError, match="10 entries"):
        _export(log)


def _replace(at: str, old: bytes, new: bytes) -> Callable[[dict[str, bytes]], None]:
    def change(members: dict[str, bytes]) -> None:
        assert old in members[at]
        members[at] = members[at].replace(old, new, 1)

    return change


def _drop_line(members: dict[str, bytes]) -> None:
    lines = members[ENTRIES].splitlines(keepends=True)
    members[ENTRIES] = b"".join(lines[:23] + lines[24:])
    members[CHAIN] = members[CHAIN][: 23 * 32] + members[CHAIN][24 * 32 :]


def _swap_lines(members: dict[str, bytes]) -> None:
    lines = members[ENTRIES].splitlines(keepends=True)
    lines[23], lines[24] = lines[24], lines[23]
    members[ENTRIES] = b"".join(lines)


def _flip_chain(members: dict[str, bytes]) -> None:
    chain = bytearray(members[CHAIN])
    chain[23 * 32] ^= 1
    members[CHAIN] = bytes(chain)


def _cut_tail(members: dict[str, bytes]) -> None:
    members[ENTRIES] = b"".join(members[ENTRIES].splitlines(keepends=True)[:23])
    members[CHAIN] = members[CHAIN][: 23 * 32]


@pytest.mark.parametrize(
    "change",
    [
        _replace(ENTRIES, b'"req":"req_23"', b'"req":"req_99"'),
        _replace(ENTRIES, b'"seq":23,', b'"seq":99,'),
        _drop_line,
        _swap_lines,
        _flip_chain,
        _cut_tail,
    ],
)
def test_an_altered_bundle_names_its_first_bad_entry(
    members: dict[str, bytes], tmp_path: Path, change: Callable[[dict[str, bytes]], None]
) -> None:
    change(members)
    report = _check(_zip(tmp_path / "log.zip", members))
    assert not report.intact
    assert report.first_bad == 23


def test_a_bundle_of_another_checkpoint_is_found(
    members: dict[str, bytes], kept: bytes, tmp_path: Path
) -> None:
    members[CHECKPOINT] = kept
    report = _check(_zip(tmp_path / "log.zip", members))
    assert not report.intact
    assert report.first_bad == 40


def test_a_cut_in_the_middle_of_a_line_is_found(members: dict[str, bytes], tmp_path: Path) -> None:
    members[ENTRIES] = members[ENTRIES][:-1]
    report = _check(_zip(tmp_path / "log.zip", members))
    assert {Kind.ENTRY_UNREADABLE} <= {each.kind for each in report.findings}
    assert report.first_bad == 59


def test_more_chain_values_than_lines_are_found(members: dict[str, bytes], tmp_path: Path) -> None:
    members[CHAIN] += bytes(32)
    assert not _check(_zip(tmp_path / "log.zip", members)).intact


@pytest.mark.parametrize(
    "change",
    [
        lambda members: members.pop(README),
        lambda members: members.update(extra=b""),
        lambda members: members.update({"../evil": members.pop(README)}),
        lambda members: members.update({CHAIN: b"x"}),
        lambda members: members.update({CHAIN: b""}),
        lambda members: members.update({CHECKPOINT: b"no note"}),
        lambda members: members.update({CHECKPOINT: b"x" * 300_000}),
        lambda members: members.update({VKEY: b"\xff"}),
        lambda members: members.update({VKEY: b"x" * 2000}),
        lambda members: members.update({README: b"x" * 100_000}),
        lambda members: members.update({ENTRIES: b"x" * 20_000_000}),
    ],
)
def test_a_zip_that_is_no_bundle_is_refused(
    members: dict[str, bytes], tmp_path: Path, change: Callable[[dict[str, bytes]], None]
) -> None:
    change(members)
    with pytest.raises(SourceError):
        _check(_zip(tmp_path / "log.zip", members))


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_doubled_member_is_refused(members: dict[str, bytes], tmp_path: Path) -> None:
    path = _zip(tmp_path / "log.zip", members)
    with zipfile.ZipFile(path, "a") as bundle:
        bundle.writestr(ENTRIES, b"")
    with pytest.raises(SourceError):
        _check(path)


def test_a_line_without_end_does_not_fill_memory(members: dict[str, bytes], tmp_path: Path) -> None:
    members[ENTRIES] = b"x" * 500_000
    report = _check(_zip(tmp_path / "log.zip", members))
    assert report.first_bad == 0


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 100])
def test_a_file_that_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.zip"
    path.write_bytes(content)
    with pytest.raises(SourceError):
        _check(path)


def test_a_damaged_zip_is_never_intact(log: Path, kept: bytes, tmp_path: Path) -> None:
    data = _export(log)
    path = tmp_path / "log.zip"
    for at in range(0, len(data), 131):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        try:
            report = _check(path, previous=kept)
        except SourceError:
            continue
        assert not report.intact or _members(path.read_bytes()) == _members(data), at
