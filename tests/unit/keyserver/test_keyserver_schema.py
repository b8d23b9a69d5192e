"""The migrations build exactly the tables that the code uses."""

from pathlib import Path

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

import keyserver.tables
from keyserver.tables import metadata
from securechat.sql.migrate import migrate
from securechat.sql.sqlite import create_sqlite_engine

FOLDER = Path(keyserver.tables.__file__).parent / "migrations"


def test_the_migrations_and_the_tables_agree(tmp_path: Path) -> None:
    engine = create_sqlite_engine(f"sqlite:///{tmp_path / 'server.db'}")
    migrate(engine, [FOLDER])
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_name": _ours})
        assert compare_metadata(context, metadata) == []
        found = inspect(connection)
        for table in metadata.sorted_tables:
            built = {index["name"]: index["column_names"] for index in found.get_indexes(table.name)}
            assert built == {index.name: [column.name for column in index.columns] for index in table.indexes}
            assert found.get_pk_constraint(table.name)["constrained_columns"] == [
                column.name for column in table.primary_key
            ]
    engine.dispose()


def _ours(name: str | None, kind: str, parents: object) -> bool:
    return kind != "table" or name in metadata.tables


def test_no_table_has_a_column_for_a_name_or_a_secret() -> None:
    columns = {column.name for table in metadata.sorted_tables for column in table.columns}
    assert columns == {
        "user", "org", "roles", "roles_issued_ms", "status", "device_list", "created_ms", "device", "signing",
        "agreement", "enrolled_ms", "removed_ms", "kind", "id", "body", "expires_ms", "digest", "key",
        "target_user", "target_device", "bundle",
    }  # fmt: skip
