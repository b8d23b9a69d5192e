"""The quick-start of the README, run exactly as it is printed against a server started here."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server_process import process_environment

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLES = REPOSITORY / "examples" / "quickstart"


def printed_blocks() -> list[str]:
    """The Python blocks of the README, in order."""
    readme = (REPOSITORY / "README.md").read_text()
    return re.findall(r"^```python\n(.*?)^```$", readme, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def quick_start(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder with the key of an app, and the address of a server that knows it."""
    registration = _python(
        tmp_path,
        ["-m", "securechat", "token", "keygen", "mint.key"],
        ["--app", "my-app", "--key-id", "k1", "--audience", "quickstart"],
    )
    (tmp_path / "app-keys").write_text(registration)
    command = [sys.executable, "-m", "securechat", "serve", "--data", "server", "--port", "0", "--quiet"]
    server = subprocess.Popen(
        [*command, "--app-keys", "app-keys", "--audience", "quickstart"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        text=True,
        env=process_environment(None, {"PYTHONPATH": str(REPOSITORY)}),
    )
    assert server.stdout is not None
    try:
        line = server.stdout.readline()
        assert line.startswith("ready ")
        yield tmp_path, line.split()[1]
    finally:
        server.terminate()
        server.wait(30)
        server.stdout.close()


def test_the_readme_prints_the_example_files() -> None:
    blocks = printed_blocks()
    for name in ("patient.py", "myapp.py"):
        assert (EXAMPLES / name).read_text() in blocks


def test_the_quick_start_runs_as_printed(quick_start: tuple[Path, str]) -> None:
    folder, url = quick_start
    for name, block in zip(("patient.py", "myapp.py"), printed_blocks(), strict=False):
        (folder / name).write_text(block)
    (folder / "clinician.py").write_text((EXAMPLES / "clinician.py").read_text())
    clinician = subprocess.Popen(
        [sys.executable, "clinician.py"],
        cwd=folder,
        stdout=subprocess.PIPE,
        text=True,
        env=_person(url, "dr.lee", "clinician"),
    )
    assert clinician.stdout is not None
    try:
        assert clinician.stdout.readline() == "ready\n"
        output = _python(folder, ["patient.py"], [], environment=_person(url, "ana", "patient"))
        assert clinician.wait(30) == 0
    finally:
        clinician.kill()
        clinician.wait(30)
        clinician.stdout.close()
    first, second = output.splitlines()
    assert re.fullmatch(r"compare once, by voice: (\d{5} ){11}\d{5}", first)
    assert second == "dr.lee: Please come in today. Do not take the tablets."


def _person(url: str, user: str, role: str) -> dict[str, str]:
    extra = {"CHAT_URL": url, "CHAT_USER": user, "CHAT_ROLE": role, "PYTHONPATH": str(REPOSITORY)}
    return process_environment(None, extra)


def _python(
    folder: Path, first: list[str], rest: list[str], environment: dict[str, str] | None = None
) -> str:
    done = subprocess.run(
        [sys.executable, *first, *rest],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment or {**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
