"""Runs an application: how connections are read and what is never logged."""

import logging
from typing import Final

from aiohttp import web

MAX_LINE_BYTES: Final = 8190
MAX_HEADER_BYTES: Final = 8190
KEEPALIVE_SECONDS: Final = 75.0
SHUTDOWN_SECONDS: Final = 5.0


def make_runner(app: web.Application) -> web.AppRunner:
    """Return the runner of ``app``.

    aiohttp's own lines (malformed bytes, disconnects) go to a logger of the standard library, which
    ``securechat.logs`` reduces to a line without their text; there is no access log beside our own.
    """
    return web.AppRunner(
        app,
        access_log=None,
        logger=logging.getLogger("aiohttp.server"),
        keepalive_timeout=KEEPALIVE_SECONDS,
        shutdown_timeout=SHUTDOWN_SECONDS,
        max_line_size=MAX_LINE_BYTES,
        max_field_size=MAX_HEADER_BYTES,
    )
