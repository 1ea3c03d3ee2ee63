"""The rollouts of a run as rows of the database, so that lists of them can be filtered and sorted while they are many.

The run's own files stay the record: a row holds where its rollout lies, and what a list shows. Files are read once, in
the background, and again where one has changed.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import and_, delete, insert, or_, select
from sqlalchemy.orm import Session

from evaluation.run_record import SAMPLES_FOLDER
from serve.database.connection import Database
from serve.database.page_tables import IndexedFile, RunSample
from serve.operations.logs import tell

COLUMNS = ("step", "task", "value", "failure", "question", "response")
SHOWN = 200
"""Letters of a question or a response that a list shows."""
MASKED = "masked"
"""In place of a task: the rollouts without a score."""


class SampleIndex:
    """Brings the index of a run up to date, one run at a time."""

    def __init__(self, database: Database) -> None:
        """Read nothing yet."""
        self._database = database
        self._turn = threading.Lock()
        self._reading: set[str] = set()

    def refresh(self, folder: Path) -> int:
        """Begin to read what is not in the index; how many files that are."""
        waiting = self._waiting(folder)
        if waiting and folder.name not in self._reading:
            self._reading.add(folder.name)
            threading.Thread(target=self._read, args=(folder, waiting), daemon=True, name="sample-index").start()
        return len(waiting)

    def read_now(self, folder: Path) -> None:
        """Read what is not in the index, and return when it is."""
        self._read(folder, self._waiting(folder))

    def _waiting(self, folder: Path) -> list[tuple[Path, str]]:
        with self._database.reading() as session:
            rows = session.execute(select(IndexedFile.step, IndexedFile.stamp).where(IndexedFile.run == folder.name))
            known: dict[int, str] = dict(iter(rows))
        found = []
        for path in sorted((folder / SAMPLES_FOLDER).glob("step_*.parquet")):
            step = path.stem.removeprefix("step_")
            if step.isdigit() and known.get(int(step)) != (stamp := _stamp(path)):
                found.append((path, stamp))
        return found

    def _read(self, folder: Path, waiting: Sequence[tuple[Path, str]]) -> None:
        try:
            with self._turn:
                for path, stamp in waiting:
                    self._read_file(folder.name, path, stamp)
        except Exception as error:  # the next visit of the page tries again
            tell("samples could not be indexed", level=40, run=folder.name, error=repr(error)[:300])
        finally:
            self._reading.discard(folder.name)

    def _read_file(self, run: str, path: Path, stamp: str) -> None:
        step = int(path.stem.removeprefix("step_"))
        try:
            rows: list[dict[str, Any]] = pq.read_table(path, columns=list(COLUMNS)).to_pylist()
        except (OSError, pa.ArrowException) as error:
            tell("a file of samples is damaged", level=30, run=run, file=path.name, error=type(error).__name__)
            rows = []
        with self._database.writing() as session:
            session.execute(delete(RunSample).where(RunSample.run == run, RunSample.step == step))
            session.execute(delete(IndexedFile).where(IndexedFile.run == run, IndexedFile.step == step))
            session.add(IndexedFile(run=run, step=step, stamp=stamp))
            if rows:
                session.execute(insert(RunSample), [_row(run, step, place, row) for place, row in enumerate(rows)])


def worst_first(
    session: Session, run: str, task: str | None, after: tuple[float, int] | None, count: int
) -> Sequence[RunSample]:
    """Rows of a run by value, the lowest first, behind `after` (value and number); masked ones, by number, where the
    task is `MASKED`.
    """
    query = select(RunSample).where(RunSample.run == run)
    if task == MASKED:
        query = query.where(RunSample.value.is_(None)).order_by(RunSample.number)
        query = query if after is None else query.where(RunSample.number > after[1])
    else:
        query = query.where(RunSample.value.is_not(None)).order_by(RunSample.value, RunSample.number)
        query = query if task is None else query.where(RunSample.task == task)
        if after is not None:
            beyond = and_(RunSample.value == after[0], RunSample.number > after[1])
            query = query.where(RunSample.value >= after[0], or_(RunSample.value > after[0], beyond))
    return session.scalars(query.limit(count)).all()


def tasks_of_run(session: Session, run: str) -> list[str]:
    """The tasks of a run's rollouts, each found by one step in the index."""
    found: list[str] = []
    while True:
        query = select(RunSample.task).where(RunSample.run == run).order_by(RunSample.task).limit(1)
        task = session.scalar(query.where(RunSample.task > found[-1]) if found else query)
        if task is None:
            return found
        found.append(task)


def _row(run: str, step: int, place: int, row: dict[str, Any]) -> dict[str, Any]:
    return {
        "run": run,
        "step": step,
        "row": place,
        "task": row["task"],
        "value": row["value"],
        "failure": row["failure"],
        "question": row["question"][:SHOWN],
        "response": row["response"][:SHOWN],
    }


def _stamp(path: Path) -> str:
    state = path.stat()
    return f"{state.st_size}-{state.st_mtime_ns}"
