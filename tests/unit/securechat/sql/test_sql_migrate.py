"""Migrations: each service's scripts in order, once, all or nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect

from securechat.errors import StoreError
from securechat.sql.migrate import current, head, migrate
from securechat.sql.sqlite import create_sqlite_engine

SCRIPT = """
from alembic import op
import sqlalchemy as sa
revision = "{revision}"
down_revision = {down!r}

def upgrade():
    op.create_table("{table}", sa.Column("id", sa.Integer, primary_key=True))
    {more}
"""


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    opened = create_sqlite_engine(f"sqlite:///{tmp_path / 'server.db'}")
    yield opened
    opened.dispose()


def service(folder: Path, name: str, tables: list[str], more: str = "pass") -> Path:
    versions = folder / name / "migrations" / "versions"
    versions.mkdir(parents=True, exist_ok=True)
    for number, table in enumerate(tables, 1):
        down = f"{number - 1:04}" if number > 1 else None
        last = more if number == len(tables) else "pass"
        text = SCRIPT.format(revision=f"{number:04}", down=down, table=table, more=last)
        (versions / f"{number:04}_step.py").write_text(text)
    return versions.parent


def tables(engine: Engine) -> set[str]:
    return set(inspect(engine).get_table_names())


def test_the_scripts_of_two_services_run_beside_each_other_and_only_once(
    engine: Engine, tmp_path: Path
) -> None:
    folders = [service(tmp_path, "one", ["a", "b"]), service(tmp_path, "two", ["c"])]
    migrate(engine, folders)
    migrate(engine, folders)
    assert tables(engine) == {"a", "b", "c", "alembic_version_one", "alembic_version_two"}
    with engine.connect() as connection:
        assert [current(connection, folder) for folder in folders] == ["0002", "0001"]
    assert head(folders[0]) == "0002"


def test_a_database_of_an_older_version_gets_only_what_is_new(engine: Engine, tmp_path: Path) -> None:
    migrate(engine, [service(tmp_path, "one", ["a"])])
    migrate(engine, [service(tmp_path, "one", ["a", "b", "c"])])
    assert {"a", "b", "c"} <= tables(engine)


def test_a_failing_script_leaves_nothing_behind(engine: Engine, tmp_path: Path) -> None:
    bad = service(tmp_path, "one", ["a", "b"], more='op.execute("no such statement")')
    with pytest.raises(StoreError):
        migrate(engine, [service(tmp_path, "two", ["c"]), bad])
    assert tables(engine) == set()


def test_a_database_of_a_newer_version_is_refused(engine: Engine, tmp_path: Path) -> None:
    migrate(engine, [service(tmp_path, "one", ["a", "b"])])
    older = service(tmp_path / "older", "one", ["a"])
    with pytest.raises(StoreError, match="newer"):
        migrate(engine, [older])
