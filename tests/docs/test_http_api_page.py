"""The page of the HTTP interface names every problem under its status, and every route of its part."""

import re
from pathlib import Path

from support.openapi import all_routes
from support.pages import page

from audit.errors import AuditError
from keyserver.app import KEYSERVER_PROBLEMS
from keyserver.directory import LOW_WATER, MAX_STORED
from keyserver.handlers import CLAIMS_BY_REQUESTER, CLAIMS_OF_PAIR, CLAIMS_OF_TARGET, ENROLLMENTS
from securechat.errors import AuthenticationError, SecureChatError
from securechat.web.problems import STANDARD_PROBLEMS

TEXT = page("docs/reference/http-api.md").text
OF_THE_LOG = {"audit_query_invalid", "audit_entry_not_found"}  # on the audit log's own page


def codes_by_status() -> dict[int, set[str]]:
    found: dict[int, set[str]] = {}
    for error, answer in {**STANDARD_PROBLEMS, **KEYSERVER_PROBLEMS}.items():
        assert issubclass(error, SecureChatError | AuditError)
        if error is not AuthenticationError and error.code not in OF_THE_LOG:
            found.setdefault(int(answer.status), set()).add(error.code)
    found[401] = {kind.code for kind in AuthenticationError.__subclasses__()}
    return found


def test_every_code_stands_under_its_status() -> None:
    told: dict[int, set[str]] = {}
    for row in re.findall(r"^\| ([\d, ]+) \| ([^|]+) \|", TEXT, re.MULTILINE):
        statuses = [int(status) for status in row[0].split(",")]
        codes = re.findall(r"`(\w+)`", row[1])
        for position, status in enumerate(statuses):
            told[status] = set(codes) if len(statuses) == 1 else {codes[position]}
    told.pop(500)
    assert told == codes_by_status()


async def test_every_route_of_sessions_and_keys_is_on_the_page(tmp_path: Path) -> None:
    for route in await all_routes(tmp_path):
        if route.path.startswith(("/v1/audit", "/v1/messages", "/v1/connect")):
            continue  # on pages of their own
        assert f"`{route.method} {route.path}`" in TEXT


def test_the_limits_on_the_page_are_those_of_the_code() -> None:
    for limit in (CLAIMS_BY_REQUESTER, CLAIMS_OF_TARGET, CLAIMS_OF_PAIR):
        assert f"(`{limit.name}`) | {limit.burst} | {limit.window_s} s |" in TEXT
    assert (ENROLLMENTS.burst, ENROLLMENTS.window_s) == (20, 3600)
    assert "20 changes an hour" in TEXT
    assert f"more\nthan {MAX_STORED} one-time prekeys" in TEXT
    assert f"fewer than {LOW_WATER} one-time prekeys" in TEXT
