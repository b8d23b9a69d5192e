"""The set-up script: what it would run, and what it says to a wrong call."""

import ast
import hashlib
import importlib.machinery
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
SCRIPT: Final = ROOT / "dev"
LOCKS: Final = ("requirements.lock", "requirements-tools.lock")


@pytest.fixture(scope="module")
def dev() -> ModuleType:
    """The script as a module; importing it runs nothing."""
    loader = importlib.machinery.SourceFileLoader("dev_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("dev_script", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def call(*args: str) -> subprocess.CompletedProcess[str]:
    """Run the script with ARGS and an environment folder that must stay absent."""
    env = {**os.environ, "SECURECHAT_VENV": str(ROOT / ".venv-never-made")}
    return subprocess.run(
        [sys.executable, SCRIPT, *args], env=env, capture_output=True, text=True, check=False
    )


def test_the_interpreter_lies_where_each_system_puts_it(dev: ModuleType) -> None:
    assert dev.python_of("env", False) == os.path.join("env", "bin", "python")
    assert dev.python_of("env", True) == os.path.join("env", "Scripts", "python.exe")


def test_the_stamp_changes_with_the_lock_the_python_and_the_folder(dev: ModuleType) -> None:
    stamp = dev.stamp_text(b"lock", "3.11.7", "/checkout")
    assert stamp == f"{hashlib.sha256(b'lock').hexdigest()} 3.11.7 /checkout"
    others = {
        dev.stamp_text(b"lock2", "3.11.7", "/checkout"),
        dev.stamp_text(b"lock", "3.13.0", "/checkout"),
        dev.stamp_text(b"lock", "3.11.7", "/elsewhere"),
    }
    assert stamp not in others
    assert len(others) == 3


def test_a_stamp_without_its_interpreter_is_not_a_whole_environment(dev: ModuleType, tmp_path: Path) -> None:
    (tmp_path / dev.STAMP).write_text("stamp")
    assert not dev.is_whole(str(tmp_path), "stamp")
    python = Path(dev.python_of(str(tmp_path), os.name == "nt"))
    python.parent.mkdir()
    python.touch()
    assert dev.is_whole(str(tmp_path), "stamp")
    assert not dev.is_whole(str(tmp_path), "another stamp")


def test_an_installation_takes_pinned_wheels_and_nothing_else(dev: ModuleType) -> None:
    command = dev.install_command("env/bin/python", "/usr/bin/python3", "requirements.lock")
    assert command[:6] == ["/usr/bin/python3", "-m", "pip", "--python", "env/bin/python", "install"]
    assert {"--require-hashes", "--only-binary", ":all:", "--no-deps"} <= set(command)


def test_without_a_pip_outside_the_pip_inside_is_used(dev: ModuleType) -> None:
    command = dev.install_command("env/bin/python", "", "requirements.lock")
    assert command[:4] == ["env/bin/python", "-m", "pip", "install"]


def test_a_whole_test_run_is_parallel_and_arguments_replace_that(dev: ModuleType) -> None:
    assert dev.pytest_arguments([])[:4] == ["-m", "pytest", "-n", "auto"]
    assert dev.pytest_arguments(["-k", "ratchet"]) == ["-m", "pytest", "-k", "ratchet"]


def test_a_lock_is_resolved_for_every_platform_with_hashes_and_no_index(dev: ModuleType) -> None:
    command = dev.compile_command("uv", ["pyproject.toml"], "requirements.lock")
    assert {"--universal", "--generate-hashes", "--no-emit-index-url", "--no-annotate"} <= set(command)
    assert command[-2:] == ["-o", "requirements.lock"]


def test_an_address_in_a_lock_is_noticed(dev: ModuleType) -> None:
    assert dev.holds_address("--index-url https://example.org/simple\n")
    assert not dev.holds_address("aiohttp==3.14.5 --hash=sha256:00\n")


@pytest.mark.parametrize("name", LOCKS)
def test_the_committed_locks_name_no_server_and_pin_every_file(dev: ModuleType, name: str) -> None:
    text = (ROOT / name).read_text()
    assert not dev.holds_address(text)
    requirements = [line for line in text.splitlines() if line and not line.startswith(("#", " "))]
    assert requirements
    assert all("==" in line and line.endswith("\\") for line in requirements)
    assert not any("@" in line or line.startswith("-") for line in requirements)


def test_the_help_names_every_task() -> None:
    shown = call("--help")
    assert shown.returncode == 0
    assert all(f"./dev {task} " in shown.stdout for task in ("demo", "test", "check", "run", "lock"))


@pytest.mark.parametrize("args", [["dance"], ["run"], ["check", "more"], ["lock", "more"]])
def test_a_wrong_call_gets_one_line_and_status_2(args: list[str]) -> None:
    shown = call(*args)
    assert shown.returncode == 2
    assert shown.stderr == f"dev: no such task: {' '.join(args)} (see ./dev --help)\n"
    assert not (ROOT / ".venv-never-made").exists()


def test_no_task_at_all_prints_the_help_and_fails() -> None:
    shown = call()
    assert shown.returncode == 2
    assert shown.stdout.startswith("Set-up and everyday tasks")


def test_an_old_python_can_still_read_the_script() -> None:
    ast.parse(SCRIPT.read_text(), feature_version=(3, 6))


def test_a_check_that_fails_is_named_and_the_others_still_run(
    dev: ModuleType, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dev, "environment", lambda folder, lock: sys.executable)
    monkeypatch.setattr(
        dev, "CHECKS", [("first", ["-c", "raise SystemExit(3)"]), ("second", ["-c", "print('ran')"])]
    )
    assert dev.check() == 1
    shown = capfd.readouterr()
    assert shown.out == "ran\n"
    assert shown.err.splitlines() == ["dev: first", "dev: second", "dev: failed: first"]
