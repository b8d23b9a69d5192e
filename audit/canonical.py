"""Canonical JSON: the part of RFC 8785 (JCS) that entries need.

Keys are ASCII and sorted, integers lie below 2**53, strings are NFC; there are no floats and no nulls.
Two writers give equal bytes: orjson, and the standard library where orjson is missing.
"""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

from audit.errors import EventError

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json]"

MAX_INT: Final = 2**53 - 1
_MAX_DEPTH: Final = 8


def dumps_stdlib(value: Json) -> bytes:
    """Return sorted, compact UTF-8 JSON; the value must already be in the subset."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def loads_stdlib(data: bytes) -> object:
    """Parse JSON leniently; ``decode`` is what rejects the rest."""
    parsed: object = json.loads(data)
    return parsed


try:
    import orjson
except ImportError:  # an auditor may run this package with the standard library alone
    dumps = dumps_stdlib
    loads = loads_stdlib
else:

    def dumps(value: Json) -> bytes:
        """Return sorted, compact UTF-8 JSON; the value must already be in the subset."""
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def loads(data: bytes) -> object:
        """Parse JSON leniently; ``decode`` is what rejects the rest."""
        parsed: object = orjson.loads(data)
        return parsed


def encode(value: Json) -> bytes:
    """Return the canonical bytes of ``value``. Raises EventError if it lies outside the subset."""
    _require_subset(value, 0)
    return dumps(value)


def decode(data: bytes) -> Json:
    """Parse canonical bytes. Raises EventError for whatever ``encode`` would not have written."""
    try:
        parsed = loads(data)
        value = _require_subset(parsed, 0)
        same = dumps(value) == data
    except (ValueError, RecursionError) as exc:  # both parsers raise subclasses of ValueError
        raise EventError(f"{len(data)} bytes are no JSON") from exc
    if not same:
        raise EventError(f"{len(data)} bytes are JSON, but not canonical")
    return value


def _require_subset(value: object, depth: int) -> Json:
    """Return ``value`` as Json, or raise EventError naming what it may not hold."""
    if depth > _MAX_DEPTH:
        raise EventError(f"JSON is nested deeper than {_MAX_DEPTH}")
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        if not -MAX_INT <= value <= MAX_INT:
            raise EventError("an integer lies outside 53 bits")
        return value
    if isinstance(value, str):
        if not unicodedata.is_normalized("NFC", value):
            raise EventError("a string is not in normalization form C")
        return value
    if isinstance(value, Mapping):
        for key in value:
            if not (isinstance(key, str) and key.isascii()):
                raise EventError("a key is not ASCII")
        return {key: _require_subset(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_require_subset(item, depth + 1) for item in value]
    raise EventError(f"{type(value).__name__} has no place in an entry")
