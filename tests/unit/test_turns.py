"""Engines that lie beside learner ranks: whose turn it is, and that nobody takes another's memory."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from actors.rollout.pool import EnginePool
from actors.turns import Turns
from failures import ActorLost


class Member:
    """An engine that notes what it is asked."""

    def __init__(self, index: int, notes: list[str], lost: bool = False) -> None:
        self.index, self.load, self._notes, self._lost = index, 0, notes, lost

    async def call(self, timeout_s: float, method: str) -> None:
        self._notes.append(f"engine {self.index}: {method}")
        if self._lost:
            raise ActorLost("it is gone")


class Engines:
    """A supervisor of such engines."""

    def __init__(self, members: list[Member]) -> None:
        self.healthy = self.members = members


class Learners:
    """Ranks that note what they are asked."""

    def __init__(self, notes: list[str]) -> None:
        self._notes = notes

    async def all(self, method: str) -> None:
        self._notes.append(f"learner: {method}")


def started(notes: list[str], guests: int, lost: bool = False) -> tuple[Turns, EnginePool]:
    members: Any = Engines([Member(index, notes, lost) for index in range(2)])
    pool = EnginePool(members, timeout_s=5.0, dispatches=1, guests=guests)

    async def learners() -> Any:
        notes.append("learner: start")
        return Learners(notes)

    return asyncio.run(Turns.start(pool, learners)), pool


def test_the_learner_loads_while_the_engines_beside_it_sleep() -> None:
    notes: list[str] = []
    started(notes, guests=1)
    assert notes == ["engine 0: sleep", "learner: start", "learner: offload", "engine 0: wake"]


def test_engines_with_devices_of_their_own_are_never_disturbed() -> None:
    notes: list[str] = []
    turns, _ = started(notes, guests=0)

    async def learn() -> None:
        async with turns.learning():
            notes.append("an update")

    asyncio.run(learn())
    assert notes == ["learner: start", "an update"]
    assert not turns.shared


def test_a_turn_within_a_turn_hands_nothing_over() -> None:
    notes: list[str] = []
    turns, _ = started(notes, guests=2)
    notes.clear()

    async def learn() -> None:
        async with turns.learning(), turns.learning():
            notes.append("an update")

    asyncio.run(learn())
    slept, woken = ["engine 0: sleep", "engine 1: sleep"], ["engine 0: wake", "engine 1: wake"]
    assert notes == [*slept, "learner: reload", "an update", "learner: offload", *woken]


def test_after_a_lost_learner_no_engine_wakes_before_the_new_one_is_through() -> None:
    notes: list[str] = []
    turns, _ = started(notes, guests=1)
    notes.clear()

    async def learn() -> None:
        with pytest.raises(RuntimeError):
            async with turns.learning():
                raise RuntimeError("a rank is gone")
        assert "engine 0: wake" not in notes
        async with turns.learning(anew=True):
            notes.append("new ranks")

    asyncio.run(learn())
    assert notes[2:] == ["engine 0: sleep", "new ranks", "learner: offload", "engine 0: wake"]


def test_an_engine_that_is_lost_asleep_holds_nothing_up() -> None:
    notes: list[str] = []
    turns, _ = started(notes, guests=1, lost=True)

    async def learn() -> None:
        async with turns.learning():
            notes.append("an update")

    asyncio.run(learn())
    assert "an update" in notes


def test_only_engines_that_are_awake_are_handed_requests() -> None:
    notes: list[str] = []
    turns, pool = started(notes, guests=1)

    async def learn() -> list[bool]:
        async with turns.learning():
            return [pool._takes_work(member) for member in pool.engines.healthy]

    assert asyncio.run(learn()) == [False, True]
    assert all(pool._takes_work(member) for member in pool.engines.healthy)
