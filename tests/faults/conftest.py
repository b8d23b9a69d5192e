"""One clinic, seeded once in a run of tests; each test gets a copy and a server of its own."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from support.site import ServerTime, Site, Talk

from securechat.cli import composition
from securechat.cli.clinic import seed_clinic


@pytest.fixture(scope="session")
def seeded_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a clinic whose people all have a device; never used in place."""
    folder = tmp_path_factory.mktemp("faults") / "clinic"
    folder.mkdir()
    seed_clinic(folder)
    asyncio.run(_enrol_everybody(folder))
    return folder


@pytest.fixture
def quiet_site(seeded_site: Path, tmp_path: Path) -> Site:
    """A clinic whose server does not run."""
    return Site(Path(shutil.copytree(seeded_site, tmp_path / "clinic")))


@pytest.fixture
async def site(quiet_site: Site) -> AsyncIterator[Site]:
    """A clinic whose server runs."""
    await quiet_site.start()
    yield quiet_site
    await quiet_site.stop()


@pytest.fixture
def talk(quiet_site: Site) -> Talk:
    """The account of what pat and dr-lee tell each other."""
    return Talk(quiet_site)


@pytest.fixture
def server_time(monkeypatch: pytest.MonkeyPatch) -> ServerTime:
    """The clock of the server's machine, which may be wrong; ask for it before the server starts."""
    clock = ServerTime()
    monkeypatch.setattr(composition, "time", clock)
    return clock


async def _enrol_everybody(folder: Path) -> None:
    site = Site(folder)
    await site.start()
    try:
        for person in site.clinic.people:
            async with site.client(person.handle):
                pass
    finally:
        await site.stop()
