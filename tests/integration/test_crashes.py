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
    assert died.returncode == KILLED, died.stderr
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
    if step != "receive.acknowledged" or times == 1:  # acknowledgements are merged: a fourth may not come
        assert died.returncode == KILLED, died.stderr
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
    with _Background(folder) as sender:
        if not step.startswith("accept"):
            # the mailbox has to be read for the server to come to this step
            with _Background(folder, reads=len(TEXTS)) as reader:
                died = clinic_server.wait_for_death() if _must_die(step, times) else None
                if died is not None:
                    clinic_server.start()
                assert sender.finish() == 0
                texts = reader.texts()
        else:
            if _must_die(step, times):
                clinic_server.wait_for_death()
                clinic_server.start()
            assert sender.finish() == 0
            texts = _tail(folder)
    assert texts == TEXTS


def _must_die(step: str, times: int) -> bool:
    """Acknowledgements and answers are merged, so only the first of them is sure to come."""
    return times == 1 or not step.startswith(("ack", "accept.committed", "accept.answered", "accept.begun"))


class _Background:
    """A sender or reader that lives through the server's death."""

    def __init__(self, folder: Path, *, reads: int = 0) -> None:
        words = (
            ["tail", "--as", "dr-lee", "--json", "--count", str(reads)]
            if reads
            else ["send", "--as", "pat", "--to", "dr-lee", "--lines"]
        )
        self._process = subprocess.Popen(
            [sys.executable, "-m", "securechat", *words, "--dir", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=process_environment(None),
        )
        if not reads:
            assert self._process.stdin is not None
            self._process.stdin.write("\n".join(TEXTS))
            self._process.stdin.close()
            self._process.stdin = None

    def __enter__(self) -> "_Background":
        return self

    def __exit__(self, *error: object) -> None:
        self._process.kill()
        self._process.communicate()

    def finish(self) -> int:
        """Wait for the end and return the exit status."""
        self._process.communicate(timeout=60)
        return self._process.returncode

    def texts(self) -> list[str]:
        """Wait for the end and return what was read."""
        output, _ = self._process.communicate(timeout=60)
        return [json.loads(line)["text"] for line in output.splitlines()]


def _send(folder: Path, fault: str | None = None) -> "subprocess.CompletedProcess[str]":
    words = ("send", "--as", "pat", "--to", "dr-lee", "--lines", "--key", "run")
    return run_securechat(folder, *words, text="\n".join(TEXTS), fault=fault)


def _tail(folder: Path) -> list[str]:
    done = run_securechat(folder, "tail", "--as", "dr-lee", "--json", "--until-empty")
    assert done.returncode == 0, done.stderr
    return [json.loads(line)["text"] for line in done.stdout.splitlines()]
