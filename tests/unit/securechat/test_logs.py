"""Logs: what is not allowed cannot appear, whatever calls the logger."""

import errno
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from securechat.errors import StoreFullError
from securechat.logs import ALLOWED_KEYS, configure_logging, get_logger

CANARY = "ana.smith potassium 6.1"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    handlers, level = logging.root.handlers[:], logging.root.level
    out = io.StringIO()
    configure_logging(out)
    yield out
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_an_event_a_level_a_time_and_allowed_keys(stream: io.StringIO) -> None:
    get_logger("web").info("request", method="GET", route="/v1/users/{user}", status=200, duration_ms=1.5)
    (line,) = lines(stream)
    assert line.pop("time")
    assert line == {
        "event": "request",
        "level": "info",
        "service": "web",
        "method": "GET",
        "route": "/v1/users/{user}",
        "status": 200,
        "duration_ms": 1.5,
    }


def test_a_full_disk_under_the_log_stops_nobody(stream: io.StringIO) -> None:
    class FullDisk(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "no space left on device")

    configure_logging(FullDisk())
    get_logger("web").info("request", status=200)
    logging.getLogger("aiohttp.server").error("library")


def test_a_key_that_is_not_listed_is_dropped(stream: io.StringIO) -> None:
    get_logger("web").info("request", body=CANARY, token=CANARY, user="ana", plaintext=b"x", status=1)
    assert set(lines(stream)[0]) == {"event", "level", "time", "service", "status"}


@pytest.mark.parametrize("value", [CANARY, "a" * 129, b"bytes", ["a"], {"a": 1}, object(), "line\nbreak"])
def test_a_value_that_is_no_tag_is_dropped(stream: io.StringIO, value: object) -> None:
    get_logger("web").info("request", reason=value)
    assert lines(stream)[0]["reason"] == "(dropped)"


def test_free_text_as_the_event_is_dropped(stream: io.StringIO) -> None:
    get_logger("web").info(f"could not deliver {CANARY}")
    assert lines(stream)[0]["event"] == "(dropped)"
    assert CANARY not in stream.getvalue()


def test_an_exception_becomes_its_type_code_and_place(stream: io.StringIO) -> None:
    try:
        raise StoreFullError(CANARY)
    except StoreFullError as error:
        get_logger("relay").error("write.failed", exc_info=error)
        get_logger("relay").exception("write.failed")
    for line in lines(stream):
        assert line["error_type"] == "StoreFullError"
        assert line["error_code"] == "store_full"
        assert str(line["where"]).startswith("test_logs.py:")
    assert CANARY not in stream.getvalue()
    assert "Traceback" not in stream.getvalue()


def test_another_library_s_records_lose_their_text(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.server").error("Error handling request %s", CANARY)
    try:
        raise ValueError(CANARY)
    except ValueError:
        logging.getLogger("asyncio").exception("Task failed: %s", CANARY)
    first, second = lines(stream)
    assert (first["event"], first["logger"], first["level"]) == ("library.record", "aiohttp.server", "error")
    assert second["error_type"] == "ValueError"
    assert CANARY not in stream.getvalue()


def test_quiet_records_of_libraries_are_not_shown(stream: io.StringIO) -> None:
    logging.getLogger("aiohttp.access").info("GET /")
    get_logger("web").debug("request")
    assert stream.getvalue() == ""


def test_the_console_form_drops_as_much() -> None:
    handlers = logging.root.handlers[:]
    out = io.StringIO()
    configure_logging(out, log_format="console")
    get_logger("web").info("request", reason=CANARY, body=CANARY)
    structlog.reset_defaults()
    logging.root.handlers[:] = handlers
    assert CANARY not in out.getvalue()
    assert "request" in out.getvalue()


def test_no_allowed_key_invites_content() -> None:
    assert not ALLOWED_KEYS & {"body", "content", "key", "message", "name", "text", "token", "user"}
