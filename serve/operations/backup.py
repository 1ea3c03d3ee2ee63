"""Backup and restore: all rows as they were at one moment, in an SQLite file, and the folders that they name.

The same for SQLite and PostgreSQL, so a service can also be moved from one to the other. Files never change once a row
names them; one that is collected while it is copied belongs to a row that is gone too, and is left out on both sides.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, func, insert, select, text
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import Base, Lease, Model, StoredFile, Weights

ROWS_FILE = "service.db"
AT_ONCE = 500


class BackupError(RuntimeError):
    """A backup that cannot be written or read; the message names the folder and what to do."""


def back_up(database: Database, root: Path, target: Path) -> tuple[int, int]:
    """Write everything that is promised to a new folder; rows and files.

    Raises:
        BackupError: the folder exists.
    """
    if target.exists():
        raise BackupError(f"{target} exists: name a folder that does not")
    target.mkdir(parents=True)
    copy = Database(f"sqlite:///{target / ROWS_FILE}")
    copy.upgrade()
    with database.engine.connect() as source:
        if database.kind == "postgresql":
            source.execution_options(isolation_level="REPEATABLE READ")
        with source.begin(), copy.engine.begin() as sink:
            rows = _copied(source, sink)
    files = 0
    with copy.writing() as session:
        for folder, forget in _folders(session):
            try:
                files += _copy_folder(root, folder, target)
            except FileNotFoundError:
                forget()
    copy.close()
    return rows, files


def restore(backup: Path, database: Database, root: Path) -> tuple[int, int]:
    """Read a backup into an empty database, and its files below `root`.

    Raises:
        BackupError: the folder holds no backup, or the database is not empty.
    """
    if not (backup / ROWS_FILE).is_file():
        raise BackupError(f"{backup} holds no backup (no {ROWS_FILE})")
    with database.reading() as session:
        for table in Base.metadata.sorted_tables:
            if table.name != Lease.__tablename__ and session.scalar(select(func.count()).select_from(table)):
                raise BackupError(f"{database.name} is not empty ({table.name}): restore into a new one")
    copy = Database(f"sqlite:///{backup / ROWS_FILE}")
    copy.upgrade()
    with copy.engine.begin() as source, database.engine.begin() as sink:
        rows = _copied(source, sink)
        if database.kind == "postgresql":
            _reset_numbers(sink)
    files = 0
    with database.writing() as session:
        for model in session.scalars(select(Model).where(Model.snapshot_folder.is_not(None))):
            model.snapshot_folder, count = _placed(backup, model.snapshot_folder or "", root)
            files += count
        for row in session.scalars(select(Weights)):
            row.folder, count = _placed(backup, row.folder, root)
            files += count
        for file in session.scalars(select(StoredFile)):
            file.folder, count = _placed(backup, file.folder, root)
            files += count
    copy.close()
    return rows, files


def _copied(source: Connection, sink: Connection) -> int:
    count = 0
    for table in Base.metadata.sorted_tables:
        if table.name == Lease.__tablename__:  # a right to serve is nobody's after a restore
            continue
        found = source.execution_options(yield_per=AT_ONCE).execute(select(table))
        for part in found.mappings().partitions(AT_ONCE):
            sink.execute(insert(table), [dict(row) for row in part])
            count += len(part)
    return count


def _reset_numbers(sink: Connection) -> None:
    for table in Base.metadata.sorted_tables:
        if "number" in table.columns:
            sink.execute(text(
                f"SELECT setval(pg_get_serial_sequence('{table.name}', 'number'), "
                f"COALESCE((SELECT MAX(number) FROM {table.name}), 0) + 1, false)"
            ))  # fmt: skip


def _folders(session: Session) -> list[tuple[str, Callable[[], None]]]:
    found: list[tuple[str, Callable[[], None]]] = []
    for row in session.scalars(select(Weights)):
        found.append((row.folder, partial(session.delete, row)))
    for file in session.scalars(select(StoredFile)):
        found.append((file.folder, partial(session.delete, file)))
    for model in session.scalars(select(Model).where(Model.snapshot_folder.is_not(None))):
        found.append((model.snapshot_folder or "", lambda: None))
    return found


def _copy_folder(root: Path, folder: str, target: Path) -> int:
    shutil.copytree(folder, target / _below(folder))
    return len(list(Path(folder).iterdir()))


def _placed(backup: Path, folder: str, root: Path) -> tuple[str, int]:
    source, place = backup / _below(folder), root / _below(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, place, dirs_exist_ok=True)
    return str(place), len(list(place.iterdir()))


def _below(folder: str) -> Path:
    """Where a folder of weights or of a snapshot lies below a service's folder."""
    parts = Path(folder).parts
    start = max(i for i, part in enumerate(parts) if part in ("weights", "snapshots", "files"))
    return Path(*parts[start:])
