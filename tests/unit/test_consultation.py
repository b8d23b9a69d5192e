"""The consultation that the demo holds: well-formed, and as awkward as its README says."""

import json
import unicodedata
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Final

import pytest

FILE: Final = Path(__file__).parents[2] / "examples" / "consultation.jsonl"
JOINER: Final = "\u200d"
SKIN_TONES: Final = {chr(point) for point in range(0x1F3FB, 0x1F400)}
REGIONAL_INDICATORS: Final = {chr(point) for point in range(0x1F1E6, 0x1F200)}


@dataclass(frozen=True, slots=True)
class Turn:
    """One line of the file."""

    number: int
    side: str
    text: str


@pytest.fixture(scope="module")
def turns() -> list[Turn]:
    """The whole file, parsed."""
    lines = FILE.read_bytes().decode().split("\n")
    assert lines.pop() == "", "the last line ends with a newline"
    rows = [json.loads(line) for line in lines]
    assert all(list(row) == ["turn", "from", "text"] for row in rows)
    return [Turn(row["turn"], row["from"], row["text"]) for row in rows]


def test_turns_are_numbered_without_a_gap_and_both_sides_speak(turns: list[Turn]) -> None:
    assert [turn.number for turn in turns] == list(range(1, len(turns) + 1))
    assert 30 <= len(turns) <= 36
    assert {turn.side for turn in turns} == {"patient", "clinician"}


def test_no_text_is_empty_or_beyond_the_limit_of_one_message(turns: list[Turn]) -> None:
    assert all(1 <= len(turn.text.encode()) <= 65_536 for turn in turns)


def test_both_sides_send_runs_of_several_turns(turns: list[Turn]) -> None:
    runs = [(side, len(list(run))) for side, run in groupby(turns, key=lambda turn: turn.side)]
    assert max(length for side, length in runs if side == "patient") >= 4
    assert max(length for side, length in runs if side == "clinician") >= 2


def test_lengths_go_from_one_byte_to_several_kilobytes(turns: list[Turn]) -> None:
    sizes = sorted(len(turn.text.encode()) for turn in turns)
    assert sizes[:2] == [1, 1]
    assert all(2_000 <= size <= 4_000 for size in sizes[-2:])
    assert {" ", "."} <= {turn.text for turn in turns}


def test_texts_hold_every_kind_of_awkward_white_space_and_mark_up(turns: list[Turn]) -> None:
    everything = "".join(turn.text for turn in turns)
    assert all(mark in everything for mark in ("\r\n", "\t", '"', "\\", "<b>", "&", "%", "{"))
    assert any(turn.text.startswith("\n") and turn.text.endswith("\n") for turn in turns)


def test_texts_hold_emoji_of_several_code_points(turns: list[Turn]) -> None:
    characters = {character for turn in turns for character in turn.text}
    assert JOINER in characters
    assert characters & SKIN_TONES
    assert len(characters & REGIONAL_INDICATORS) == 2
    assert any(turn.text.endswith(JOINER) for turn in turns), "a joiner with nothing to join"


def test_texts_hold_right_to_left_scripts_and_direction_marks(turns: list[Turn]) -> None:
    everything = "".join(turn.text for turn in turns)
    assert {"AL", "R", "AN"} <= {unicodedata.bidirectional(character) for character in everything}
    assert "\u2066" in everything
    assert "\u2069" in everything


def test_texts_hold_combining_characters_that_normalising_would_change(turns: list[Turn]) -> None:
    changed = [turn for turn in turns if unicodedata.normalize("NFC", turn.text) != turn.text]
    assert changed
    everything = "".join(turn.text for turn in changed)
    assert any("DEVANAGARI" in unicodedata.name(character, "") for character in everything)
    assert any("HANGUL CHOSEONG" in unicodedata.name(character, "") for character in everything)
