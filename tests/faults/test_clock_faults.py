"""A clock wrong by a day: a device's is told and allowed for, a server's refuses tokens until it is right."""

import subprocess
import sys

import pytest
from support.clients import next_of
from support.site import DAY_MS, ServerTime, Site, Talk, all_accepted

from securechat.client import Client, ClockSkew, Message
from securechat.client.client import system_clock
from securechat.errors import AuthenticationError, TokenExpiredError, TokenNotYetValidError


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_device_a_day_off_is_told_so_and_talks(site: Site, talk: Talk, days: int) -> None:
    def wrong() -> int:
        return system_clock() + days * DAY_MS

    async with site.client("pat", clock=wrong) as pat, site.client("dr-lee") as lee:
        skew = await next_of(pat.events(), ClockSkew)
        assert abs(skew.skew_ms + days * DAY_MS) < 60_000
        await talk.say(pat, 2)
        await talk.hear(lee)
        await talk.say(lee, 2)
        await talk.hear(pat)
    await talk.end()


@pytest.mark.parametrize("days", [-1, 1])
async def test_a_device_a_day_off_enrols_and_dates_its_messages_right(site: Site, days: int) -> None:
    def wrong() -> int:
        return system_clock() + days * DAY_MS

    site.add("max", "patient")
    talk = Talk(site, "max")
    async with site.client("max", clock=wrong) as newcomer, site.client("dr-lee") as lee:
        await talk.say(lee)
        await talk.hear(newcomer)
        await newcomer.send(lee.user, "dated")
        message = await next_of(lee.events(), Message)
        assert abs(message.sent_ms - system_clock()) < 60_000
        await message.ack()
    await talk.end()


@pytest.mark.parametrize(("days", "error"), [(-1, TokenNotYetValidError), (1, TokenExpiredError)])
async def test_a_server_a_day_off_refuses_tokens_until_its_clock_is_right(
    server_time: ServerTime, site: Site, talk: Talk, days: int, error: type[AuthenticationError]
) -> None:
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        await talk.say(pat, 2)
        await talk.hear(lee)
        await pat.disconnect()
        waiting = await talk.say(pat, 3)
        server_time.ahead_ms = days * DAY_MS
        with pytest.raises(error):
            await pat.connect()
        with pytest.raises(error):
            await all_accepted(waiting)
        server_time.ahead_ms = 0
        await _connect_all(pat, lee)
        await all_accepted(waiting)
        await talk.hear(lee)
    await talk.end()
    await site.stop()
    _verify_audit_log(site)


async def _connect_all(*clients: Client) -> None:
    for client in clients:
        await client.connect()


def _verify_audit_log(site: Site) -> None:
    """The log records the steps of the clock and still holds together."""
    command = ["verify", str(site.database), "--vkey-file", str(site.data / "audit.vkey")]
    done = subprocess.run(
        [sys.executable, "-m", "audit", *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
