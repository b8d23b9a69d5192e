"""Asks a running server for its audit log with a device's own session, as a compliance officer's app does."""

from typing import Final

import msgspec

from securechat.client import Client

PATH: Final = "/v1/audit/entries"


class Named(msgspec.Struct, frozen=True):
    """Whoever acted, or what was acted on: an opaque id."""

    id: str = ""


class Policy(msgspec.Struct, frozen=True):
    """The rules that decided."""

    ids: list[str] = []


class AuditRow(msgspec.Struct, frozen=True):
    """What the table of an officer shows of one entry; ``t`` in microseconds. Other fields are left alone."""

    seq: int
    t: int
    type: str
    outcome: str
    actor: Named = Named()
    object: Named = Named()
    policy: Policy = Policy()


class AuditPage(msgspec.Struct, frozen=True):
    """One page of the log and the cursor of the next."""

    items: list[AuditRow]
    next_cursor: str | None = None


async def ask_audit(me: Client, *, limit: int, **filters: str) -> list[AuditRow]:
    """Return up to ``limit`` rows that match ``filters``. Raises ServerError when the policy refuses."""
    rows: list[AuditRow] = []
    query = {**filters, "limit": str(min(limit, 200))}
    while True:
        raw = await me.request("GET", PATH, query=query)
        page = msgspec.json.decode(raw, type=AuditPage)
        rows.extend(page.items)
        if page.next_cursor is None or len(rows) >= limit:
            return rows[:limit]
        query["cursor"] = page.next_cursor
