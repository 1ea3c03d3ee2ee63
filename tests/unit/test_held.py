"""A member that is up again and waits for others (`Supervisor.may_return`): it is not given up, and not for ever."""

from __future__ import annotations

import asyncio

import pytest

from actors.supervision.care import Care
from actors.supervision.hosting import in_driver
from actors.supervision.supervisor import Supervised, Supervisor
from failures import ActorLost

TIMEOUT_S = 0.05


class Worker:
    """Starts, and works."""

    def start(self) -> None:
        return None


async def pool_of_one(restarts: int) -> Supervisor:
    care = Care(start_timeout_s=5.0, restarts=restarts, budget="restarts", backoff_s=0.0)
    pool = Supervisor("worker", 1, lambda index: [in_driver(Worker, {})], care)
    await pool.start()

    async def ready(member: Supervised) -> None:
        return None

    pool.on_restart = ready
    return pool


async def test_one_that_is_held_back_is_waited_for_longer_than_one_that_is_not() -> None:
    pool, release = await pool_of_one(restarts=1), asyncio.Event()
    pool.may_return = release.wait
    pool.members[0].lose(pool.members[0].generation, RuntimeError("gone"))
    waiting = asyncio.create_task(pool.choose(TIMEOUT_S))
    await asyncio.sleep(4 * TIMEOUT_S)
    assert not waiting.done()
    release.set()
    assert await asyncio.wait_for(waiting, 5.0) is pool.members[0]
    assert not pool.members[0].held
    await pool.close()


async def test_where_what_it_waits_for_fails_it_is_held_back_no_more() -> None:
    pool = await pool_of_one(restarts=1)

    async def never() -> None:
        raise RuntimeError("what it waited for is gone")

    pool.may_return = never
    pool.members[0].lose(pool.members[0].generation, RuntimeError("gone"))
    with pytest.raises(ActorLost, match="what it waited for is gone"):
        await asyncio.wait_for(pool.choose(TIMEOUT_S), 5.0)
    assert not pool.members[0].held
    await pool.close()
