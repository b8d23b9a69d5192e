"""The auditor's command line: verdicts, exit codes, one-line errors, and nothing written unasked."""

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from unit.audit import insider
from unit.audit.support import ORIGIN, SIGNER, Server

from audit.checkpoint import open_checkpoint
from audit.cli import main

VKEY = SIGNER.key.encode()
Capture = pytest.CaptureFixture[str]


def _json(capsys: Capture) -> dict[str, object]:
    parsed: dict[str, object] = json.loads(capsys.readouterr().out)
    return parsed


def test_an_intact_log_is_said_to_be_so_with_what_could_not_be_checked(log: Path, capsys: Capture) -> None:
    assert main(["verify", str(log)]) == 0
    out = capsys.readouterr().out
    assert f"INTACT: 60 entries of {ORIGIN}" in out
    assert "checked against the log's own key only" in out
    assert "no earlier checkpoint was given" in out


def test_with_key_and_kept_checkpoint_nothing_is_left_to_say(log: Path, kept: bytes, capsys: Capture) -> None:
    seen = log.with_name("seen.checkpoint")
    seen.write_bytes(kept)
    assert main(["verify", str(log), "--vkey", VKEY, "--previous", str(seen)]) == 0
    out = capsys.readouterr().out
    assert "Note:" not in out
    assert "extends the checkpoint" in out
    assert seen.read_bytes() == kept


def test_a_tampered_log_ends_with_1_and_names_the_entry(log: Path, capsys: Capture) -> None:
    insider.run(log, "UPDATE audit_entries SET actor = 'usr_1' WHERE seq = 23")
    assert main(["verify", str(log)]) == 1
    out = capsys.readouterr().out
    assert "TAMPERED WITH: first bad entry 23" in out
    assert "column-mismatch" in out


def test_the_json_report_says_the_same(log: Path, capsys: Capture) -> None:
    assert main(["verify", str(log), "--json", "--vkey", VKEY]) == 0
    report = _json(capsys)
    assert report["ok"] is True
    assert (report["entries"], report["checkpoints"], report["first_bad"]) == (60, 61, None)
    assert report["caveats"] == ["no_previous"]
    assert report["first_time"] == "2026-11-18T11:06:40.001000Z"
    insider.run(log, "DELETE FROM audit_entries WHERE seq = 23")
    assert main(["verify", str(log), "--json"]) == 1
    report = _json(capsys)
    assert (report["ok"], report["first_bad"], report["first_bad_is_exact"]) == (False, 23, True)


def test_what_is_remembered_is_compared_the_next_time(log: Path, tmp_path: Path, capsys: Capture) -> None:
    seen, key = tmp_path / "seen.checkpoint", tmp_path / "clinic.vkey"
    key.write_text(VKEY + "\n")
    arguments = ["verify", str(log), "--vkey-file", str(key), "--remember", str(seen), "--json"]
    assert main(arguments) == 0
    assert open_checkpoint(seen.read_bytes(), SIGNER.key).size == 60
    server = Server(log)
    server.clock.advance(60_000_000)
    server.fill(3, first=300)
    server.close()
    assert main(arguments) == 0
    kept = seen.read_bytes()
    assert open_checkpoint(kept, SIGNER.key).size == 63
    insider.cut(log, 50)
    capsys.readouterr()
    assert main(arguments) == 1
    assert _json(capsys)["first_bad"] == 50
    assert seen.read_bytes() == kept
    assert sorted(each.name for each in tmp_path.iterdir()) == ["clinic.vkey", "seen.checkpoint", "server.db"]


def test_a_terminal_is_not_steered_by_a_tampered_log(log: Path, capsys: Capture) -> None:
    insider.run(log, "UPDATE audit_head SET origin = char(27) || '[2J' || char(10) || 'INTACT'")
    assert main(["verify", str(log)]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\nINTACT" not in out


def test_a_query_shows_what_matches_and_how_to_go_on(log: Path, capsys: Capture) -> None:
    assert main(["query", str(log), "--actor", "usr_1", "--limit", "2"]) == 0
    out = capsys.readouterr().out
    assert "2 entries" in out
    assert "--cursor 53" in out
    assert "usr_2" not in out


def test_on_a_narrow_terminal_a_query_cuts_nothing_short(log: Path, capsys: Capture) -> None:
    assert main(["query", str(log), "--limit", "3", "--json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    reader, terminal = pty.openpty()
    command = [sys.executable, "-m", "audit", "query", str(log), "--limit", "3"]
    narrow = {**os.environ, "COLUMNS": "80", "TERM": "dumb"}
    subprocess.run(command, stdout=terminal, env=narrow, check=True)
    out = os.read(reader, 65_536).decode()
    os.close(reader)
    os.close(terminal)
    assert "\u2026" not in out
    assert "3 entries" in out
    for item in items:
        assert f"{item['seq']}  " in out
        assert item["actor"]["id"] in out
        assert item["type"] in out


def test_a_query_as_json_is_the_page_of_the_api(log: Path, capsys: Capture) -> None:
    arguments = ["query", str(log), "--action", "audit.*", "--outcome", "deny", "--json"]
    assert main([*arguments, "--from", "2026-11-18", "--to", "2026-11-19", "--order", "oldest"]) == 0
    page = _json(capsys)
    items = page["items"]
    assert isinstance(items, list)
    assert [item["seq"] for item in items] == [23, 58]
    assert page["next_cursor"] is None
    assert main([*arguments, "--patient", "pat_none", "--object", "mbx_1", "--org", "org_1"]) == 0
    assert _json(capsys) == {"items": [], "next_cursor": None}
    assert main([*arguments, "--cursor", "58"]) == 0


def test_the_checkpoint_is_printed_as_stored(log: Path, tmp_path: Path, capsys: Capture) -> None:
    assert main(["checkpoint", str(log)]) == 0
    assert capsys.readouterr().out.encode() == insider.newest_note(log)
    assert main(["export", str(log), str(tmp_path / "log.zip")]) == 0
    capsys.readouterr()
    assert main(["checkpoint", str(tmp_path / "log.zip")]) == 0
    assert capsys.readouterr().out.encode() == insider.newest_note(log)


def test_an_export_verifies_and_is_never_overwritten(log: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "log.zip"
    assert main(["export", str(log), str(out)]) == 0
    assert "60 entries" in capsys.readouterr().out
    assert main(["verify", str(out), "--vkey", VKEY]) == 0
    before = out.read_bytes()
    assert main(["export", str(log), str(out)]) == 2
    assert out.read_bytes() == before


def test_a_failed_export_leaves_nothing_behind(log: Path, tmp_path: Path) -> None:
    insider.run(log, "DELETE FROM audit_entries WHERE seq = 23")
    assert main(["export", str(log), str(tmp_path / "log.zip")]) == 2
    assert [each.name for each in tmp_path.iterdir()] == ["server.db"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "LOG", "--vkey", "nonsense"],
        ["verify", "LOG", "--vkey-file", "MISSING"],
        ["verify", "LOG", "--vkey-file", "LOG"],
        ["verify", "LOG", "--previous", "MISSING"],
        ["verify", "LOG", "--previous", "TEXT"],
        ["verify", "LOG", "--remember", "TEXT"],
        ["verify", "LOG", "--remember", "MISSING/x"],
        ["verify", "MISSING"],
        ["verify", "TEXT"],
        ["verify", "FOLDER"],
        ["query", "MISSING"],
        ["query", "TEXT"],
        ["query", "LOG", "--actor", "Jane Roe"],
        ["query", "LOG", "--limit", "many"],
        ["query", "LOG", "--cursor", "x"],
        ["checkpoint", "TEXT"],
        ["export", "TEXT", "OUT"],
        ["export", "LOG", "MISSING/out.zip"],
    ],
)
def test_a_usage_problem_ends_with_2_and_one_line(
    log: Path, tmp_path: Path, capsys: Capture, arguments: list[str]
) -> None:
    text = tmp_path / "text"
    text.write_text("hello")
    places = {
        "LOG": log,
        "MISSING": tmp_path / "none",
        "TEXT": text,
        "FOLDER": tmp_path,
        "OUT": tmp_path / "o",
    }
    resolved = [
        str(places[head]) + rest if (head := each.partition("/")[0]) in places else each
        for each in arguments
        for rest in ["/" + each.partition("/")[2] if "/" in each else ""]
    ]
    assert main(resolved) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("audit: ")
    assert captured.err.count("\n") == 1
    assert captured.err.endswith("]\n")
    assert text.read_text() == "hello"


@pytest.mark.parametrize(
    "arguments", [[], ["unknown"], ["verify"], ["verify", "x", "--vkey", "a", "--vkey-file", "b"]]
)
def test_a_wrong_command_line_ends_with_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize("command", [[], ["verify"], ["query"], ["checkpoint"], ["export"]])
def test_every_command_explains_itself(command: list[str], capsys: Capture) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert "usage: python -m audit" in capsys.readouterr().out


def test_verifying_needs_no_sqlalchemy_aiohttp_or_orjson(log: Path) -> None:
    """An outside auditor installs `cryptography` and `rich`, nothing else."""
    program = (
        "import sys\n"
        "for name in ('sqlalchemy', 'aiohttp', 'orjson', 'alembic', 'securechat', 'keyserver'):\n"
        "    sys.modules[name] = None\n"
        "from audit.cli import main\n"
        f"sys.exit(main(['verify', {str(log)!r}]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_module_runs_as_a_program(log: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "audit", "verify", str(log), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0
    assert json.loads(ended.stdout)["ok"] is True
