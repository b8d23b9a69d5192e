"""Logging with an allow-list: what is not listed here cannot reach a log line.

A line is an event name and values of listed keys; a value is a number, a boolean or an opaque tag. Exceptions
become their type, code and place, never their text; other libraries' records become their logger's name and
level, never their message. So no content, name, token or key has a way into the log, not even through hostile
input that a library quotes.
"""

import contextlib
import logging
import re
import sys
import threading
import traceback
from collections.abc import MutableMapping
from typing import Any, Final, Literal, TextIO

import structlog
from structlog.typing import FilteringBoundLogger, WrappedLogger

EventDict = MutableMapping[str, Any]  # structlog's own type of an event

ALLOWED_KEYS: Final = frozenset(
    {
        "attempt",
        "close_code",
        "connections",
        "count",
        "duration_ms",
        "error_code",
        "error_type",
        "host",
        "logger",
        "method",
        "port",
        "reason",
        "request_id",
        "route",
        "service",
        "signal",
        "status",
        "step",
        "version",
        "where",
    }
)
DROPPED: Final = "(dropped)"
LogFormat = Literal["json", "console"]

_ADDED_KEYS: Final = frozenset({"event", "level", "time"})
_is_event = re.compile(r"[a-z][a-z0-9_.\-]{0,63}\Z").match
_is_tag = re.compile(r"[A-Za-z0-9_.:/{}\-]{0,128}\Z").match


def configure_logging(stream: TextIO, *, log_format: LogFormat = "json", level: int = logging.INFO) -> None:
    """Send the logs of this process, and of every library in it, to ``stream``. Called once, by a root."""
    _configure(stream, log_format, level)
    logging.root.handlers[:] = [LibraryHandler()]
    logging.root.setLevel(max(level, logging.WARNING))


def get_logger(service: str) -> FilteringBoundLogger:
    """Return the logger of ``service``, such as ``relay``.

    Where no root has configured logging, as in a test, lines go to standard error by the same rules.
    """
    if not structlog.is_configured():
        _configure(None, "json", logging.INFO)
    logger: FilteringBoundLogger = structlog.get_logger(service=service)
    return logger


def describe_exception(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replace ``exc_info`` by the exception's type, stable code and place. A structlog processor."""
    info = event.pop("exc_info", None)
    error = info if isinstance(info, BaseException) else sys.exc_info()[1] if info is True else None
    if error is None and isinstance(info, tuple) and isinstance(info[1], BaseException):
        error = info[1]
    if error is not None:
        event["error_type"] = type(error).__name__
        event["error_code"] = getattr(error, "code", None) or "unforeseen"
        event["where"] = _place(error)
    return event


def keep_allowed(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Drop every key that is not listed and every value that is no number or tag. A structlog processor."""
    kept: EventDict = {key: _safe(event[key]) for key in sorted(ALLOWED_KEYS & event.keys())}
    kept.update({key: event[key] for key in _ADDED_KEYS & event.keys()})
    if not isinstance(kept["event"], str) or not _is_event(kept["event"]):
        kept["event"] = DROPPED
    return kept


class LibraryHandler(logging.Handler):
    """Turns the records of the standard library's logging into allowed lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log that ``record.name`` had something to say, and at which level."""
        logger: FilteringBoundLogger = structlog.get_logger()
        exc_info = record.exc_info if record.exc_info and record.exc_info[1] else None
        logger.log(record.levelno, "library.record", logger=record.name, exc_info=exc_info)


class LineOutput:
    """Writes finished lines to ``stream``, or to standard error as it is at that moment.

    A line that cannot be written is given up: a full disk under the log must not stop the service.
    """

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def log(self, line: str) -> None:
        """Write one line."""
        stream = self._stream or sys.stderr
        with self._lock, contextlib.suppress(OSError):
            stream.write(line + "\n")
            stream.flush()

    debug = info = warning = error = critical = exception = log


def _configure(stream: TextIO | None, log_format: LogFormat, level: int) -> None:
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=stream is not None and stream.isatty())
    )
    output = LineOutput(stream)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            describe_exception,
            keep_allowed,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=lambda *_: output,
        cache_logger_on_first_use=False,
    )


def _safe(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value) if isinstance(value, str) else DROPPED
    return text if _is_tag(text) else DROPPED


def _place(error: BaseException) -> str:
    """The innermost frame as ``file:line``, without the folder."""
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "unknown"
    last = frames[-1]
    name = re.split(r"[/\\]", last.filename)[-1]
    return f"{name}:{last.lineno}"
