"""HTTP and WebSocket against a small real server: every answer becomes the right error."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from aiohttp import WSMsgType, web
from support.identities import NOW_MS, make_person
from support.server_parts import HandClock

from securechat.base64url import decode_base64url, encode_base64url
from securechat.client.clock import MAX_CORRECTION_MS, CorrectedClock
from securechat.client.config import Backoff, server_url
from securechat.client.http import HttpClient, Request
from securechat.client.key_directory import HttpKeyDirectory
from securechat.client.relay_link import WebSocketConnection, WebSocketLink
from securechat.client.server_session import ServerSession
from securechat.client.tokens import TokenSource
from securechat.errors import (
    AuthenticationError,
    ServerError,
    SessionUnknownError,
    SettingsError,
    TokenExpiredError,
    TransportError,
)
from securechat.protocol.prekeys import PreKeyCounts
from securechat.wire.auth import ChallengePurpose, challenge_message
from securechat.wire.frames import (
    Authenticate,
    Challenge,
    ClientFrame,
    CloseCode,
    Error,
    FrameCodec,
    Ping,
    Pong,
    Ready,
    ServerFrame,
)

ANA = make_person("ana")
CHALLENGE = b"c" * 32
CODEC = FrameCodec()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(*routes: tuple[str, str, Handler]) -> AsyncIterator[HttpClient]:
    """Serve ``routes`` on a free port and yield a client of it."""
    app = web.Application()
    for method, path, handler in routes:
        app.router.add_route(method, path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    http = HttpClient(f"http://127.0.0.1:{port}", timeout_s=5.0)
    try:
        yield http
    finally:
        await http.close()
        await runner.cleanup()


def answering(status: int, body: bytes = b"{}", **headers: str) -> Handler:
    async def handler(request: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers=named)

    return handler


def problem(code: str, *, retryable: bool = False, retry_after_ms: int = 0) -> bytes:
    return msgspec.json.encode({"code": code, "retryable": retryable, "retry_after_ms": retry_after_ms})


@pytest.mark.parametrize(
    ("status", "body", "code", "retryable"),
    [
        (404, problem("unknown_user"), "unknown_user", False),
        (409, problem("no_prekeys", retryable=True), "no_prekeys", True),
        (403, problem("access_denied"), "access_denied", False),
        (500, b"<html>", "http_error", True),
        (502, b"", "http_error", True),
        (400, b"[1]", "http_error", False),
        (302, b"", "http_error", False),
        (429, b"", "http_error", True),
    ],
)
async def test_a_problem_becomes_a_server_error(status: int, body: bytes, code: str, retryable: bool) -> None:
    async with serving(("GET", "/x", answering(status, body, Location="/y"))) as http:
        with pytest.raises(ServerError) as caught:
            await http.send(Request("GET", "/x"))
    found = caught.value
    assert (found.server_code, found.status, found.retryable) == (code, status, retryable)


async def test_the_time_to_wait_is_kept() -> None:
    body = problem("rate_limited", retry_after_ms=1_500)
    async with serving(("GET", "/x", answering(429, body, Retry_After="7"))) as http:
        with pytest.raises(ServerError) as caught:
            await http.send(Request("GET", "/x"))
    assert caught.value.retry_after_s == 7.0


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("token_expired", TokenExpiredError),
        ("session_unknown", SessionUnknownError),
        ("something new", AuthenticationError),
    ],
)
async def test_a_401_becomes_the_narrowest_authentication_error(
    code: str, kind: type[AuthenticationError]
) -> None:
    async with serving(("GET", "/x", answering(401, problem(code)))) as http:
        with pytest.raises(AuthenticationError) as caught:
            await http.send(Request("GET", "/x"))
    assert type(caught.value) is kind
    assert "something new" not in str(caught.value)


async def test_an_unreachable_server_is_a_transport_error_without_the_address() -> None:
    http = HttpClient("http://127.0.0.1:1", timeout_s=5.0)
    with pytest.raises(TransportError) as caught:
        await http.send(Request("GET", "/v1/users/canary.user/devices"))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None
    await http.close()


async def test_an_answer_that_is_too_long_or_malformed_is_refused() -> None:
    session = ("GET", "/v1/prekeys", answering(200, b'{"one_time": "many"}'))
    long = ("GET", "/x", answering(200, b"x" * (4 * 1024 * 1024 + 1)))
    async with serving(session, long, *login_routes([])) as http:
        with pytest.raises(TransportError):
            await http.send(Request("GET", "/x"))
        with pytest.raises(TransportError):
            await directory(http).prekey_counts()


async def test_a_session_is_opened_once_and_again_when_it_has_ended() -> None:
    log: list[str] = []

    async def counts(request: web.Request) -> web.Response:
        log.append(request.headers["Authorization"])
        if log.count(request.headers["Authorization"]) > 1:
            return web.Response(status=401, body=problem("session_unknown"))
        return web.json_response({"one_time": 3, "kem_one_time": 4, "low": True})

    async with serving(("GET", "/v1/prekeys", counts), *login_routes(log)) as http:
        keys = directory(http)
        for _ in range(2):
            assert await keys.prekey_counts() == PreKeyCounts(3, 4)
    assert log == ["login 1", "Session s1", "Session s1", "login 2", "Session s2"]


async def test_many_requests_share_one_login() -> None:
    log: list[str] = []
    counts = answering(200, b'{"one_time": 1, "kem_one_time": 1}')
    async with serving(("GET", "/v1/prekeys", counts), *login_routes(log)) as http:
        keys = directory(http)
        await asyncio.gather(*(keys.prekey_counts() for _ in range(20)))
    assert log == ["login 1"]


def login_routes(log: list[str]) -> list[tuple[str, str, Handler]]:
    """Challenge and session, with the proof checked."""

    async def challenge(request: web.Request) -> web.Response:
        body = {"challenge": encode_base64url(CHALLENGE), "server_time_ms": NOW_MS, "expires_ms": NOW_MS}
        return web.json_response(body, status=201)

    async def session(request: web.Request) -> web.Response:
        body = await request.json()
        message = challenge_message(ChallengePurpose.SESSION, ANA.local.address, CHALLENGE, body["token"])
        ANA.local.signing.public.verify(decode_base64url(body["signature"]), message)
        number = 1 + sum(line.startswith("login") for line in log)
        log.append(f"login {number}")
        return web.json_response({"session": f"s{number}", "expires_ms": NOW_MS}, status=201)

    return [("POST", "/v1/challenges", challenge), ("POST", "/v1/sessions", session)]


def directory(http: HttpClient) -> HttpKeyDirectory:
    clock = CorrectedClock(HandClock())
    session = ServerSession(http, TokenSource("token"), ANA.local.address, ANA.local.signing, clock)
    return HttpKeyDirectory(http, session)


class Relay:
    """A relay that plays one script for each connection: what it does after the proof."""

    def __init__(self, *scripts: "Script") -> None:
        self.scripts = list(scripts)
        self.tokens: list[str] = []

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_bytes(CODEC.encode(Challenge(CHALLENGE, NOW_MS + 1_000)))
        frame = CODEC.decode_client((await socket.receive()).data)
        assert isinstance(frame, Authenticate)
        message = challenge_message(ChallengePurpose.CONNECTION, ANA.local.address, CHALLENGE, frame.token)
        ANA.local.signing.public.verify(frame.signature, message)
        self.tokens.append(frame.token)
        await self.scripts.pop(0)(socket)
        async for incoming in socket:
            if incoming.type is WSMsgType.BINARY:
                await self.echo(socket, CODEC.decode_client(incoming.data))
        return socket

    @staticmethod
    async def echo(socket: web.WebSocketResponse, frame: ClientFrame) -> None:
        if isinstance(frame, Ping):
            await socket.send_bytes(CODEC.encode(Pong(frame.number)))


Script = Callable[[web.WebSocketResponse], Awaitable[None]]


def saying(*frames: ServerFrame) -> Script:
    async def script(socket: web.WebSocketResponse) -> None:
        for frame in frames:
            await socket.send_bytes(CODEC.encode(frame))

    return script


def closing(code: int, *frames: ServerFrame) -> Script:
    async def script(socket: web.WebSocketResponse) -> None:
        await saying(*frames)(socket)
        await socket.close(code=code)

    return script


READY = Ready(b"e" * 16, 7, NOW_MS + 60_000, NOW_MS + 1_000)


@asynccontextmanager
async def linked(relay: Relay, clock: CorrectedClock | None = None) -> AsyncIterator[WebSocketLink]:
    numbers = iter(range(1, 100))
    tokens = TokenSource(lambda: f"token {next(numbers)}")
    async with serving(("GET", "/v1/connect", relay.connect)) as http:
        yield WebSocketLink(
            http,
            tokens,
            ANA.local.address,
            ANA.local.signing,
            clock or CorrectedClock(HandClock()),
            timeout_s=5.0,
        )


async def test_a_connection_proves_itself_and_carries_frames() -> None:
    clock = CorrectedClock(HandClock())
    async with linked(Relay(saying(READY)), clock) as link:
        connection = await link.connect()
        assert (connection.ready.epoch, connection.ready.acked_seq) == (b"e" * 16, 7)
        assert clock.skew_ms == 1_000
        await connection.send([Ping(1), Ping(2)])
        assert [await connection.receive(), await connection.receive()] == [Pong(1), Pong(2)]
        await connection.close()


async def test_a_refused_token_is_replaced_once() -> None:
    relay = Relay(closing(CloseCode.UNAUTHENTICATED), saying(READY))
    async with linked(relay) as link:
        await (await link.connect()).close()
        assert relay.tokens == ["token 1", "token 2"]


async def test_a_second_refusal_is_final() -> None:
    refusal = Error("token_expired", None, False, 0)
    relay = Relay(closing(CloseCode.UNAUTHENTICATED), closing(CloseCode.UNAUTHENTICATED, refusal))
    async with linked(relay) as link:
        with pytest.raises(TokenExpiredError):
            await link.connect()


@pytest.mark.parametrize(
    ("code", "retryable"),
    [
        (CloseCode.CONNECTED_ELSEWHERE, False),
        (CloseCode.DENIED, False),
        (CloseCode.MALFORMED, False),
        (CloseCode.FRAME_TOO_LARGE, False),
        (CloseCode.FLOOD, True),
        (CloseCode.STORAGE_FAILURE, True),
    ],
)
async def test_a_closing_says_whether_to_try_again(code: CloseCode, retryable: bool) -> None:
    async with linked(Relay(closing(code, READY))) as link:
        connection = await link.connect()
        with pytest.raises(ServerError) as caught:
            await connection.receive()
        assert caught.value.retryable is retryable
        await connection.close()


@pytest.mark.parametrize("code", [CloseCode.GOING_AWAY, CloseCode.TOO_SLOW, 4_999, 1_000])
async def test_any_other_closing_is_tried_again(code: int) -> None:
    assert isinstance(await _closed(Relay(closing(code, READY))), TransportError)


@pytest.mark.parametrize("code", [CloseCode.SESSION_ENDED, CloseCode.UNAUTHENTICATED])
async def test_an_ended_session_asks_for_a_new_token(code: CloseCode) -> None:
    relay = Relay(closing(code, READY), saying(READY))
    async with linked(relay) as link:
        connection = await link.connect()
        with pytest.raises(TransportError):
            await connection.receive()
        await connection.close()
        await (await link.connect()).close()
    assert relay.tokens == ["token 1", "token 2"]


@pytest.mark.parametrize("raw", [b"", b"\xff" * 20, b"x" * 200_000])
async def test_rubbish_from_the_server_ends_the_connection(raw: bytes) -> None:
    async def script(socket: web.WebSocketResponse) -> None:
        await saying(READY)(socket)
        await socket.send_bytes(raw)

    assert isinstance(await _closed(Relay(script)), TransportError)


async def test_a_server_that_is_busy_says_so_before_ready() -> None:
    async with linked(Relay(saying(Error("overloaded", None, True, 2_000)))) as link:
        with pytest.raises(ServerError) as caught:
            await link.connect()
    assert (caught.value.retryable, caught.value.retry_after_s) == (True, 2.0)


async def test_a_server_without_a_relay_is_an_error() -> None:
    async with serving() as http:
        link = WebSocketLink(
            http,
            TokenSource("token"),
            ANA.local.address,
            ANA.local.signing,
            CorrectedClock(HandClock()),
            timeout_s=5.0,
        )
        with pytest.raises(ServerError) as caught:
            await link.connect()
    assert caught.value.status == 404


async def _closed(relay: Relay) -> Exception:
    async with linked(relay) as link:
        connection: WebSocketConnection = await link.connect()
        with pytest.raises(TransportError) as caught:
            await connection.receive()
        await connection.close()
        return caught.value


@pytest.mark.parametrize("url", ["https://chat.example", "http://127.0.0.1:8440", "http://localhost/"])
def test_a_good_address(url: str) -> None:
    assert server_url(url, allow_plain_http=False) == url.rstrip("/")


@pytest.mark.parametrize("url", ["http://chat.example", "chat.example", "ftp://x", "https://", "https://a?b"])
def test_plain_http_is_for_this_machine_alone(url: str) -> None:
    with pytest.raises(SettingsError):
        server_url(url, allow_plain_http=False)


def test_plain_http_can_be_allowed() -> None:
    assert server_url("http://relay:8440", allow_plain_http=True) == "http://relay:8440"


@pytest.mark.parametrize("days", [-400, -1, 0, 1, 400])
def test_the_clock_is_corrected_within_bounds(days: int) -> None:
    clock = CorrectedClock(HandClock())
    skew_ms = days * 86_400_000
    clock.learn(NOW_MS + skew_ms)
    assert clock.now_ms() == NOW_MS + max(-MAX_CORRECTION_MS, min(MAX_CORRECTION_MS, skew_ms))
    assert clock.server_now_ms() == NOW_MS + skew_ms


def test_waits_grow_to_a_ceiling() -> None:
    backoff = Backoff(first_s=0.5, most_s=30.0)
    assert [backoff.ceiling_s(failures) for failures in (1, 2, 3, 7, 1_000)] == [0.5, 1.0, 2.0, 30.0, 30.0]
