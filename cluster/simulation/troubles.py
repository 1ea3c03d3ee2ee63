"""What goes wrong in a simulated run, at times that dice decide: actors that die, and nodes that are taken away."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from actors.crew import Crew
from actors.scoring.judge_engines import JudgeEngines
from actors.supervision.care import State
from actors.supervision.hosting import LocalActor
from actors.supervision.waiting import now
from cluster.simulation.world import World


@dataclass(frozen=True, slots=True)
class _Victim:
    """An actor, its role and its index there."""

    role: str
    index: int
    actor: LocalActor


class TroubleMaker:
    """Ends actors of a crew."""

    def __init__(self, world: World, crew: Crew) -> None:
        """Of a crew, as often as the world's troubles say."""
        self._world, self._crew = world, crew

    async def go_on(self) -> None:
        """Until it is cancelled."""
        troubles = self._world.troubles
        await asyncio.gather(
            self._at_random(troubles.losses_per_hour, self._lose_one),
            self._at_random(troubles.spot_per_hour, self._lose_node),
        )

    async def _at_random(self, per_hour: float, happen: object) -> None:
        assert callable(happen)
        while per_hour > 0:
            await asyncio.sleep(self._world.fate.expovariate(per_hour / 3600))
            happen()

    def _lose_one(self) -> None:
        if there := self._there():
            victim = self._world.fate.choice(there)
            self._end([victim], f"{victim.role} {victim.index} died")

    def _lose_node(self) -> None:
        world, there = self._world, self._there()
        nodes = sorted({world.node_of(one.role, one.index) for one in there})
        if not nodes:
            return
        node = world.fate.choice(nodes)
        world.away_until[node] = now() + world.troubles.spot_back_s
        gone = [one for one in there if world.node_of(one.role, one.index) == node]
        self._end(gone, f"node {node} was taken ({len(gone)} actors)")

    def _end(self, victims: list[_Victim], why: str) -> None:
        self._world.timeline.losses.append((now(), why))
        for victim in victims:
            victim.actor.die(why)

    def _there(self) -> list[_Victim]:
        crew, judge = self._crew, self._crew.scorers.judge
        pools = {"rollout": crew.engines.engines}
        if judge is not None and isinstance(judge.backend, JudgeEngines):
            pools["judge"] = judge.backend.engines
        found = [
            _Victim(role, member.index, member.actor)
            for role, pool in pools.items()
            for member in pool.members
            if member.state is State.HEALTHY
        ]
        return found + [_Victim("learner", rank, actor) for rank, actor in enumerate(crew.learners.ranks)]
