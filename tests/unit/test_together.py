"""Writes that wait together: one transaction, each with its own result, none at another's expense."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import event, func, select
from sqlalchemy.orm import Session

from serve.database.connection import Database
from serve.database.tables import Image
from serve.database.together import Together


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(f"sqlite:///{tmp_path}/service.db")
    made.upgrade()
    yield made
    made.close()


def adds(name: str, wait_s: float = 0.0) -> Callable[[Session], str]:
    def work(session: Session) -> str:
        time.sleep(wait_s)
        session.add(Image(digest=name, data=b"", width=1, height=1, used_at=0.0))
        session.flush()
        return name

    return work


def fails(session: Session) -> None:
    adds("half done")(session)
    raise LookupError("not there")


def kept(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Image)) or 0


async def test_what_comes_while_the_disk_works_is_one_transaction(database: Database) -> None:
    commits, together = list[object](), Together(database)
    event.listen(database.engine, "commit", commits.append)
    first = asyncio.create_task(together.write(adds("first", wait_s=0.3)))
    await asyncio.sleep(0.1)
    names = [str(number) for number in range(20)]
    assert await asyncio.gather(*(together.write(adds(name)) for name in names)) == names
    assert await first == "first"
    assert (len(commits), kept(database)) == (2, 21)


async def test_work_that_raises_is_not_done_and_the_others_is(database: Database) -> None:
    together = Together(database)
    works = [adds("one"), fails, adds("two")]
    outcomes = await asyncio.gather(*map(together.write, works), return_exceptions=True)
    assert (outcomes[0], outcomes[2]) == ("one", "two")
    assert isinstance(outcomes[1], LookupError)
    assert kept(database) == 2


async def test_who_stops_waiting_does_not_stop_the_others(database: Database) -> None:
    together = Together(database)
    gone, stays = (asyncio.create_task(together.write(adds(name, wait_s=0.2))) for name in ("gone", "stays"))
    await asyncio.sleep(0.1)
    gone.cancel()
    assert await stays == "stays"
    assert await together.write(adds("later")) == "later"
    assert kept(database) == 3
