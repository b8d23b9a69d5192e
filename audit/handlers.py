"""The log over HTTP: entries by filter, one entry, the newest checkpoint. Read only.

No authentication happens here: the server mounts these handlers below its own authorization, translates the
typed errors, and records every reading as an event.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from aiohttp import web
from sqlalchemy import Connection

from audit.errors import EntryNotFoundError, QueryError
from audit.filters import parse_limit, parse_number, parse_query
from audit.reader import LogReader

T = TypeVar("T")

_JSON: Final = "application/json"


class Read(Protocol):
    """Runs a function in a read transaction of the server's database."""

    def __call__(self, work: Callable[[Connection], T], /) -> Awaitable[T]:
        """Return what ``work`` returned."""
        ...


@dataclass(frozen=True, slots=True)
class AuditHandlers:
    """``GET`` handlers; ``read`` runs their work against the database."""

    read: Read

    async def entries(self, request: web.Request) -> web.Response:
        """Answer ``{"items": [entry, ...], "next_cursor": "seq" or null}``; each item is the stored bytes.

        Parameters: actor, action, object, patient, outcome, org, from, to, order, limit, cursor. Raises
        QueryError.
        """
        parameters = _single_values(request)
        limit = parse_limit(parameters.pop("limit", None))
        cursor_text = parameters.pop("cursor", None)
        cursor = None if cursor_text is None else parse_number("cursor", cursor_text)
        query = parse_query(parameters)
        page = await self.read(
            lambda connection: LogReader(connection).query(query, cursor=cursor, limit=limit)
        )
        return web.Response(body=page.to_json(), content_type=_JSON)

    async def entry(self, request: web.Request) -> web.Response:
        """Answer the stored bytes of entry ``{seq}``. Raises QueryError or EntryNotFoundError."""
        seq = parse_number("seq", request.match_info["seq"])
        found = await self.read(lambda connection: LogReader(connection).entry(seq))
        return web.Response(body=found.body, content_type=_JSON)

    async def checkpoint(self, request: web.Request) -> web.Response:
        """Answer the newest checkpoint as a signed note. Raises EntryNotFoundError before the first."""
        stored = await self.read(lambda connection: LogReader(connection).newest_checkpoint())
        if stored is None:
            raise EntryNotFoundError("the log has no checkpoint yet")
        return web.Response(body=stored.note, content_type="text/plain", charset="utf-8")


def _single_values(request: web.Request) -> dict[str, str]:
    """Return the query string as a mapping. Raises QueryError for a repeated parameter."""
    values: dict[str, str] = {}
    for name, value in request.query.items():
        if name in values:
            raise QueryError(name, "is given more than once")
        values[name] = value
    return values
