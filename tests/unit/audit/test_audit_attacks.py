"""What an insider can do to a real database, and what the auditor sees with each thing that the auditor has.

The auditor has the log's own statements (no key), the operator's key, or the key and a checkpoint kept from
earlier. What stays invisible is stated too: those tests show why a checkpoint must be kept outside of the
operator's reach.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from unit.audit import insider
from unit.audit.support import ORIGIN, SIGNER, START_US, check, make_event, running_server

from audit.chain import genesis, leaf_hash, link
from audit.checkpoint import Checkpoint, Ed25519Signer, sign_checkpoint
from audit.entry import Entry, encode_entry
from audit.errors import CheckpointError
from audit.event import Actor
from audit.report import Caveat, Kind, Report
from audit.sequencing import Head

_REST = (
    "t, id, type, outcome, actor, patient, object_kind, object_id, org, body, leaf, chain FROM audit_entries"
)
_BLAMED = "UPDATE audit_entries SET body = CAST(replace(body, 'usr_3', 'usr_1') AS BLOB) WHERE seq = 23"
STRANGER = Ed25519Signer(ORIGIN, b"\x66" * 32)


def _kinds(report: Report) -> set[Kind]:
    return {each.kind for each in report.findings}


def _levels(path: Path, kept: bytes) -> tuple[bool, bool, bool]:
    """Return whether the log looks intact with nothing, with the key, and with key and kept checkpoint."""
    return (
        check(path, key=None).intact,
        check(path).intact,
        check(path, previous=kept).intact,
    )


def _bad_from(path: Path, kept: bytes, seq: int) -> None:
    """Every level must see it and name ``seq`` as the first bad entry."""
    for report in (check(path, key=None), check(path), check(path, previous=kept)):
        assert not report.intact
        assert report.first_bad == seq


def test_an_untouched_log_is_intact_at_every_level(log: Path, kept: bytes) -> None:
    assert _levels(log, kept) == (True, True, True)
    report = check(log, previous=kept)
    assert (report.entries, report.checkpoints, report.first_bad, report.caveats) == (60, 61, None, ())
    assert (report.first_t, report.last_t) == (START_US + 1000, START_US + 60_000)
    assert check(log, key=None).caveats == (Caveat.OWN_KEY, Caveat.NO_PREVIOUS)


@pytest.mark.parametrize(
    "assignment",
    [
        "actor = 'usr_x'",
        "t = t + 1",
        "id = id || 'x'",
        "type = 'auth.login'",
        "outcome = 'ok'",
        "patient = NULL",
        "object_kind = 'x'",
        "object_id = 'mbx_x'",
        "org = ''",
        "org = NULL",
        "actor = CAST(actor AS BLOB)",
    ],
)
def test_an_edited_query_column_is_found_and_named(log: Path, kept: bytes, assignment: str) -> None:
    insider.run(log, f"UPDATE audit_entries SET {assignment} WHERE seq = 23")  # a refused act on an object
    _bad_from(log, kept, 23)
    (finding,) = check(log).findings
    assert finding.kind is Kind.COLUMN_MISMATCH
    assert assignment.split(" ", maxsplit=1)[0] in finding.text


def test_an_edited_body_is_found(log: Path, kept: bytes) -> None:
    insider.run(log, _BLAMED, "UPDATE audit_entries SET actor = 'usr_1' WHERE seq = 23")
    _bad_from(log, kept, 23)


def test_an_edited_body_with_its_leaf_is_found(log: Path, kept: bytes) -> None:
    with insider.owning(log) as connection:
        _put(connection.execute, insider.entries(connection)[23], actor="usr_1")
    _bad_from(log, kept, 23)


def _put(execute: Callable[..., object], entry: Entry, *, actor: str) -> None:
    forged = replace(entry, event=replace(entry.event, actor=replace(entry.event.actor, id=actor)))
    body = encode_entry(forged)
    execute(
        "UPDATE audit_entries SET body = ?, leaf = ?, actor = ? WHERE seq = ?",
        (body, leaf_hash(body), actor, entry.seq),
    )


@pytest.mark.parametrize("seq", [0, 23, 58])
def test_a_deleted_row_is_found(log: Path, kept: bytes, seq: int) -> None:
    insider.run(log, f"DELETE FROM audit_entries WHERE seq = {seq}")
    _bad_from(log, kept, seq)
    assert check(log).findings[0].kind is Kind.ENTRY_MISSING


def test_deleted_rows_are_found_and_counted(log: Path, kept: bytes) -> None:
    insider.run(log, "DELETE FROM audit_entries WHERE seq BETWEEN 20 AND 29")
    _bad_from(log, kept, 20)
    assert check(log).findings[0].text == "entries 20 to 29 are missing"


def test_a_deleted_row_with_the_others_moved_up_is_found(log: Path, kept: bytes) -> None:
    insider.run(
        log,
        "DELETE FROM audit_entries WHERE seq = 23",
        "UPDATE audit_entries SET seq = -seq WHERE seq > 23",
        "UPDATE audit_entries SET seq = -seq - 1 WHERE seq < 0",
        "UPDATE audit_head SET size = size - 1",
    )
    _bad_from(log, kept, 23)


def test_an_inserted_row_is_found(log: Path, kept: bytes) -> None:
    insider.run(
        log,
        "UPDATE audit_entries SET seq = -seq WHERE seq >= 23",
        "UPDATE audit_entries SET seq = -seq + 1 WHERE seq < 0",
        f"INSERT INTO audit_entries SELECT 23, {_REST} WHERE seq = 22",
    )
    _bad_from(log, kept, 23)


@pytest.mark.parametrize("seq", [60, 75])
def test_a_row_added_at_the_end_is_found(log: Path, kept: bytes, seq: int) -> None:
    insider.run(
        log,
        f"INSERT INTO audit_entries SELECT {seq}, {_REST} WHERE seq = 59",
    )
    _bad_from(log, kept, 60)


def test_a_row_before_the_first_is_found(log: Path, kept: bytes) -> None:
    insider.run(
        log,
        f"INSERT INTO audit_entries SELECT -1, {_REST} WHERE seq = 0",
    )
    _bad_from(log, kept, 0)


def test_swapped_rows_are_found(log: Path, kept: bytes) -> None:
    insider.run(
        log,
        "UPDATE audit_entries SET seq = -1 WHERE seq = 23",
        "UPDATE audit_entries SET seq = 23 WHERE seq = 24",
        "UPDATE audit_entries SET seq = 24 WHERE seq = -1",
    )
    _bad_from(log, kept, 23)


def test_swapped_contents_are_found(log: Path, kept: bytes) -> None:
    with insider.owning(log) as connection:
        history = insider.entries(connection)
        history[23], history[24] = history[24], history[23]
        insider.rewrite(connection, history)
    assert _levels(log, kept) == (False, False, False)
    assert check(log).first_bad == 23


@pytest.mark.parametrize("size", [0, 12, 59])
def test_a_cut_tail_is_found_by_head_and_checkpoint(log: Path, kept: bytes, size: int) -> None:
    insider.run(log, f"DELETE FROM audit_entries WHERE seq >= {size}")
    _bad_from(log, kept, size)
    assert Kind.TAIL_MISSING in _kinds(check(log))


@pytest.mark.parametrize("size", [0, 12, 59])
def test_a_cut_tail_with_the_head_rewritten_is_found_by_its_checkpoint(
    log: Path, kept: bytes, size: int
) -> None:
    with insider.owning(log) as connection:
        insider.rewrite(connection, insider.entries(connection)[:size])
    _bad_from(log, kept, size)
    assert Kind.TAIL_MISSING in _kinds(check(log))


def test_a_tail_cut_with_head_and_checkpoints_below_what_was_kept_is_found_by_it(
    log: Path, kept: bytes
) -> None:
    insider.cut(log, 39)
    assert _levels(log, kept) == (True, True, False)
    report = check(log, previous=kept)
    assert _kinds(report) == {Kind.PREVIOUS_LONGER}
    assert report.first_bad == 39


def test_a_tail_cut_with_head_and_checkpoints_above_what_was_kept_is_not_seen(log: Path, kept: bytes) -> None:
    """A known limit: only somebody who kept a newer checkpoint sees it."""
    newest = insider.newest_note(log)
    insider.cut(log, 41)
    assert _levels(log, kept) == (True, True, True)
    assert check(log, previous=newest).first_bad == 41


def test_a_rewritten_head_is_found(log: Path, kept: bytes) -> None:
    for assignment in (
        "size = size + 1",
        "size = 12",
        "size = -1",
        "t = t + 1",
        "chain = zeroblob(32)",
        "chain = x''",
        "edge = zeroblob(length(edge))",
        "edge = x''",
        "checkpoints = 7",
        "chain = 'text'",
        "vkey = 'x'",
        f"vkey = '{STRANGER.key.encode()}'",
    ):
        insider.run(log, f"UPDATE audit_head SET {assignment}")
        assert _levels(log, kept) == (False, False, False), assignment
    insider.run(log, "UPDATE audit_head SET one = 1")


def test_a_missing_or_doubled_head_is_found_and_condemns_no_entry_by_itself(log: Path, kept: bytes) -> None:
    insider.run(log, "DELETE FROM audit_head")
    assert _levels(log, kept) == (False, False, False)
    assert _kinds(check(log)) == {Kind.HEAD_MISSING}
    assert check(log).first_bad is None


@pytest.mark.parametrize("number", [0, 23, 60])
def test_a_deleted_checkpoint_is_found(log: Path, kept: bytes, number: int) -> None:
    insider.run(log, f"DELETE FROM audit_checkpoints WHERE number = {number}")
    assert _levels(log, kept) == (False, False, False)
    assert Kind.CHECKPOINT_MISSING in _kinds(check(log))


def test_the_newest_checkpoint_deleted_leaves_an_entry_uncovered(log: Path, kept: bytes) -> None:
    insider.run(
        log, "DELETE FROM audit_checkpoints WHERE number = 60", "UPDATE audit_head SET checkpoints = 60"
    )
    _bad_from(log, kept, 59)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_checkpoints SET note = (SELECT min(note) FROM audit_checkpoints) WHERE number = 23",
        "UPDATE audit_checkpoints SET size = 1000 WHERE number = 23",
        "UPDATE audit_checkpoints SET size = 3 WHERE number = 23",
        "UPDATE audit_checkpoints SET t = 0 WHERE number = 23",
        "UPDATE audit_checkpoints SET note = x'' WHERE number = 23",
        "UPDATE audit_checkpoints SET note = 'text' WHERE number = 23",
        "UPDATE audit_checkpoints SET note = substr(note, 1, length(note) - 1) WHERE number = 23",
        "UPDATE audit_checkpoints SET number = 230 WHERE number = 23",
    ],
)
def test_an_edited_checkpoint_is_found_though_all_entries_hold(
    log: Path, kept: bytes, statement: str
) -> None:
    insider.run(log, statement)
    assert _levels(log, kept) == (False, False, False)


def _forged(log: Path) -> list[Entry]:
    """Return the history with entry 23 blamed on somebody else."""
    with insider.owning(log) as connection:
        history = insider.entries(connection)
    event = history[23].event
    history[23] = replace(history[23], event=replace(event, actor=Actor(id="usr_blamed")))
    return history


def test_a_rehashed_history_without_the_key_is_found_at_its_entry(log: Path, kept: bytes) -> None:
    insider.rehash(log, _forged(log))
    _bad_from(log, kept, 23)
    assert check(log).findings[0].text == "entry 23 is not what was signed"


def test_a_rehashed_history_without_checkpoints_is_found(log: Path, kept: bytes) -> None:
    insider.rehash(log, _forged(log))
    insider.run(log, "DELETE FROM audit_checkpoints", "UPDATE audit_head SET checkpoints = 0")
    _bad_from(log, kept, 0)


def test_a_history_signed_by_a_stranger_is_found_by_the_operators_key(log: Path, kept: bytes) -> None:
    insider.rehash(log, _forged(log), signer=STRANGER)
    insider.run(log, f"UPDATE audit_head SET vkey = '{STRANGER.key.encode()}'")
    assert _levels(log, kept) == (True, False, False)
    assert Kind.KEY_MISMATCH in _kinds(check(log))
    assert Kind.PREVIOUS_SIGNATURE in _kinds(check(log, key=None, previous=kept))
    assert Kind.PREVIOUS_MISMATCH in _kinds(check(log, key=None, previous=kept))


def test_a_history_rewritten_before_the_kept_checkpoint_with_the_key_is_found_by_it(
    log: Path, kept: bytes
) -> None:
    insider.rehash(log, _forged(log), signer=SIGNER)
    assert _levels(log, kept) == (True, True, False)
    assert _kinds(check(log, previous=kept)) == {Kind.PREVIOUS_MISMATCH}


def test_a_history_rewritten_after_the_kept_checkpoint_with_the_key_is_not_seen(
    log: Path, kept: bytes
) -> None:
    """A known limit: with the log's key, what nobody kept a checkpoint of can be rewritten."""
    newest = insider.newest_note(log)
    with insider.owning(log) as connection:
        history = insider.entries(connection)
    history[50] = replace(history[50], event=make_event(999))
    insider.rehash(log, history, signer=SIGNER)
    assert _levels(log, kept) == (True, True, True)
    assert not check(log, previous=newest).intact


def test_an_entry_taken_from_the_middle_with_the_key_is_found_by_the_kept_checkpoint(
    log: Path, kept: bytes
) -> None:
    history = _forged(log)
    del history[23]
    insider.rehash(log, history, signer=SIGNER)
    assert _levels(log, kept) == (True, True, False)


def test_a_clock_that_goes_back_is_found_whoever_signs(log: Path, kept: bytes) -> None:
    with insider.owning(log) as connection:
        history = insider.entries(connection)
    history[50] = replace(history[50], t=history[50].t - 500_000)
    insider.rehash(log, history, signer=SIGNER)
    _bad_from(log, kept, 50)
    assert _kinds(check(log)) == {Kind.TIME_BACKWARDS}


def test_another_history_shown_to_a_second_auditor_is_found_by_what_the_first_one_kept(
    kept: bytes, tmp_path: Path
) -> None:
    fork = tmp_path / "fork.db"
    with running_server(fork) as server:
        server.fill(20)
        server.fill(60, first=100)
    assert _levels(fork, kept) == (True, True, False)


def test_a_log_of_another_origin_is_found(kept: bytes, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign.db"
    other = Ed25519Signer("other.example/audit", b"\x07" * 32)
    with running_server(foreign, signer=other) as server:
        server.fill(60)
    assert _levels(foreign, kept) == (True, False, False)
    assert Kind.ORIGIN_MISMATCH in _kinds(check(foreign))
    assert Kind.ORIGIN_MISMATCH in _kinds(check(foreign, key=None, previous=kept))


def test_a_changed_origin_is_found(log: Path, kept: bytes) -> None:
    insider.run(log, "UPDATE audit_head SET origin = 'other.example/audit'")
    assert _levels(log, kept) == (False, False, False)


def test_an_unknown_version_is_an_error_and_not_skipped(log: Path, kept: bytes) -> None:
    insider.run(log, _BLAMED.replace("usr_3", '"v":1').replace("usr_1", '"v":2'))
    _bad_from(log, kept, 23)
    assert check(log).findings[0].kind is Kind.ENTRY_NOT_CANONICAL


def test_a_non_canonical_body_is_found_even_if_hashed_and_signed(log: Path, kept: bytes) -> None:
    with insider.owning(log) as connection:
        chain = genesis(ORIGIN)
        for seq, body in connection.execute("SELECT seq, body FROM audit_entries ORDER BY seq").fetchall():
            changed = body.replace(b'"v":1', b'"v": 1') if seq == 50 else body
            leaf = leaf_hash(changed)
            chain = link(chain, leaf)
            connection.execute(
                "UPDATE audit_entries SET body = ?, leaf = ?, chain = ? WHERE seq = ?",
                (changed, leaf, chain, seq),
            )
        insider.resign(connection, SIGNER)
    assert check(log, previous=kept).first_bad == 50


def test_a_wrong_kept_checkpoint_is_the_auditors_problem_not_a_finding(log: Path) -> None:
    with pytest.raises(CheckpointError):
        check(log, previous=b"not a note")


def test_a_kept_checkpoint_over_nothing_holds(log: Path) -> None:
    empty = Head.empty(ORIGIN)
    note = sign_checkpoint(Checkpoint(ORIGIN, 0, empty.edge.root()), SIGNER)
    assert check(log, previous=note).intact
    false = sign_checkpoint(Checkpoint(ORIGIN, 0, bytes(32)), SIGNER)
    assert not check(log, previous=false).intact


def test_findings_are_limited_and_the_rest_is_counted(log: Path) -> None:
    insider.run(log, "UPDATE audit_entries SET actor = 'usr_x'", "UPDATE audit_checkpoints SET note = x''")
    report = check(log)
    assert len(report.findings) == 100
    assert report.more_findings > 15
    assert report.first_bad == 0


def test_an_edit_within_a_large_commit_is_still_named_exactly(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    with running_server(path) as server:
        server.fill(60, group=20)
    insider.run(path, _BLAMED)
    report = check(path)
    assert (report.first_bad, report.first_bad_is_exact) == (23, True)


def test_a_rehash_within_a_large_commit_is_named_as_a_range(tmp_path: Path) -> None:
    path = tmp_path / "server.db"
    with running_server(path) as server:
        server.fill(60, group=20)
    insider.rehash(path, _forged(path))
    report = check(path)
    assert (report.first_bad, report.first_bad_is_exact) == (20, False)
    assert report.findings[0].text == "entries 20 to 39 are not, as a whole, what was signed"


def test_a_body_stored_as_text_is_found(log: Path, kept: bytes) -> None:
    insider.run(log, "UPDATE audit_entries SET body = CAST(body AS TEXT) WHERE seq = 23")
    _bad_from(log, kept, 23)
    assert "not stored as bytes" in check(log).findings[0].text
