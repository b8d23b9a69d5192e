"""The consultation that the demo holds: one JSON object a line (examples/consultation.jsonl)."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final, Literal

import msgspec

from securechat.errors import SettingsError

Side = Literal["patient", "clinician"]
DEFAULT_SCRIPT: Final = Path(__file__).resolve().parents[3] / "examples" / "consultation.jsonl"


class Turn(msgspec.Struct, frozen=True, rename={"side": "from"}):
    """One message of the script."""

    turn: int
    side: Side
    text: str


@dataclass(frozen=True, slots=True)
class Run:
    """Turns that one side sends without waiting for the other."""

    side: Side
    turns: tuple[Turn, ...]


def read_script(path: Path) -> tuple[Turn, ...]:
    """Return the turns of ``path``, numbered from 1 without gaps. Raises SettingsError."""
    try:
        lines = path.read_bytes().splitlines()
        turns = tuple(msgspec.json.decode(line, type=Turn) for line in lines if line.strip())
    except OSError as error:
        raise SettingsError(f"the consultation cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise SettingsError(f"a line of the consultation is malformed: {error}") from error
    if [turn.turn for turn in turns] != list(range(1, len(turns) + 1)):
        raise SettingsError("the turns of the consultation are not numbered 1, 2, 3, ...")
    return turns


def runs_of(turns: Sequence[Turn]) -> tuple[Run, ...]:
    """Cut the script where the side changes."""
    return tuple(Run(side, tuple(group)) for side, group in groupby(turns, key=lambda turn: turn.side))


def disturbed_run(runs: Sequence[Run], side: Side) -> int:
    """Return the index of the run of ``side`` with the most turns among the middle half of the script."""
    middle = range(len(runs) // 4, max(len(runs) * 3 // 4, len(runs) // 4 + 1))
    candidates = [index for index in middle if runs[index].side == side]
    if not candidates:
        raise SettingsError(f"the consultation has no turn of the {side} in its middle")
    return max(candidates, key=lambda index: len(runs[index].turns))
