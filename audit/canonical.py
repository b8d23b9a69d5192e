"""Canonical JSON: the part of RFC 8785 (JCS) that entries need.

Keys are ASCII and sorted, integers lie below 2**53, strings are ASCII tags; there are no floats and no nulls.
The schema in ``audit.entry`` sees to that, and a reader accepts bytes only if they come out the same again.
Two writers give equal bytes: orjson, and the standard library where orjson is missing.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TypeAlias

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json]"


def dumps_stdlib(value: Json) -> bytes:
    """Return sorted, compact UTF-8 JSON."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def loads_stdlib(data: bytes) -> object:
    """Parse JSON of any form. Raises ValueError, or RecursionError where it is nested too deep."""
    parsed: object = json.loads(data)
    return parsed


try:
    import orjson
except ImportError:  # an auditor may run this package with the standard library alone
    dumps = dumps_stdlib
    loads = loads_stdlib
else:

    def dumps(value: Json) -> bytes:
        """Return sorted, compact UTF-8 JSON."""
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)

    def loads(data: bytes) -> object:
        """Parse JSON of any form. Raises ValueError."""
        parsed: object = orjson.loads(data)
        return parsed
