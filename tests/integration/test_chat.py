"""A chat in a terminal goes on after a refusal, and ends cleanly while its input is still open."""

import subprocess
import sys
from pathlib import Path

from support.server_process import ServerProcess


def chat(folder: Path, handle: str) -> subprocess.Popen[str]:
    """Start a chat; its standard input stays open."""
    return subprocess.Popen(
        [sys.executable, "-m", "securechat", "chat", "--as", handle, "--dir", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Return the first line that holds ``words``; the end of the output is a failure."""
    assert process.stdout is not None
    for line in process.stdout:
        if words in line:
            return line
    raise AssertionError(f"the chat ended without {words!r}")


def test_a_refusal_is_shown_and_the_chat_goes_on(running_server: ServerProcess) -> None:
    with chat(running_server.folder, "pat") as process:
        assert process.stdin is not None
        process.stdin.write("/to sam\ncan you read this?\n/to dr-lee\nbut you can\n/people\n")
        process.stdin.flush()
        assert "guard-patient-to-patient" in read_until(process, "refused")
        read_until(process, "Writing to Dr.")
        read_until(process, "Noor Haddad")
        process.stdin.write("/quit\n")
        process.stdin.flush()
        assert process.wait(30) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""
