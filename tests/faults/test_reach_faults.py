"""Recipients that are unknown, out of prekeys or forbidden by policy."""

import pytest
from support.relay_peer import RelayPeer
from support.site import DAY_MS, ServerTime, Site, Talk, all_accepted, blob

from securechat.client import Client
from securechat.errors import InvalidIdError, ServerError
from securechat.wire.frames import Error, QueueEmpty
from securechat.wire.messages import MessageKind, message_kind, parse_prekey_message
from securechat.wire.prekeys import PreKeyKind

ONE_TIME = (PreKeyKind.ONE_TIME.value, PreKeyKind.KEM_ONE_TIME.value)


async def test_an_unknown_recipient_is_told_and_holds_nobody_up(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        await talk.say(pat)
        for attempt in (pat.send("u-nobody", "text"), pat.direct("u-nobody")):
            with pytest.raises(ServerError) as caught:
                await attempt
            assert (caught.value.server_code, caught.value.retryable) == ("unknown_user", False)
        with pytest.raises(InvalidIdError):
            await pat.send("no such id", "text")
        await talk.say(pat)
        await talk.hear(lee)
    await talk.end()


async def test_a_device_that_is_not_enrolled_is_refused_by_the_relay(site: Site, talk: Talk) -> None:
    device = await site.device("pat")
    async with RelayPeer(site.url, device, site.mint("pat")) as pat:
        await pat.expect(QueueEmpty)
        stranger = type(device.address)(device.address.user, type(device.address.device)(7))
        await pat.send(stranger, 1)
        refusal = await pat.expect(Error)
        assert (refusal.code, refusal.retryable) == ("unknown_recipient", False)
    await talk.end()


async def test_without_one_time_prekeys_a_session_is_post_quantum_all_the_same(
    site: Site, talk: Talk
) -> None:
    lee = site.user("dr-lee")
    marks = ", ".join("?" * len(ONE_TIME))
    site.sql(f'DELETE FROM keyserver_prekeys WHERE "user" = ? AND kind IN ({marks})', (lee, *ONE_TIME))
    async with site.client("pat") as pat:
        await all_accepted(await talk.say(pat, 2))
    (first, _) = site.sql(
        'SELECT body FROM inbox JOIN mailbox m ON m.id = mailbox WHERE m."user" = ?', (lee,)
    )
    body = blob(first[0])
    assert message_kind(body) is MessageKind.PREKEY
    handshake = parse_prekey_message(body).handshake
    assert handshake.one_time_id is None
    assert handshake.kem_kind is PreKeyKind.KEM_LAST_RESORT
    await talk.end()


async def test_without_any_prekeys_in_date_a_message_waits_until_there_are(
    server_time: ServerTime, site: Site, talk: Talk
) -> None:
    site.clock = server_time.now_ms
    server_time.ahead_ms = 40 * DAY_MS  # dr-lee was away that long: every prekey is out of date
    async with site.client("pat") as pat:
        waiting = await talk.say(pat, 2)
        with pytest.raises(ServerError) as caught:
            await _claim(pat, site)
        assert (caught.value.server_code, caught.value.retryable) == ("no_prekeys", True)
        async with site.client("dr-lee") as lee:
            await all_accepted(waiting)
            await talk.hear(lee)
    await talk.end()


async def test_a_refusal_by_policy_names_its_rule_and_holds_nobody_up(site: Site, talk: Talk) -> None:
    async with site.client("pat") as pat, site.client("dr-lee") as lee:
        await talk.say(pat)
        with pytest.raises(ServerError) as caught:
            await pat.send(site.user("sam"), "from patient to patient")
        refusal = caught.value
        assert (refusal.status, refusal.server_code, refusal.retryable) == (403, "access_denied", False)
        assert refusal.rule == "guard-patient-to-patient"
        await talk.say(pat)
        await talk.hear(lee)
    ((entry,),) = site.sql("SELECT body FROM audit_entries WHERE outcome = 'deny'")
    assert b"guard-patient-to-patient" in blob(entry)
    await talk.end()


async def test_the_relay_refuses_what_the_policy_forbids_also_to_a_client_that_asks_nobody(
    site: Site, talk: Talk
) -> None:
    sam = (await site.device("sam")).address
    async with RelayPeer(site.url, await site.device("pat"), site.mint("pat")) as pat:
        await pat.expect(QueueEmpty)
        await pat.send(sam, 1)
        refusal = await pat.expect(Error)
        assert (refusal.code, refusal.retryable) == ("denied", False)
    assert site.sql("SELECT count(*) FROM inbox") == [(0,)]
    await talk.end()


async def _claim(client: Client, site: Site) -> None:
    lee = site.user("dr-lee")
    ((device,),) = site.sql('SELECT device FROM keyserver_devices WHERE "user" = ?', (lee,))
    await client.request("POST", f"/v1/users/{lee}/devices/{device!r}/bundle")
