"""The law of every exact format, tried on each truncation and each changed byte of an example."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from securechat.errors import WireError

T = TypeVar("T")


def check_exact_format(
    raw: bytes,
    parse: Callable[[bytes], T],
    encode: Callable[[T], bytes],
    *,
    positions: Iterable[int] | None = None,
) -> None:
    """Check that every mutant of ``raw`` is refused with WireError or is another value with its own bytes.

    ``positions`` limits the changed bytes of a long format to those worth trying.
    """
    original = parse(raw)
    assert encode(original) == raw
    for mutant in _mutants(raw, range(len(raw)) if positions is None else positions):
        try:
            value = parse(mutant)
        except WireError:
            continue
        assert value != original
        assert encode(value) == mutant


def _mutants(raw: bytes, positions: Iterable[int]) -> Iterator[bytes]:
    tried = sorted(set(positions))
    for at in tried:
        yield raw[:at]
        for change in (0x01, 0x80, 0xFF):
            yield raw[:at] + bytes([raw[at] ^ change]) + raw[at + 1 :]
    yield raw + b"\x00"
    yield raw + raw
    yield b""
