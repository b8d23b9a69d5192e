"""Enrols one device for each person of a local clinic, so that everybody can be written to at once.

Runs as a process of its own: the server's process never holds a device's keys.
"""

import argparse
import asyncio
import sys
from pathlib import Path

from securechat.cli.clinic import Clinic, Person, load_clinic
from securechat.cli.people import open_client


async def _enrol(clinic: Clinic, person: Person) -> None:
    async with open_client(clinic, person):
        pass


async def _enrol_all(clinic: Clinic) -> None:
    async with asyncio.TaskGroup() as tasks:
        for person in clinic.people:
            if not clinic.has_device(person):
                tasks.create_task(_enrol(clinic, person))


def main() -> int:
    """Enrol whoever has no device yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=Path, required=True)
    asyncio.run(_enrol_all(load_clinic(parser.parse_args().dir)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
