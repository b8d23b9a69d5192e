"""What the demo found, as one value: for machines by ``--json``, for people by the report."""

from collections import Counter
from collections.abc import Sequence

import msgspec


class DeliveryCheck(msgspec.Struct, frozen=True):
    """What one side should have read against what it read."""

    expected: int
    delivered: int
    lost: int
    duplicated: int
    reordered: int


class Facts(msgspec.Struct, frozen=True):
    """The verdict of one run; ``ok`` only if every check holds."""

    messages: int
    delivered: int
    lost: int
    duplicated: int
    reordered: int
    queued_while_offline: int
    server_kills: int
    safety_numbers_equal: bool
    plaintext_on_server: bool
    audit_entries: int
    audit_verified: bool
    tamper_detected: bool
    tampered_entry: int | None
    denied: bool
    denied_by: str
    officer_rows: int
    seconds: float
    ok: bool


def check_delivery(expected: Sequence[str], got: Sequence[str]) -> DeliveryCheck:
    """Compare the texts of the input file with the texts that the reader was handed, in order."""
    want, have = Counter(expected), Counter(got)
    lost = sum((want - have).values())
    duplicated = sum((have - want).values())
    in_order = [text for text in got if text in want]
    reordered = 0 if lost or duplicated else sum(a != b for a, b in zip(expected, in_order, strict=True))
    return DeliveryCheck(len(expected), len(got), lost, duplicated, reordered)
