"""Members beyond a pool's size: they join when there is room, leave without ending anything, and may come again."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any

import pytest

from actors.supervision.care import Care, State
from actors.supervision.hosting import LocalActor
from actors.supervision.stacks import Place
from actors.supervision.supervisor import FAILED_JOINS, Supervised, Supervisor
from failures import ActorLost


class Worker:
    """Starts, and works."""

    def start(self) -> None:
        return None


class Placed(LocalActor):
    """An actor that has its place on a node once there is room."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(Worker())
        self.cluster = cluster

    async def _apply(self, function: Any, *arguments: Any) -> Place:
        await self.cluster.room.wait()
        if not self.cluster.node:
            raise ActorLost("it could not be made")
        return Place(self.cluster.node, 1)


class Cluster:
    """A node that may have room for one actor more, and the pool on it."""

    def __init__(self) -> None:
        self.node, self.room = "first", asyncio.Event()
        self.seen = defaultdict[int, list[State]](list)

    async def start(self, restarts: int = 1) -> Supervisor:
        care = Care(start_timeout_s=5.0, restarts=restarts, budget="restarts", backoff_s=0.0)
        self.pool = Supervisor("worker", 1, lambda index: [Placed(self)], care)
        self.room.set()
        await self.pool.start()
        self.room.clear()

        async def ready(member: Supervised) -> None:
            self.seen[member.index].append(member.state)

        self.pool.on_restart = ready
        return self.pool

    async def until(self, *states: State) -> None:
        async with asyncio.timeout(5.0):
            while tuple(member.state for member in self.pool.members) != states:
                await asyncio.sleep(0)

    def lose(self, index: int) -> None:
        member = self.pool.members[index]
        member.lose(member.generation, ActorLost("its node is gone"))


async def test_one_that_is_invited_takes_work_once_there_is_room_and_it_is_what_it_must_be() -> None:
    cluster = Cluster()
    pool = await cluster.start()
    pool.invite()
    await cluster.until(State.HEALTHY, State.WAITING)
    pool.members[0].load = 5
    assert (await pool.choose(1.0)).index == 0
    cluster.room.set()
    await cluster.until(State.HEALTHY, State.HEALTHY)
    assert (await pool.choose(1.0)).index == 1
    assert cluster.seen == {1: [State.STALE]}
    assert (pool.counts.joined, pool.counts.restarted, pool.counts.lost) == (1, 0, 0)
    await pool.close()


async def test_one_that_leaves_waits_for_another_place_however_often() -> None:
    cluster = Cluster()
    pool = await cluster.start()
    pool.invite()
    for node in ("first", "second", "third", "fourth"):
        cluster.node = node
        cluster.room.set()
        await cluster.until(State.HEALTHY, State.HEALTHY)
        cluster.room.clear()
        cluster.lose(1)
        await cluster.until(State.HEALTHY, State.WAITING)
    assert (pool.counts.joined, pool.counts.lost) == (4, 4)
    await pool.close()


async def test_on_one_node_it_is_started_again_as_often_as_the_others() -> None:
    cluster = Cluster()
    pool = await cluster.start()
    cluster.room.set()
    pool.invite()
    for _ in range(2):  # its first life there, and one restart
        await cluster.until(State.HEALTHY, State.HEALTHY)
        cluster.lose(1)
    await cluster.until(State.HEALTHY, State.GIVEN_UP)
    assert not pool.exhausted
    await pool.close()


async def test_what_it_used_up_on_a_node_that_left_does_not_count_on_the_next() -> None:
    cluster = Cluster()
    pool = await cluster.start()
    cluster.room.set()
    pool.invite()
    await cluster.until(State.HEALTHY, State.HEALTHY)
    cluster.lose(1)
    await cluster.until(State.HEALTHY, State.HEALTHY)  # its one restart on the first node
    cluster.node = "second"
    cluster.lose(1)
    await cluster.until(State.HEALTHY, State.HEALTHY)
    assert pool.counts.joined == 3
    await pool.close()


async def test_without_restarts_it_still_joins_with_the_next_node() -> None:
    cluster = Cluster()
    pool = await cluster.start(restarts=0)
    cluster.room.set()
    pool.invite()
    await cluster.until(State.HEALTHY, State.HEALTHY)
    cluster.node = "second"
    cluster.lose(1)
    await cluster.until(State.HEALTHY, State.HEALTHY)
    cluster.lose(1)
    await cluster.until(State.HEALTHY, State.GIVEN_UP)
    await pool.close()


async def test_one_that_cannot_even_be_made_is_given_up_in_the_end() -> None:
    cluster = Cluster()
    pool = await cluster.start()
    cluster.node = ""  # where nothing can be made
    cluster.room.set()
    pool.invite()
    await cluster.until(State.HEALTHY, State.GIVEN_UP)
    assert pool.counts.lost == pool.care.restarts + FAILED_JOINS
    await pool.close()


async def test_nobody_counts_on_one_that_has_no_place_yet() -> None:
    cluster = Cluster()
    pool = await cluster.start()
    pool.invite()
    await cluster.until(State.HEALTHY, State.WAITING)
    pool.members[0]._restarts = pool.care.restarts
    cluster.lose(0)
    with pytest.raises(ActorLost, match="no worker is left"):
        await pool.choose(60.0)
    await pool.close()


async def test_one_that_waits_for_a_place_ends_with_the_pool() -> None:
    cluster = Cluster()
    pool = await cluster.start()
    pool.invite()
    await cluster.until(State.HEALTHY, State.WAITING)
    await asyncio.wait_for(pool.close(), 5.0)
    assert {member.state for member in pool.members} == {State.STOPPED}
