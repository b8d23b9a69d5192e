"""Bring a database to the newest schema: each service has a folder of alembic scripts and a version row.

A service's folder is ``<service>/migrations`` with ``versions/0001_*.py``; its version lies in the table
``alembic_version_<service>``, so services that share a database do not move each other.
"""

from collections.abc import Sequence
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.script.revision import RevisionError
from alembic.util import CommandError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from securechat.errors import StoreError
from securechat.sql.sqlite import store_error


def migrate(engine: Engine, folders: Sequence[Path]) -> None:
    """Run every outstanding script of ``folders``, in that order, all in one transaction.

    Raises StoreError when a script fails or the database is newer than this program; then nothing changed.
    """
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for folder in folders:
                _upgrade(connection, folder)
            connection.commit()
    except (CommandError, RevisionError) as error:
        raise StoreError("the database was written by a newer version of this program") from error
    except DBAPIError as error:
        raise store_error(error) from error


def head(folder: Path) -> str | None:
    """Return the newest revision of ``folder``; None if it has no script."""
    return _scripts(folder).get_current_head()


def current(connection: Connection, folder: Path) -> str | None:
    """Return the revision that the database holds for the service of ``folder``; None before the first."""
    return _context(connection, folder).get_current_revision()


def version_table(folder: Path) -> str:
    """Return the name of the table with the service's version: ``alembic_version_<service>``."""
    return f"alembic_version_{folder.resolve().parent.name}"


def _upgrade(connection: Connection, folder: Path) -> None:
    scripts = _scripts(folder)
    context = _context(connection, folder)
    held = context.get_current_revision()
    newest = scripts.get_current_head()
    if held == newest or newest is None:
        return
    outstanding = reversed(list(scripts.iterate_revisions(newest, held or "base")))
    for script in outstanding:
        with Operations.context(context):
            script.module.upgrade()
        context.stamp(scripts, script.revision)


def _context(connection: Connection, folder: Path) -> MigrationContext:
    return MigrationContext.configure(connection, opts={"version_table": version_table(folder)})


def _scripts(folder: Path) -> ScriptDirectory:
    return ScriptDirectory(str(folder), version_locations=[str(folder / "versions")])
