"""Who sees which entries of the audit log over HTTP."""

import aiohttp
from support.server_process import ServerProcess

from securechat.cli.audit_api import ask_audit
from securechat.cli.clinic import load_clinic
from securechat.cli.people import open_client


async def test_failed_log_ins_are_seen_by_the_operators_officers(running_server: ServerProcess) -> None:
    async with aiohttp.ClientSession(running_server.url) as stranger:
        refused = await stranger.get("/v1/prekeys", headers={"Authorization": "Session nobody"})
        assert refused.status == 401
    clinic = load_clinic(running_server.folder)
    async with open_client(clinic, clinic.person("officer-ruiz")) as officer:
        failed = await ask_audit(officer, limit=10, action="auth.login-failed")
        own = await ask_audit(officer, limit=10, action="session.open")
    assert [row.outcome for row in failed] == ["deny"]
    assert own
