"""SIGKILL of the server and of both clients at every step of a send and a receive, as real processes.

Whatever step dies, after a restart every accepted message is delivered exactly once and in order.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.server_process import ServerProcess, process_environment, run_securechat

SENDING_STEPS = ("send.sealed", "send.stored", "send.transmitted", "send.confirmed")
RECEIVING_STEPS = ("receive.arrived", "receive.opened", "receive.stored", "receive.acknowledged")
SERVER_STEPS = (
    "accept.begun",
    "accept.written",
    "accept.committed",
    "accept.answered",
    "deliver.sent",
    "ack.received",
    "ack.written",
    "ack.committed",
)
TEXTS = [f"message {number}" for number in range(6)]
KILLED = -9


@pytest.mark.parametrize("step", SENDING_STEPS)
@pytest.mark.parametrize("times", [1, 4])
def test_a_sender_killed_at_any_step_sends_each_message_once(
    running_server: ServerProcess, step: str, times: int
) -> None:
    folder = running_server.folder
    died = _send(folder, fault=f"{step}:{times}")
    assert _was_killed(died.returncode, times), died.stderr
    again = _send(folder)
    assert again.returncode == 0, again.stderr
    assert _tail(folder) == TEXTS


@pytest.mark.parametrize("step", RECEIVING_STEPS)
@pytest.mark.parametrize("times", [1, 4])
def test_a_receiver_killed_at_any_step_reads_each_message_once(
    running_server: ServerProcess, step: str, times: int
) -> None:
    folder = running_server.folder
    assert _send(folder).returncode == 0
    command = ("tail", "--as", "dr-lee", "--json", "--until-empty")
    died = run_securechat(folder, *command, fault=f"{step}:{times}")
    assert _was_killed(died.returncode, times), died.stderr
    before = [json.loads(line) for line in died.stdout.splitlines()]
    done = run_securechat(folder, *command)
    assert done.returncode == 0, done.stderr
    after = [json.loads(line) for line in done.stdout.splitlines()]
    repeated = {row["id"] for row in before} & {row["id"] for row in after}
    # the process may die after it printed a message and before its own acknowledgement was on the disk
    assert repeated <= {row["id"] for row in before[-1:]}
    rows = before + [row for row in after if row["id"] not in repeated]
    assert [row["text"] for row in rows] == TEXTS


@pytest.mark.parametrize("step", SERVER_STEPS)
@pytest.mark.parametrize("times", [1, 3])
def test_a_server_killed_at_any_step_loses_and_doubles_nothing(
    clinic_server: ServerProcess, step: str, times: int
) -> None:
    folder = clinic_server.folder
    clinic_server.start(fault=f"{step}:{times}")
    with (
        _Background(folder, ["send", "--as", "pat", "--to", "dr-lee", "--lines"], "\n".join(TEXTS)) as sender,
        _Background(folder, ["tail", "--as", "dr-lee", "--json", "--count", str(len(TEXTS))]) as reader,
    ):
        kills = _finish_with_restarts(clinic_server, sender, reader)
        assert [json.loads(line)["text"] for line in reader.output()] == TEXTS
        assert len(sender.output()) == len(TEXTS)
    if kills == 0 and times == 1:  # the reader was gone before its acknowledgement: the next one brings it
        run_securechat(folder, "tail", "--as", "dr-lee", "--until-empty")
        assert clinic_server.wait_for_death() == KILLED
        clinic_server.start()
    assert _tail(folder) == []


def _was_killed(status: int, times: int) -> bool:
    """Whether the process died as arranged; steps are merged, so a fourth passage may not come."""
    return status == KILLED or (times > 1 and status == 0)


class _Background:
    """A client in a process of its own that lives through the server's death."""

    def __init__(self, folder: Path, words: list[str], text: str = "") -> None:
        self._output = (folder / f"{words[0]}.out").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "securechat", *words, "--dir", str(folder)],
            stdin=subprocess.PIPE,
            stdout=self._output,
            env=process_environment(None),
        )
        assert self.process.stdin is not None
        self.process.stdin.write(text.encode())
        self.process.stdin.close()

    def __enter__(self) -> "_Background":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        self._output.close()

    def output(self) -> list[str]:
        """The lines that it has printed."""
        self._output.seek(0)
        return self._output.read().splitlines()


def _finish_with_restarts(server: ServerProcess, *clients: _Background) -> int:
    """Wait until every client has ended well, starting the server again when it dies; return how often."""
    kills = 0
    for client in clients:
        while True:
            try:
                assert client.process.wait(0.1) == 0
                break
            except subprocess.TimeoutExpired:
                assert server.process is not None
                if server.process.poll() is not None:
                    assert server.wait_for_death() == KILLED
                    server.start()
                    kills += 1
    return kills


def _send(folder: Path, fault: str | None = None) -> "subprocess.CompletedProcess[str]":
    words = ("send", "--as", "pat", "--to", "dr-lee", "--lines", "--key", "run")
    return run_securechat(folder, *words, text="\n".join(TEXTS), fault=fault)


def _tail(folder: Path) -> list[str]:
    done = run_securechat(folder, "tail", "--as", "dr-lee", "--json", "--until-empty")
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]
