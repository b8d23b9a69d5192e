"""The migration makes exactly the schema that the tables module describes."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, create_engine
from unit.audit.support import Server, check

import audit.tables
from audit.entry import QUERY_COLUMNS
from audit.tables import create_schema, entries

_SCRIPT = Path(audit.tables.__file__).parent / "migrations" / "versions" / "0001_audit_log.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_0001", _SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _upgrade(connection: Connection) -> None:
    with Operations.context(MigrationContext.configure(connection)):
        _script().upgrade()


def _schema(connection: Connection) -> set[tuple[str, str, str]]:
    rows = connection.exec_driver_sql("SELECT type, name, sql FROM sqlite_master WHERE sql IS NOT NULL")
    return {(kind, name, " ".join(sql.split())) for kind, name, sql in rows}


def test_the_migration_and_the_tables_make_the_same_schema() -> None:
    schemas = []
    for make in (_upgrade, create_schema):
        engine = create_engine("sqlite://")
        with engine.begin() as connection:
            make(connection)
            schemas.append(_schema(connection))
        engine.dispose()
    assert schemas[0] == schemas[1]
    assert len([kind for kind, _, _ in schemas[0] if kind == "trigger"]) == 9


def test_a_migrated_database_holds_a_log(tmp_path: Path) -> None:
    server = Server(tmp_path / "server.db")
    with server.engine.begin() as connection:
        _upgrade(connection)
    server.open()
    server.fill(3)
    server.close()
    assert check(server.path).intact


def test_a_downgrade_never_drops_the_log() -> None:
    with pytest.raises(RuntimeError, match="never dropped"):
        _script().downgrade()


def test_the_stored_columns_are_the_query_columns_and_the_hashed_bytes() -> None:
    assert tuple(column.name for column in entries.columns) == (*QUERY_COLUMNS, "body", "leaf", "chain")
