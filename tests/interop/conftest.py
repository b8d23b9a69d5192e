"""What the tests against independent implementations share."""

import os
import secrets

import pytest


@pytest.fixture
def seed() -> int:
    """The seed of the schedule: of ``SECURECHAT_INTEROP_SEED``, to repeat a run, or a new one."""
    wanted = os.environ.get("SECURECHAT_INTEROP_SEED")
    return secrets.randbits(32) if wanted is None else int(wanted)
