"""The server's folder: what lies in it is the operator's alone, and one server uses it at a time."""

import os
import stat
from pathlib import Path

import pytest

from securechat.cli.data_folder import open_data_folder
from securechat.errors import SettingsError, StoreLockedError
from securechat.sql.engine import open_database, seal_nothing

ORIGIN = "clinic.example/audit"


def open_to_others(folder: Path) -> None:
    folder.chmod(0o755)


def modes_in(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


@pytest.mark.skipif(os.name != "posix", reason="file modes are those of POSIX")
async def test_the_database_is_its_owners_alone_even_in_an_open_folder(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    with open_data_folder(tmp_path) as data:
        data.signer(ORIGIN)
        database = open_database(data.database_url, before_commit=seal_nothing)
        await database.write(lambda tx: tx.cursor.execute("CREATE TABLE t (x)"))
        modes = modes_in(tmp_path)
        await database.close()
    secret = {name: mode for name, mode in modes.items() if name != data.vkey_file.name}
    assert {"server.db", "server.db-wal", "audit.key", "server.lock"} <= secret.keys()
    assert set(secret.values()) == {0o600}


def test_a_second_server_is_kept_out(tmp_path: Path) -> None:
    with open_data_folder(tmp_path), pytest.raises(StoreLockedError), open_data_folder(tmp_path):
        pass


def test_the_audit_key_stays_and_serves_one_log_only(tmp_path: Path) -> None:
    with open_data_folder(tmp_path) as data:
        first = data.signer(ORIGIN).key.encode()
        assert data.signer(ORIGIN).key.encode() == first
        with pytest.raises(SettingsError, match="belongs to the log"):
            data.signer("other.example/audit")
