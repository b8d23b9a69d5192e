"""Reads vector files of ``tests/vectors``."""

from pathlib import Path
from typing import Any

import msgspec

VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> Any:
    """Return the parsed JSON file ``name``, relative to ``tests/vectors``."""
    return msgspec.json.decode((VECTORS / name).read_bytes())


def wycheproof(name: str) -> list[dict[str, Any]]:
    """Return the cases of one Wycheproof file."""
    cases: list[dict[str, Any]] = load(f"wycheproof/{name}.json")
    return cases
