"""A server whose database was put back from a backup older than what people sent and read since."""

import json
import shutil
import subprocess
import sys

from support.server_process import ServerProcess, run_securechat


def test_after_a_restore_new_messages_are_not_taken_for_old(clinic_server: ServerProcess) -> None:
    server, backup = clinic_server, clinic_server.folder / "backup.db"
    server.start()
    assert _exchange(server, ["one", "two"]) == ["one", "two"]
    server.stop()
    shutil.copy(server.database, backup)
    server.start()
    assert _exchange(server, ["three", "four", "five"]) == ["three", "four", "five"]
    server.stop()
    for file in server.database.parent.glob("server.db*"):
        file.unlink()
    shutil.copy(backup, server.database)
    server.start("--restored")
    assert _exchange(server, ["six", "seven"]) == ["six", "seven"]
    server.stop()
    query = [
        sys.executable,
        "-m",
        "audit",
        "query",
        str(server.database),
        "--action",
        "backup.restored",
        "--json",
    ]
    said = subprocess.run(query, capture_output=True, text=True, check=True)
    assert "backup.restored" in said.stdout


def _exchange(server: ServerProcess, texts: list[str]) -> list[str]:
    send = ("send", "--as", "pat", "--to", "dr-lee", "--lines")
    sent = run_securechat(server.folder, *send, text="\n".join(texts))
    assert sent.returncode == 0, sent.stderr
    tail = run_securechat(server.folder, "tail", "--as", "dr-lee", "--json", "--until-empty")
    assert tail.returncode == 0, tail.stderr
    return [json.loads(line)["text"] for line in tail.stdout.splitlines()]
