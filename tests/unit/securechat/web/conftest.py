"""A server for each test, ended with it."""

from collections.abc import AsyncIterator

import pytest
from support.guarded_server import World


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    if hasattr(world, "client"):
        await world.client.close()
