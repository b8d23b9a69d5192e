"""The log over HTTP: stored bytes as they are, strict parameters, typed errors for the server."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import Connection, create_engine
from unit.audit import insider
from unit.audit.support import START_US

from audit.errors import AuditError, EntryNotFoundError, QueryError
from audit.filters import parse_query
from audit.handlers import AuditHandlers
from audit.reader import Order, Query
from audit.times import format_time, parse_time

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Client = TestClient[web.Request, web.Application]


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Translate as a server would, and show the code."""
    try:
        return await handler(request)
    except EntryNotFoundError as exc:
        return web.json_response({"code": exc.code}, status=404)
    except QueryError as exc:
        return web.json_response({"code": exc.code, "parameter": exc.parameter}, status=400)
    except AuditError as exc:
        return web.json_response({"code": exc.code}, status=500)


@pytest.fixture
async def client(log: Path) -> AsyncIterator[Client]:
    engine = create_engine(f"sqlite:///{log}")

    async def read(work: Callable[[Connection], T], /) -> T:
        with engine.connect() as connection:
            return work(connection)

    handlers = AuditHandlers(read)
    app = web.Application(middlewares=[_problems])
    app.router.add_get("/entries", handlers.entries)
    app.router.add_get("/entries/{seq}", handlers.entry)
    app.router.add_get("/checkpoint", handlers.checkpoint)
    async with TestClient(TestServer(app)) as running:
        yield running
    engine.dispose()


async def test_entries_come_as_their_stored_bytes_with_a_cursor(client: Client, log: Path) -> None:
    response = await client.get("/entries", params={"limit": "2", "order": "oldest"})
    assert response.status == 200
    assert response.content_type == "application/json"
    with insider.owning(log) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM audit_entries LIMIT 2")]
    assert await response.read() == b'{"items":[' + b",".join(bodies) + b'],"next_cursor":"1"}'


async def test_pages_go_on_at_the_cursor_until_there_is_none(client: Client) -> None:
    seen: list[int] = []
    parameters = {"actor": "usr_1", "limit": "4"}
    while True:
        page = json.loads(await (await client.get("/entries", params=parameters)).read())
        seen += [item["seq"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert seen == list(range(57, 0, -4))


async def test_one_entry_comes_as_its_stored_bytes(client: Client) -> None:
    response = await client.get("/entries/7")
    assert json.loads(await response.read())["seq"] == 7
    missing = await client.get("/entries/60")
    assert (missing.status, (await missing.json())["code"]) == (404, "audit_entry_not_found")


async def test_the_checkpoint_comes_as_a_note(client: Client, log: Path) -> None:
    response = await client.get("/checkpoint")
    assert response.content_type == "text/plain"
    assert await response.read() == insider.newest_note(log)


async def test_a_row_that_lies_is_an_error_and_not_an_answer(client: Client, log: Path) -> None:
    insider.run(log, "UPDATE audit_entries SET actor = 'usr_9' WHERE seq = 23")
    response = await client.get("/entries", params={"actor": "usr_9"})
    assert (response.status, (await response.json())["code"]) == (500, "audit_log_inconsistent")


@pytest.mark.parametrize(
    ("parameters", "named"),
    [
        ("actor=Jane+Roe", "actor"),
        ("actor=", "actor"),
        ("actor=a&actor=b", "actor"),
        ("who=usr_1", "who"),
        ("action=message", "action"),
        ("action=message.read", "action"),
        ("outcome=fine", "outcome"),
        ("order=up", "order"),
        ("from=yesterday", "from"),
        ("to=1969-01-01", "to"),
        ("to=9999-99-99", "to"),
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=+5", "limit"),
        ("limit=05", "limit"),
        ("limit=%D9%A3", "limit"),
        ("limit=99999999999999999999", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=-1", "cursor"),
        ("cursor=9007199254740992", "cursor"),
    ],
)
async def test_a_bad_parameter_is_refused_and_named(client: Client, parameters: str, named: str) -> None:
    response = await client.get(f"/entries?{parameters}")
    assert response.status == 400
    assert await response.json() == {"code": "audit_query_invalid", "parameter": named}


async def test_a_bad_entry_number_is_refused(client: Client) -> None:
    assert (await client.get("/entries/seven")).status == 400


def test_all_filters_make_one_query() -> None:
    query = parse_query(
        {"actor": "usr_1", "object": "o", "patient": "p", "org": "g", "from": "2026-11-18", "order": "oldest"}
    )
    assert query == Query(
        actor="usr_1",
        object_id="o",
        patient="p",
        org="g",
        since=parse_time("from", "2026-11-18T00:00:00Z"),
        order=Order.OLDEST,
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01", 1_000_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.000001Z", 1),
        (format_time(START_US + 123), START_US + 123),
    ],
)
def test_times_are_utc_unless_they_say_otherwise(text: str, expected: int) -> None:
    assert parse_time("from", text) == expected
