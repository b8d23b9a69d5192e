"""The commands as a new user types them, against a real server process."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.server_process import ServerProcess, run_securechat

SAFETY_NUMBER_LENGTH = 12 * 5 + 11  # twelve groups of five digits and the blanks between them


def test_send_and_tail_work_with_pipes(running_server: ServerProcess) -> None:
    folder = running_server.folder
    text = "first line\nsecond line \U0001f469‍⚕️\n"
    sent = run_securechat(folder, "send", "--as", "pat", "--to", "dr-lee", text=text)
    assert sent.returncode == 0, sent.stderr
    message_id = sent.stdout.strip()
    tail = run_securechat(folder, "tail", "--as", "dr-lee", "--json", "--until-empty")
    assert tail.returncode == 0, tail.stderr
    (row,) = [json.loads(line) for line in tail.stdout.splitlines()]
    assert row["text"] == text
    assert row["from"] == "pat"
    assert row["id"] == message_id
    again = run_securechat(folder, "tail", "--as", "dr-lee", "--json", "--until-empty")
    assert again.stdout == ""


def test_each_line_is_a_message_and_arrives_in_order(running_server: ServerProcess) -> None:
    folder = running_server.folder
    lines = [f"reading {number}" for number in range(40)]
    sent = run_securechat(
        folder, "send", "--as", "sam", "--to", "nurse-kim", "--lines", text="\n".join(lines)
    )
    assert sent.returncode == 0, sent.stderr
    tail = run_securechat(folder, "tail", "--as", "nurse-kim", "--json", "--until-empty")
    assert [json.loads(line)["text"] for line in tail.stdout.splitlines()] == lines


def test_an_idempotency_key_is_sent_once(running_server: ServerProcess) -> None:
    folder = running_server.folder
    first = run_securechat(
        folder, "send", "--as", "pat", "--to", "dr-lee", "--key", "lab-8841", "potassium 6.1"
    )
    again = run_securechat(
        folder, "send", "--as", "pat", "--to", "dr-lee", "--key", "lab-8841", "potassium 6.1"
    )
    assert (first.returncode, again.returncode) == (0, 0), first.stderr + again.stderr
    assert first.stdout == again.stdout
    tail = run_securechat(folder, "tail", "--as", "dr-lee", "--json", "--until-empty")
    assert len(tail.stdout.splitlines()) == 1


def test_both_sides_print_the_same_safety_number(running_server: ServerProcess) -> None:
    folder = running_server.folder
    mine = run_securechat(folder, "safety-number", "--as", "pat", "--with", "dr-lee")
    theirs = run_securechat(folder, "safety-number", "--as", "dr-lee", "--with", "pat")
    assert mine.stdout == theirs.stdout
    assert len(mine.stdout.strip()) == SAFETY_NUMBER_LENGTH


def test_whoami_tells_the_opaque_user_id(running_server: ServerProcess) -> None:
    whoami = run_securechat(running_server.folder, "whoami", "--as", "pat", "--json")
    facts = json.loads(whoami.stdout)
    assert facts["user"].startswith("u-")
    assert facts["server"] == running_server.url
    assert len(bytes.fromhex(facts["account_key"])) == 32


def test_two_terminals_hold_a_conversation(running_server: ServerProcess) -> None:
    folder = running_server.folder
    chats = {
        handle: subprocess.Popen(
            [sys.executable, "-m", "securechat", "chat", "--as", handle, "--dir", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for handle in ("pat", "dr-lee")
    }
    try:
        _say(chats["pat"], "good morning")
        assert _read_until(chats["dr-lee"], "good morning").endswith("pat: good morning")
        _say(chats["dr-lee"], "good morning, how are you?")
        _read_until(chats["pat"], "how are you?")
    finally:
        for chat in chats.values():
            _say(chat, "/quit")
            chat.wait(30)
            for stream in (chat.stdin, chat.stdout):
                assert stream is not None
                stream.close()
    assert [chat.returncode for chat in chats.values()] == [0, 0]


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["whoami", "--as", "nobody"], 2, "nobody is called"),
        (["send", "--as", "pat", "--to", "sam", "hello"], 3, "guard-patient-to-patient"),
        (["send", "--as", "pat", "--to", "dr-lee", "x" * 70_000], 1, "message_refused"),
        (["send", "--as", "pat", "--to", "pat", "hello"], 2, "yourself"),
        (["safety-number", "--as", "pat", "--with", "pat"], 2, "yourself"),
    ],
)
def test_an_error_is_one_line_with_a_status(
    running_server: ServerProcess, arguments: list[str], status: int, words: str
) -> None:
    done = run_securechat(running_server.folder, *arguments)
    assert done.returncode == status, done.stderr
    assert words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_input_that_is_not_utf_8_is_not_sent_in_another_form(running_server: ServerProcess) -> None:
    command = ["send", "--as", "pat", "--to", "dr-lee", "--dir", str(running_server.folder)]
    done = subprocess.run(
        [sys.executable, "-m", "securechat", *command], input=b"5 \xb5g", capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"not UTF-8" in done.stderr
    tail = run_securechat(running_server.folder, "tail", "--as", "dr-lee", "--until-empty")
    assert tail.stdout == ""


def test_the_files_of_a_server_are_its_owners_alone(running_server: ServerProcess) -> None:
    files = [path for path in (running_server.folder / "server").iterdir() if path.is_file()]
    assert len(files) >= 4
    assert [path.name for path in files if path.stat().st_mode & 0o077] == []


def test_a_lost_store_is_told_with_a_hint(running_server: ServerProcess) -> None:
    folder = running_server.folder
    for path in (folder / "devices").glob("pat.db*"):
        path.unlink()
    done = run_securechat(folder, "whoami", "--as", "pat")
    assert done.returncode == 1
    assert "device_list_conflict" in done.stderr
    assert "put it back" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["serve", "--dev", "--dir", "FILE/x"], "Not a directory"),
        (["serve", "--dev", "--dir", "NEW", "--host", "192.0.2.1"], "does not take --host"),
        (["serve", "--port", "http"], "--port must be a number"),
        (["demo", "--keep", "FILE"], "File exists"),
        (["whoami", "--as", "pat", "--dir", "FILE"], "Not a directory"),
        (["policy", "why", "nurse", "message.send", "--purpose", "fun"], "treatment"),
        (["policy", "why", "nurse", "message.send", "--now", "noon"], "no time such as"),
        (["send", "--as", "pat", "--wait", "-1", "hello"], "more than 0"),
        (["tail", "--as", "pat", "--count", "0"], "1 or more"),
    ],
)
def test_a_wrong_call_ends_with_2_and_says_why(tmp_path: Path, arguments: list[str], words: str) -> None:
    (tmp_path / "FILE").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "securechat", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["FILE"]


def test_no_server_is_told_with_a_hint(clinic_server: ServerProcess) -> None:
    clinic_server.start()
    clinic_server.stop()
    done = run_securechat(clinic_server.folder, "whoami", "--as", "nobody-yet")
    assert done.returncode == 2
    send = ("send", "--as", "pat", "--to", "coord-ana", "--wait", "1", "hello")
    done = run_securechat(clinic_server.folder, *send)
    assert done.returncode == 4
    assert "serve --dev" in done.stderr
    clinic_server.start()
    assert (
        run_securechat(clinic_server.folder, "send", "--as", "pat", "--to", "coord-ana", "and").returncode
        == 0
    )
    tail = run_securechat(clinic_server.folder, "tail", "--as", "coord-ana", "--until-empty")
    assert tail.stdout == "pat: hello\npat: and\n"


def test_a_folder_without_a_clinic_is_told_with_a_hint(tmp_path: Path) -> None:
    done = run_securechat(tmp_path / "nowhere", "whoami", "--as", "pat")
    assert done.returncode == 2
    assert "serve --dev" in done.stderr


@pytest.mark.parametrize(
    "command", ["", "serve", "demo", "chat", "send", "tail", "whoami", "safety-number", "token", "policy"]
)
def test_every_command_has_help(command: str) -> None:
    words = [command] if command else []
    done = subprocess.run(
        [sys.executable, "-m", "securechat", *words, "--help"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    assert "usage:" in done.stdout


def _say(chat: "subprocess.Popen[str]", line: str) -> None:
    assert chat.stdin is not None
    chat.stdin.write(line + "\n")
    chat.stdin.flush()


def _read_until(chat: "subprocess.Popen[str]", words: str) -> str:
    assert chat.stdout is not None
    for line in chat.stdout:
        if words in line:
            return line.rstrip("\n")
    raise AssertionError("the chat ended before it showed the words")
