"""What holds for every request: forms, sizes, ids, headers, problems, and a log without its text."""

import asyncio
import io
import logging
from collections.abc import AsyncIterator

import pytest
import structlog
from aiohttp import web
from support.guarded_server import CANARY, Answer, World, echo, greet, problem

from securechat.errors import StoreFullError
from securechat.logs import configure_logging
from securechat.web import routes
from securechat.web.routes import Call, json_response


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b'{"text":"a"}', "application/json", (200, "")),
        (b'{"text":1}', "application/json", (400, "bad_request")),
        (b'{"text":', "application/json", (400, "bad_request")),
        (b"", "application/json", (400, "bad_request")),
        (b'{"text":"\xff"}', "application/json", (400, "bad_request")),
        (b"[" * 90, "application/json", (400, "bad_request")),
        (b'{"text":"a"}', "text/plain", (415, "unsupported_media_type")),
        (b'{"text":"' + b"a" * 100 + b'"}', "application/json", (413, "body_too_large")),
    ],
)
async def test_a_body_is_taken_only_in_its_form_and_size(
    world: World, body: bytes, kind: str, expected: tuple[int, str]
) -> None:
    await world.start(world.route(echo, method="POST"))
    header = {**await world.session(), "Content-Type": kind}
    response = await world.client.post("/v1/thing", data=body, headers=header)
    assert (response.status, (await response.json()).get("code", "")) == expected


async def test_a_body_without_a_length_is_cut_at_the_limit(world: World) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"a" * 50

    await world.start(world.route(echo, method="POST"))
    header = {**await world.session(), "Content-Type": "application/json"}
    response = await world.client.post("/v1/thing", data=endless(), headers=header)
    assert await problem(response) == (413, "body_too_large", False)


async def test_a_body_that_does_not_arrive_in_time_is_given_up(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = asyncio.Event()

    async def unfinished() -> AsyncIterator[bytes]:
        yield b'{"text":'
        await never.wait()

    await world.start(world.route(echo, method="POST"))
    header = {**await world.session(), "Content-Type": "application/json"}
    monkeypatch.setattr(routes, "BODY_SECONDS", 0.01)
    response = await world.client.post("/v1/thing", data=unfinished(), headers=header)
    assert await problem(response) == (408, "body_too_slow", True)
    assert world.told()[-1] == ("prekey.count", "error", "body_too_slow")


async def test_a_bad_body_is_described_without_being_repeated(world: World) -> None:
    await world.start(world.route(echo, method="POST"))
    header = {**await world.session(), "Content-Type": "application/json"}
    for body in (f'{{"text":["{CANARY}"]}}', f'{{"{CANARY}":1}}', CANARY):
        response = await world.client.post("/v1/thing", data=body, headers=header)
        assert response.status == 400
        assert CANARY not in await response.text()


@pytest.mark.parametrize("given", ["abc-123", "A.b_c", "x" * 64])
async def test_a_request_id_is_echoed(world: World, given: str) -> None:
    await world.start()
    response = await world.client.get("/healthz", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "x" * 65, "a b", "<script>", "é"])
async def test_a_request_id_that_is_no_tag_is_replaced(world: World, given: str) -> None:
    await world.start()
    response = await world.client.get("/healthz", headers={"X-Request-Id": given})
    assert response.headers["X-Request-Id"] not in ("", given)


async def test_every_answer_forbids_caching_and_names_no_software(world: World) -> None:
    await world.start()
    for path in ("/healthz", "/nowhere"):
        response = await world.client.get(path)
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Server"] == "securechat"


async def test_what_is_no_route_is_a_404_and_a_wrong_method_a_405(world: World) -> None:
    await world.start(world.route(greet))
    assert await problem(await world.client.get("/v1/nothing")) == (404, "not_found", False)
    assert await problem(await world.client.delete("/v1/thing")) == (405, "method_not_allowed", False)


async def test_health_is_told_without_credentials(world: World) -> None:
    await world.start()
    assert (await world.client.get("/healthz")).status == 200
    assert (await world.client.get("/readyz")).status == 200
    world.ready_error = StoreFullError("the disk is full")
    assert (await world.client.get("/readyz")).status == 200
    world.clock.advance(1)
    assert (await world.client.get("/healthz")).status == 200
    assert await problem(await world.client.get("/readyz")) == (503, "store_full", True)


async def test_hostile_bytes_leave_no_text_of_theirs_in_the_log(world: World) -> None:
    handlers, out = logging.root.handlers[:], io.StringIO()
    configure_logging(out)
    try:
        await world.start()
        server = world.client.server
        for raw in (f"GET /{CANARY} HTTP/9.9\r\n{CANARY}\r\n\r\n", f"\x00{CANARY}\r\n\r\n"):
            reader, writer = await asyncio.open_connection(server.host, server.port)
            writer.write(raw.encode())
            await asyncio.wait_for(reader.read(), 5)
            writer.close()
        await world.client.get(f"/{CANARY}")
    finally:
        structlog.reset_defaults()
        logging.root.handlers[:] = handlers
    assert CANARY not in out.getvalue()
    assert "Traceback" not in out.getvalue()


async def test_bytes_that_are_no_http_get_a_400_and_end_the_connection(world: World) -> None:
    await world.start()
    for raw in (b"\x16\x03\x01\x02\x00", b"GET\r\n\r\n", b"\x00" * 100 + b"\r\n\r\n"):
        server = world.client.server
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(raw + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 5)
        assert answer.startswith(b"HTTP/1.") or answer == b""
        assert b"Traceback" not in answer
        writer.close()


@pytest.mark.parametrize(("key", "accepted"), [("abc", True), ("x" * 128, True), ("x" * 129, False)])
async def test_an_idempotency_key_is_1_to_128_visible_characters(
    world: World, key: str, accepted: bool
) -> None:
    async def show(call: Call) -> web.Response:
        return json_response(Answer(call.idempotency_key or "none"))

    await world.start(world.route(show, method="POST"))
    header = {**await world.session(), "Idempotency-Key": key}
    response = await world.client.post("/v1/thing", headers=header)
    assert response.status == (200 if accepted else 400)
