"""Times as people write and read them: ISO 8601, in UTC. The log itself holds microseconds since 1970."""

from datetime import UTC, datetime, timedelta
from typing import Final

from audit.errors import QueryError

_MICROSECOND: Final = timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(name: str, text: str) -> int:
    """Return microseconds since 1970 for an ISO 8601 date or time (UTC by default). Raises QueryError."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        value = (moment - _EPOCH) // _MICROSECOND
    except (ValueError, OverflowError) as exc:
        raise QueryError(name, "is no time such as 2026-03-01 or 2026-03-01T08:30:00Z") from exc
    if value < 0:
        raise QueryError(name, "lies before 1970")
    return value


def format_time(t: int) -> str:
    """Return microseconds since 1970 with all six digits, e.g. ``2026-03-01T08:30:00.000000Z``."""
    return (_EPOCH + t * _MICROSECOND).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
