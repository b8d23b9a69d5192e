"""A server that is down at the start or in the middle, and one whose audit log cannot be written."""

import pytest
from support.site import Site, Talk, all_accepted, blob

from audit.errors import InconsistentLogError
from securechat.client import Client
from securechat.errors import ServerError, TransportError


async def test_without_a_server_an_enrolled_device_keeps_what_it_is_given(site: Site, talk: Talk) -> None:
    await site.stop()
    async with site.client("pat") as pat:
        assert not pat.is_connected
        waiting = await talk.say(pat, 3)
        await site.start()
        await all_accepted(waiting)
    await talk.end()


async def test_without_a_server_a_new_device_is_an_error_and_may_try_again(site: Site) -> None:
    site.add("max", "patient")
    await site.stop()
    with pytest.raises(TransportError) as caught:
        async with site.client("max"):
            pass
    assert caught.value.code == "transport"
    await site.start()
    await Talk(site, "max").end()


async def test_a_server_that_goes_away_in_the_middle_loses_nothing(site: Site, talk: Talk) -> None:
    new_contact = Talk(site, "pat", "nurse-kim")
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        for _ in range(3):
            await talk.say(pat, 3)
            await talk.say(lee, 3)
            await site.stop()
            await talk.say(pat, 3)
            await talk.say(lee, 3)
            await new_contact.say(pat)
            await site.start()
            await talk.hear(lee)
            await talk.hear(pat)
    await talk.end()
    await new_contact.end()


async def test_while_the_audit_log_takes_no_entries_nothing_is_accepted(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        await all_accepted(await talk.say(pat, 2))
        await talk.hear(lee)
        await site.until_acknowledged("dr-lee")
        entries = site.sql("SELECT max(seq), count(*) FROM audit_entries")
        _break_audit_log(site)
        waiting = await talk.say(pat, 3)
        await _refused_by_the_log(pat, "/v1/prekeys", "store_error")
        await _refused_by_the_log(pat, "/readyz", "audit_unavailable")
        assert site.sql("SELECT count(*) FROM inbox") == [(0,)]
        assert site.sql("SELECT max(seq), count(*) FROM audit_entries") == entries
        site.sql("DROP TRIGGER broken_log")
        await pat.request("GET", "/readyz")
        await all_accepted(waiting)
        await talk.hear(lee)
    await talk.end()


async def test_while_the_audit_log_takes_no_entries_nobody_is_let_in(site: Site, talk: Talk) -> None:
    async with site.client("dr-lee") as lee:
        await all_accepted(await talk.say(lee, 2))
    _break_audit_log(site)
    async with site.client("pat") as pat:
        assert not pat.is_connected
        waiting = await talk.say(pat, 2)
        site.sql("DROP TRIGGER broken_log")
        await all_accepted(waiting)
        await talk.hear(pat)
    await talk.end()


async def test_a_server_with_a_damaged_audit_log_does_not_start(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat:
        await all_accepted(await talk.say(pat, 2))
    await site.stop()
    (trigger,) = site.sql("SELECT sql FROM sqlite_master WHERE name = 'audit_entries_no_update'")
    site.sql("DROP TRIGGER audit_entries_no_update")
    last = "seq = (SELECT max(seq) FROM audit_entries)"
    ((body,),) = site.sql(f"SELECT body FROM audit_entries WHERE {last}")
    site.sql(f"UPDATE audit_entries SET body = x'00' WHERE {last}")
    with pytest.raises(InconsistentLogError):
        await site.start()
    site.sql(f"UPDATE audit_entries SET body = ? WHERE {last}", (blob(body),))
    site.sql(str(trigger[0]))
    await site.start()
    await talk.end()


def _break_audit_log(site: Site) -> None:
    site.sql(
        "CREATE TRIGGER broken_log BEFORE INSERT ON audit_entries BEGIN SELECT RAISE(ABORT, 'broken'); END"
    )


async def _refused_by_the_log(client: Client, path: str, code: str) -> None:
    with pytest.raises(ServerError) as caught:
        await client.request("GET", path)
    assert (caught.value.status, caught.value.retryable) == (503, True)
    assert caught.value.server_code == code
