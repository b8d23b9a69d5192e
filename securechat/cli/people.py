"""Opens the client of one person of the local clinic."""

import contextlib
from collections.abc import AsyncIterator

from securechat.cli.clinic import Clinic, Person
from securechat.cli.faults import fault_from_environment
from securechat.client import Client


@contextlib.asynccontextmanager
async def open_client(clinic: Clinic, person: Person) -> AsyncIterator[Client]:
    """Open the person's store and connect; the first time this enrols the device."""
    store, key = clinic.store_of(person)

    async def token() -> str:
        return clinic.mint(person)

    async with Client.open(
        clinic.url(), token=token, store=store, key=key.reveal(), fault=fault_from_environment()
    ) as client:
        yield client
