"""Query parameters as people and programs write them, made into a ``Query``: shared by HTTP and command line.

Strict: an unknown or repeated parameter, an id outside the tag alphabet or a malformed time is a QueryError.
"""

from collections.abc import Mapping
from typing import Final

from audit.catalogue import types_matching
from audit.errors import EventError, QueryError
from audit.event import MAX_INT, Outcome, require_tag
from audit.reader import MAX_LIMIT, Order, Query
from audit.times import parse_time

FILTERS: Final = ("actor", "action", "object", "patient", "outcome", "org", "from", "to", "order")
DEFAULT_LIMIT: Final = 100


def parse_query(parameters: Mapping[str, str]) -> Query:
    """Return the query that ``parameters`` (keys of FILTERS) ask for. Raises QueryError."""
    for name in parameters:
        if name not in FILTERS:
            raise QueryError(name, "is no filter of the audit log")
    action = parameters.get("action")
    types = frozenset() if action is None else types_matching(action)
    if action is not None and not types:
        raise QueryError("action", "is no event type such as message.send, and no area such as message.*")
    return Query(
        actor=_tag(parameters, "actor"),
        types=types,
        object_id=_tag(parameters, "object"),
        patient=_tag(parameters, "patient"),
        outcome=_outcome(parameters.get("outcome")),
        org=_tag(parameters, "org"),
        since=_time(parameters, "from"),
        until=_time(parameters, "to"),
        order=_order(parameters.get("order")),
    )


def parse_limit(text: str | None) -> int:
    """Return the page size, 100 by default. Raises QueryError unless it is within 1 and 1000."""
    value = DEFAULT_LIMIT if text is None else parse_number("limit", text)
    if not 1 <= value <= MAX_LIMIT:
        raise QueryError("limit", f"is not within 1 and {MAX_LIMIT}")
    return value


def parse_number(name: str, text: str) -> int:
    """Return a decimal number below 2**53 that prints back the same. Raises QueryError."""
    if (
        not (text.isascii() and text.isdecimal())
        or len(text) > 16
        or str(int(text)) != text
        or int(text) > MAX_INT
    ):
        raise QueryError(name, "is no decimal number")
    return int(text)


def _time(parameters: Mapping[str, str], name: str) -> int | None:
    text = parameters.get(name)
    return None if text is None else parse_time(name, text)


def _tag(parameters: Mapping[str, str], name: str) -> str | None:
    value = parameters.get(name)
    if value is not None:
        try:
            require_tag(name, value)
        except EventError as exc:
            raise QueryError(name, "is no id of 1 to 128 characters of A-Z a-z 0-9 _ . : / -") from exc
    return value


def _outcome(text: str | None) -> Outcome | None:
    if text is None:
        return None
    try:
        return Outcome(text)
    except ValueError as exc:
        raise QueryError("outcome", "is none of ok, deny, error") from exc


def _order(text: str | None) -> Order:
    if text is None:
        return Order.NEWEST
    try:
        return Order(text)
    except ValueError as exc:
        raise QueryError("order", "is neither newest nor oldest") from exc
