"""Small actors that do as they are asked, and pools of them, for the tests of what looks after actors."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import ray

from actors.supervision.care import Care
from actors.supervision.supervisor import Supervised, Supervisor
from failures import ActorLost

LONG_S, SHORT_S = 600.0, 0.5
"""A wait that only a fault would use up, and one for what never comes."""
MakePool = Callable[..., Awaitable[Supervisor]]


class Worker:
    """Does as it is asked; a file in its folder decides whether it starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        if (self.folder / "broken").exists():
            raise OSError("the disk is gone")

    def echo(self, words: list[str]) -> list[str]:
        return [word.upper() for word in words]

    def pid(self) -> int:
        return os.getpid()

    def hold(self) -> None:
        """Say that the call is under way, and never return."""
        (self.folder / "held").touch()
        time.sleep(3600)

    def fail(self) -> None:
        raise ZeroDivisionError("nobody foresaw this")

    def ill(self) -> None:
        if (self.folder / "ill").exists():
            raise OSError("not well")

    def stop(self) -> None:
        (self.folder / "stopped").touch()


@pytest_asyncio.fixture(loop_scope="module")
async def make_pool(tmp_path: Path) -> AsyncIterator[MakePool]:
    pools: list[Supervisor] = []

    async def start(size: int = 1, *, restarts: int = 1, on_restart: Any = None, **care: Any) -> Supervisor:
        def make(index: int) -> list[Any]:
            return [ray.remote(Worker).options(num_cpus=0).remote(tmp_path)]

        chosen = Care(start_timeout_s=LONG_S, restarts=restarts, budget="tests.restarts", backoff_s=0.01, **care)
        pools.append(Supervisor("worker", size, make, chosen, on_restart=on_restart))
        await pools[-1].start()
        return pools[-1]

    yield start
    await asyncio.gather(*(pool.close() for pool in pools))


async def process(member: Supervised) -> psutil.Process:
    return psutil.Process(await member.call(LONG_S, "pid"))


async def lose(member: Supervised) -> None:
    """Kill it, and let a call find that out."""
    (await process(member)).kill()
    with pytest.raises(ActorLost):
        await member.call(LONG_S, "pid")


async def until(what: Callable[[], Any]) -> None:
    async with asyncio.timeout(LONG_S):
        while not what():
            await asyncio.sleep(0.01)


async def is_whole(pool: Supervisor) -> None:
    """Every member that is called answers."""
    await until(lambda: len(pool.healthy) == len(pool.members))
    assert [await member.call(LONG_S, "echo", ["a"]) for member in pool.members] == [["A"]] * len(pool.members)
