"""Actors of this process answer, stream, fail and die as those of Ray's do, through the same pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from actors.supervision.care import Care, State
from actors.supervision.hosting import LocalActor, end_actor, in_driver
from actors.supervision.supervisor import Supervisor
from actors.supervision.waiting import stream, within
from data.errors import DataError
from failures import ActorLost


class Echo:
    def __init__(self, name: str = "echo") -> None:
        self.name, self.ended = name, False

    def say(self, text: str) -> str:
        return text

    async def later(self, text: str) -> str:
        await asyncio.sleep(0)
        return text

    async def never(self) -> None:
        await asyncio.Event().wait()

    def refuse(self) -> None:
        raise DataError("no")

    async def count(self, to: int) -> AsyncIterator[int]:
        for number in range(to):
            yield number
        if to == 3:
            await asyncio.Event().wait()

    async def start(self) -> None:
        return None

    def died(self) -> None:
        self.ended = True


def actor() -> Any:
    return in_driver(Echo, {"num_cpus": 1})


async def test_plain_methods_and_coroutines_are_called_alike() -> None:
    assert await actor().say.remote("a") == "a"
    assert await actor().later.options(concurrency_group="x").remote("b") == "b"
    assert await actor().__ray_ready__.remote() is True
    assert await actor().__ray_call__.remote(lambda target: target.name) == "echo"


async def test_what_a_method_raises_arrives_as_itself() -> None:
    with pytest.raises(DataError, match="no"):
        await within(5.0, "echo", actor().refuse.remote())


async def test_a_stream_yields_its_items_and_ends() -> None:
    items = actor().count.options(num_returns="streaming").remote(2)
    assert [one async for one in stream(5.0, "echo", items)] == [0, 1]


async def test_what_is_asked_of_an_actor_that_dies_is_lost_and_so_is_what_comes_after() -> None:
    one = actor()
    waiting = asyncio.ensure_future(within(5.0, "echo", one.never.remote()))
    reading = stream(5.0, "echo", one.count.remote(3))
    assert [await anext(reading) for _ in range(3)] == [0, 1, 2]
    end_actor(one)
    with pytest.raises(ActorLost, match="echo: the actor died"):
        await waiting
    with pytest.raises(ActorLost, match="the actor died"):
        await anext(reading)
    with pytest.raises(ActorLost, match="the actor died"):
        await within(5.0, "echo", one.say.remote("a"))
    assert one._target.ended


async def test_a_supervisor_starts_a_local_actor_again_when_it_dies() -> None:
    made = list[LocalActor]()

    def make(index: int) -> list[Any]:
        made.append(LocalActor(Echo(f"echo {len(made)}")))
        return [made[-1]]

    pool = Supervisor("echo", 1, make, Care(start_timeout_s=5.0, restarts=1, budget="tests"))
    await pool.start()
    made[0].die("a test")
    with pytest.raises(ActorLost):
        await (await pool.choose(5.0)).call(5.0, "say", "a")
    again = await pool.choose(5.0)
    assert (again.state, await again.call(5.0, "say", "b")) == (State.HEALTHY, "b")
    assert (len(made), pool.counts.lost, pool.counts.restarted) == (2, 1, 1)
    await pool.close()
