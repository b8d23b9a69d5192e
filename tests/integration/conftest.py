"""Clinics for the tests: seeded once, copied for each test that needs its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.server_process import ServerProcess, copy_clinic


@pytest.fixture(scope="session")
def seeded_clinic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A seeded clinic whose server is stopped; never used in place."""
    folder = tmp_path_factory.mktemp("seeded") / "clinic"
    folder.mkdir()
    server = ServerProcess(folder)
    server.start()
    server.stop()
    return folder


@pytest.fixture
def clinic_server(seeded_clinic: Path, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server of its own clinic, not started yet."""
    server = ServerProcess(copy_clinic(seeded_clinic, tmp_path / "clinic"))
    yield server
    server.stop()


@pytest.fixture
def running_server(clinic_server: ServerProcess) -> ServerProcess:
    """The same, started."""
    clinic_server.start()
    return clinic_server
