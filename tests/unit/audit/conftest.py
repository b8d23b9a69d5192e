"""A log of 60 entries, and the checkpoint that an auditor kept at 40; each test attacks its own copy."""

import shutil
from pathlib import Path

import pytest
from unit.audit.insider import newest_note
from unit.audit.support import running_server

ENTRIES = 60
KEPT = 40


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Return the path of a closed database and the note over its first 40 entries."""
    path = tmp_path_factory.mktemp("log") / "server.db"
    with running_server(path) as server:
        server.fill(KEPT)
        kept = newest_note(path)
        server.fill(ENTRIES - KEPT, first=KEPT)
    return path, kept


@pytest.fixture
def log(pristine: tuple[Path, bytes], tmp_path: Path) -> Path:
    """Return a copy of the log to do with as a test likes."""
    copy = tmp_path / "server.db"
    shutil.copyfile(pristine[0], copy)
    return copy


@pytest.fixture
def kept(pristine: tuple[Path, bytes]) -> bytes:
    """Return the checkpoint of size 40 that the auditor kept."""
    return pristine[1]
