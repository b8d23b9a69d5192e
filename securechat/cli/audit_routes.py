"""Mounts the audit log's handlers below authentication and authorization.

A reader sees the entries of the own organisation, whatever the query says; a reader of the organisation that
runs the server sees all, also those that belong to none, such as failed log-ins.
"""

from typing import Final

from aiohttp import web

from audit.handlers import AuditHandlers
from securechat.authz.model import Action, Resource
from securechat.ids import OrgId
from securechat.web.caller import Caller
from securechat.web.resources import Resources
from securechat.web.routes import Auth, Call, Docs, RecordedBy, Route

_FILTERS: Final = (
    *("actor", "action", "object", "patient", "outcome", "from", "to"),
    *("order", "limit", "cursor"),
)


class AuditRoutes:
    """The audit log over HTTP: each reading is itself recorded before its answer leaves."""

    def __init__(self, handlers: AuditHandlers, resources: Resources, operator: OrgId | None) -> None:
        self._handlers = handlers
        self._resources = resources
        self._operator = operator

    def routes(self) -> tuple[Route, ...]:
        """Return the routes."""
        return (
            Route(
                "GET",
                "/v1/audit/entries",
                self._entries,
                Action.AUDIT_QUERY,
                Auth.SESSION,
                self._log,
                RecordedBy.LAYER,
                Docs(summary="Query the entries of one's own organisation", errors=(400,), query=_FILTERS),
            ),
            Route(
                "GET",
                "/v1/audit/checkpoint",
                self._checkpoint,
                Action.AUDIT_VERIFY,
                Auth.SESSION,
                self._log,
                RecordedBy.LAYER,
                Docs(summary="Get the newest signed checkpoint (a C2SP signed note)", errors=(404,)),
            ),
        )

    async def _log(self, request: web.Request, caller: Caller) -> Resource:
        return self._resources.audit_log(caller.principal.org)

    async def _entries(self, call: Call) -> web.Response:
        if call.caller.principal.org == self._operator:
            return await self._handlers.entries(call.request)
        own = call.request.rel_url.update_query(org=call.caller.principal.org)
        return await self._handlers.entries(call.request.clone(rel_url=own))

    async def _checkpoint(self, call: Call) -> web.Response:
        return await self._handlers.checkpoint(call.request)
