"""A real server of a seeded clinic in a process of its own, which a test may kill and start again."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from securechat.cli.faults import VARIABLE


class ServerProcess:
    """``python -m securechat serve --dev`` on a free loopback port, kept over restarts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = ""
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def database(self) -> Path:
        """The server's database."""
        return self.folder / "server" / "server.db"

    def start(
        self,
        *arguments: str,
        fault: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start and wait for the line ``ready URL``."""
        port = self.url.rpartition(":")[2] or "0"
        command = ["serve", "--dev", "--dir", str(self.folder), "--port", port, "--quiet"]
        with (self.folder / "server.err").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "securechat", *command, *arguments],
                stdout=subprocess.PIPE,
                stderr=log,
                env=process_environment(fault, environment),
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline().decode().strip()
        assert line.startswith("ready "), (self.folder / "server.err").read_text()
        self.url = line.removeprefix("ready ")

    def kill(self) -> None:
        """SIGKILL."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def stop(self) -> None:
        """SIGTERM, then wait; also for a process that ended by itself."""
        if self.process is not None:
            self.process.terminate()
            self._reap()

    def wait_for_death(self) -> int:
        """Wait until the process has ended by itself and return its status."""
        assert self.process is not None
        return self._reap()

    def _reap(self) -> int:
        assert self.process is not None
        status = self.process.wait(30)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


def process_environment(fault: str | None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment, unbuffered, with the fault to arrange."""
    environment = {key: value for key, value in os.environ.items() if key != VARIABLE}
    environment |= {"PYTHONUNBUFFERED": "1", **(extra or {})}
    if fault is not None:
        environment[VARIABLE] = fault
    return environment


def run_securechat(
    folder: Path, *arguments: str, text: str | None = None, fault: str | None = None, timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run one command of a person of the clinic in ``folder``."""
    return subprocess.run(
        [sys.executable, "-m", "securechat", *arguments, "--dir", str(folder)],
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        env=process_environment(fault),
    )


def copy_clinic(source: Path, target: Path) -> Path:
    """Copy a seeded clinic whose server is stopped; its people keep their keys and devices."""
    shutil.copytree(source, target)
    return target
