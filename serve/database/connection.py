"""`Database`: SQLite in a file, or PostgreSQL by URL, behind two calls: `reading` and `writing`.

A block of `writing` is one transaction, on disk when it ends. Calls block: from a coroutine go through a thread.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, OperationalError
from sqlalchemy.orm import Session

from serve.database import page_tables as _page_tables  # noqa: F401  # who has a database knows all of its tables

MIGRATIONS = Path(__file__).with_name("migrations")
BUSY_MS = 30_000
WRITES = "service_writes"


class DatabaseError(RuntimeError):
    """A database that cannot be used; the message says which and what to do, and never holds a password."""


class Database:
    """Sessions on one database."""

    def __init__(self, url: str) -> None:
        """Plan the connections; `upgrade` makes the tables.

        Raises:
            DatabaseError: the URL is none, or of another kind of database.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise DatabaseError("the database's address is no URL of the form postgresql+psycopg://...") from None
        self.kind = parsed.get_backend_name()
        if self.kind not in ("sqlite", "postgresql"):
            raise DatabaseError(f"the database's address names {self.kind}; served are sqlite and postgresql")
        if parsed.drivername == "postgresql":
            parsed = parsed.set(drivername="postgresql+psycopg")
        self._url = parsed
        self.name = parsed.render_as_string(hide_password=True)
        options: dict[str, Any] = {} if self.kind == "sqlite" else {"pool_size": 16, "max_overflow": 16}
        self.engine = create_engine(parsed, pool_pre_ping=self.kind != "sqlite", **options)
        # SQLite has one writer: waiting for one's turn here is fair, and costs less than trying again and again.
        self._turn: Any = threading.Lock() if self.kind == "sqlite" else nullcontext()
        if self.kind == "sqlite":
            event.listen(self.engine, "connect", _prepare_sqlite)
            event.listen(self.engine, "begin", _begin_sqlite)

    @contextmanager
    def reading(self) -> Iterator[Session]:
        """A transaction that only reads."""
        with Session(self.engine, expire_on_commit=False) as session, session.begin():
            yield session

    @contextmanager
    def writing(self) -> Iterator[Session]:
        """A transaction; what it did is on disk when the block ends, or not done at all when it raises."""
        with self._turn, Session(self.engine, expire_on_commit=False) as session, session.begin():
            session.connection(execution_options={WRITES: True})
            yield session

    def upgrade(self) -> None:
        """Bring the tables up to date; makes them where there are none.

        Raises:
            DatabaseError: the database does not answer, or was written by a newer version of this project.
        """
        config = Config()
        config.set_main_option("script_location", str(MIGRATIONS))
        try:
            with self.engine.begin() as connection:
                known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
                if (found := _revision(connection)) not in (None, *known):
                    raise DatabaseError(
                        f"{self.name} is of a newer version ({found}): start that version, or restore a backup"
                    )
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except OperationalError as error:
            raise DatabaseError(f"{self.name} does not answer: {str(error.orig).splitlines()[0]}") from None

    def check(self) -> None:
        """Raises where the database does not answer."""
        with self.engine.connect() as connection:
            connection.execute(text("SELECT 1"))

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def _revision(connection: Connection) -> str | None:
    if "alembic_version" not in inspect(connection).get_table_names():
        return None
    found: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return found


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, not where Python's driver guesses
    cursor = connection.cursor()
    for setting in ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
