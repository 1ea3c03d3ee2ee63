"""`Together`: short writes that wait at the same time are one transaction, so that the disk is waited for once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from serve.database.connection import Database

AT_ONCE = 256
"""Works in one transaction."""

Work = Callable[[Session], Any]
"""Something to do inside a transaction, of which it may be a part."""


@dataclass(frozen=True, slots=True)
class _Failed:
    error: Exception


class Together:
    """Writes of one event loop."""

    def __init__(self, database: Database) -> None:
        """Nothing waits."""
        self._database = database
        self._waiting: list[tuple[Work, asyncio.Future[Any]]] = []
        self._writing: asyncio.Task[None] | None = None

    async def write(self, work: Work) -> Any:
        """Do some work; what it returned, once it is on disk.

        Raises:
            Exception: what the work raised; nothing of it was done then, and others' work is not touched.
        """
        ended = asyncio.get_running_loop().create_future()
        self._waiting.append((work, ended))
        if self._writing is None:
            self._writing = asyncio.create_task(self._write())
        return await ended

    async def _write(self) -> None:
        """Write what waits until nothing does; what comes while the disk works is the next transaction."""
        batch = list[tuple[Work, asyncio.Future[Any]]]()
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:AT_ONCE], self._waiting[AT_ONCE:]
                outcomes = await asyncio.to_thread(self._written, [work for work, _ in batch])
                for (_, ended), outcome in zip(batch, outcomes, strict=True):
                    if ended.done():  # who waited has gone
                        continue
                    if isinstance(outcome, _Failed):
                        ended.set_exception(outcome.error)
                    else:
                        ended.set_result(outcome)
        finally:
            self._writing = None
            for _, ended in (*batch, *self._waiting):  # only where this task was ended
                ended.cancel()

    def _written(self, works: Sequence[Work]) -> list[Any]:
        try:
            with self._database.writing() as session:
                return [self._done(session, work) for work in works]
        except Exception as error:  # of the transaction: handed to all who asked for a part of it
            return [_Failed(error)] * len(works)

    @staticmethod
    def _done(session: Session, work: Work) -> Any:
        """What a work gave; one that raises is undone alone."""
        try:
            with session.begin_nested():
                return work(session)
        except Exception as error:  # handed to who asked for it
            return _Failed(error)
